"""A live service of which a part is lost, and what became of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from broker.orders.records import Order, Segment
from service_model.outcomes import (
    AddressingChoice,
    Healing,
    Reason,
    ServiceState,
    ServiceStatus,
)
from tests.support.orders import CTX
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import Stack

C = Sp("c", (Site("s2", ("meter",)),))
D = Sp("d", (Site("s3", ("meter",)),))
LAST = Site("s5", ("firewall",))
TOP = Sp("a", (Site("s1", ("firewall",)), Either((C, D)), Site("s4", ("shaper",)), LAST), (POOL,))
"""a has three sites and buys what lies between the first two of c, or of d."""
SPEC = chain("s1.uni", "s5.uni", "firewall", "meter", "shaper", "firewall", lan=True)
FASTER = replace(SPEC, bandwidth_bps=10**7)
LINES = ("s1", "c", "d", "s4", "s5")
DEAD_S = 300.0
GRACE_S = 60.0


def order(stack: Stack, name: str = "a") -> Order:
    (found,) = (o for o in stack.broker(name).orders() if o.state is not ServiceState.TERMINATED)
    return found


def bought(stack: Stack, alias: str, name: str = "a") -> Segment:
    (found,) = (s for s in order(stack, name).segments if s.wanted and s.alias == alias)
    return found


def at(stack: Stack, name: str = "a") -> list[str]:
    """Of whom its segments are bought."""
    return [s.alias for s in order(stack, name).segments if s.wanted]


def status(stack: Stack, name: str = "a", account: str = "alice") -> ServiceStatus:
    found = stack.broker(name).status(account, "r" if account == "alice" else order(stack, name).ref)
    return found


def healing(stack: Stack) -> Healing:
    told = status(stack).healing
    assert told is not None
    return told


def calls(stack: Stack, name: str = "a", lines: tuple[str, ...] = LINES) -> dict[str, list[str]]:
    return {alias: [call for call, _, _ in stack.line(name, alias).calls if call != "status"] for alias in lines}


def more(stack: Stack, before: dict[str, list[str]], name: str = "a") -> dict[str, list[str]]:
    """What was called since."""
    now = calls(stack, name, tuple(before))
    return {alias: now[alias][len(was) :] for alias, was in before.items() if now[alias] != was}


async def fails(
    stack: Stack, name: str, alias: str, *reasons: Reason, state: ServiceState = ServiceState.FAILED
) -> str:
    ref = bought(stack, alias, name).ref
    await stack.line(name, alias).fails(ref, *reasons, state=state)
    await stack.until(lambda: order(stack, name).state is ServiceState.DEGRADED)
    return ref


async def healed(stack: Stack, version: int = 1) -> None:
    """Until it is whole again and nothing is under way."""

    def done() -> bool:
        mine = order(stack)
        quiet = mine.healing is None and mine.past is None
        return mine.state is ServiceState.ACTIVE and mine.version == version and quiet

    await stack.until(done, step=0.1)


async def ends(stack: Stack) -> None:
    ending = asyncio.create_task(stack.customer().terminate("r", CTX))
    await stack.until(ending.done, step=0.2)
    await stack.ends_empty()
    assert stack.state() is ServiceState.TERMINATED


def addresses(choice: AddressingChoice | None) -> dict[str, object]:
    """Every prefix and address, and the customer's labels."""
    assert choice is not None
    links = {
        link.link: (link.prefixes, [dict(sorted(s.addresses.items())) for s in link.stacks]) for link in choice.links
    }
    return {"labels": choice.labels, "reach": choice.reach, **links}


def joints(stack: Stack, *aliases: str) -> dict[str, dict[str, int]]:
    """The labels at the interconnects of these segments."""
    found = (bought(stack, alias) for alias in aliases)
    return {
        s.alias: {e: v for e, v in s.choice.labels.items() if e in s.crossings} for s in found if s.choice is not None
    }


async def healed_beside(stack: Stack) -> None:
    await stack.until(lambda: stack.state() is ServiceState.ACTIVE and order(stack).healed == 1, step=0.1)
