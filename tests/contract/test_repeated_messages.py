"""Every message that comes twice has one effect and one answer (`remaining` apart), at every supplier of the contract: one after
the other, at once, or late, when its service has gone on.

Which messages there are is read from the service's definition: a new call that changes something fails here until it is tried.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import select

from broker.storage import tables
from service_model.outcomes import Committed, ReasonCode, Refused, Reserved, ServiceState
from spbroker.v1 import broker_service_pb2 as pb
from tests.contract.test_suppliers import CTX, Bench, bare, bench, code

__all__ = ["bench"]

READING = {
    "IssueToken", "WatchCapabilityNotes", "GetCapabilityNote", "QualifyService", "QuoteService", "GetService", "ListServices",
    "WatchServices",
}  # fmt: skip
"""What changes nothing of any service."""


@dataclass(frozen=True)
class Message:
    """`before` is sent once; `state` is what it comes to."""

    rpc: str
    before: tuple[str, ...]
    state: ServiceState


MESSAGES = {
    "reserve": Message("ReserveService", (), ServiceState.RESERVED),
    "refused": Message("ReserveService", (), ServiceState.REFUSED),
    "extend": Message("ExtendReservation", ("reserve",), ServiceState.RESERVED),
    "commit": Message("CommitService", ("reserve",), ServiceState.ACTIVE),
    "heal": Message("HealService", ("reserve", "commit"), ServiceState.ACTIVE),
    "release": Message("ReleaseReservation", ("reserve",), ServiceState.EXPIRED),
    "terminate": Message("TerminateService", ("reserve", "commit"), ServiceState.TERMINATED),
}
LIFE = ("reserve", "extend", "commit", "release", "terminate")
"""A release of what is live changes nothing."""


def sender(bench: Bench) -> Callable[[str], Awaitable[Any]]:
    choices = []

    async def send(name: str) -> Any:
        match name:
            case "reserve":
                answer = await bench.reserve()
                if isinstance(answer, Reserved):
                    choices.append(answer.choice)
                return answer
            case "refused":
                return await bench.reserve("r", 1, bench.impossible())
            case "extend":
                return await bench.supplier.extend("r", 1, 250, CTX)
            case "commit":
                return await bench.supplier.commit("r", 1, choices[0], CTX)
            case "heal":
                return await bench.supplier.heal("r", CTX)
            case "release":
                return await bench.supplier.release("r", 1, CTX)
            case _:
                return await bench.supplier.terminate("r", CTX)

    return send


async def effects(bench: Bench) -> object:
    """All that is there of any service, and all that was charged, when all that can be done now is; without when."""
    for _ in range(10):
        await bench.stack.turn()
    statuses = [replace(s, remaining_s=0.0) async for s in bench.supplier.services(CTX)]
    states = [(s.ref, s.version, s.state, s.choice, s.binding, s.price) for s in statuses]
    holds = [(h.ref, h.version, h.state, h.choice, h.bindings) for vim in bench.stack.vims() for h in vim.holds()]
    items = [item for vim in bench.stack.vims() for item in await vim.inventory()]
    c, charged = tables.charges.c, Counter[tuple[str, ...]]()
    for name, node in bench.stack.nodes.items():
        rows = await node.engine.read(lambda db: db.execute(select(c.side, c.service, c.segment, c.kind)).all())
        charged.update((name, *row) for row in rows)
    assert set(charged.values()) <= {1}
    allocations = [[a.value for a in node.broker.allocations()] for node in bench.stack.nodes.values()]
    return states, holds, items, charged, allocations


def test_every_call_that_changes_something_is_tried() -> None:
    (service,) = (s for s in pb.DESCRIPTOR.services_by_name.values() if s.name == "BrokerService")
    assert {m.rpc for m in MESSAGES.values()} == {method.name for method in service.methods} - READING


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_message_that_comes_again_has_the_same_answer_and_no_other_effect(bench: Bench, name: str) -> None:
    send = sender(bench)
    for before in MESSAGES[name].before:
        await send(before)
    first = bare(await send(name))
    await bench.becomes(MESSAGES[name].state)
    seen = await effects(bench)
    assert bare(await send(name)) == first
    assert await effects(bench) == seen


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_message_that_comes_twice_at_once_has_one_effect(bench: Bench, name: str) -> None:
    send = sender(bench)
    for before in MESSAGES[name].before:
        await send(before)
    one, other = await asyncio.gather(send(name), send(name))
    assert bare(one) == bare(other)
    await bench.becomes(MESSAGES[name].state)
    seen = await effects(bench)
    assert bare(await send(name)) == bare(one)
    assert await effects(bench) == seen
    assert all(len(vim.holds()) <= 1 for vim in bench.stack.vims())


async def test_a_message_that_comes_late_has_no_effect_on_what_came_after_it(bench: Bench) -> None:
    send = sender(bench)
    answers: dict[str, object] = {}
    for name in LIFE:
        answers[name] = bare(await send(name))
        for state in (
            s for n, s in (("commit", ServiceState.ACTIVE), ("terminate", ServiceState.TERMINATED)) if n == name
        ):
            await bench.becomes(state)
        seen = await effects(bench)
        for late in answers:
            again = bare(await send(late))
            if name == "terminate":
                assert again is None or code(again) in (ReasonCode.VERSION_RELEASED, ReasonCode.NOT_HELD), again  # type: ignore[arg-type]
            elif late == "extend" and name != "extend":
                assert isinstance(again, Refused)
            elif late != "extend":
                assert again == answers[late]
        assert await effects(bench) == seen
    assert answers["commit"] == Committed(ref="r", version=1)
    await bench.stack.ends_empty()
