"""From a plan to segments and back: every choice is checked, and what a commit tells must be what is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from broker.decompose.chain import Chain, read_chain
from broker.decompose.plan import Infeasible
from broker.decompose.search import plan
from broker.orders.gather import gather, unconfirmed, violation, whole
from broker.orders.split import CannotAddress, Split, block_bits, split
from lower_sp_clients.vim.choosing import choose
from lower_sp_clients.vim.domain import Usage
from service_model.outcomes import AddressingChoice, LinkChoice, ReasonCode
from service_model.spec import ServiceSpec
from tests.support.stack import Site, Sp, Stack, chain

SPEC = chain("s1.uni", "s2.uni", "firewall", "meter", lan=True)
TOP = Sp("a", (Site("s1", ("firewall",)), Site("s2", ("meter",))))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def divided(path: Path, block: str = "10.64.0.0/24") -> tuple[Split, dict[str, AddressingChoice]]:
    async with Stack(TOP, path) as stack:
        node = stack.nodes["a"]
        snapshot = node.catalogue.snapshot
        plans, read = plan(SPEC, snapshot, NOW), read_chain(SPEC)
        assert isinstance(read, Chain)
        assert not isinstance(plans, Infeasible)
        parts = split(read, plans[0], snapshot, (ip_network(block),), "k")
        answers = {p.key: choose(node.domains[p.alias], Usage(), p.spec, "k").addressing for p in parts.segments}
    return parts, answers


async def test_segments_that_keep_their_constraints_make_one_choice_that_keeps_the_whole(tmp_path: Path) -> None:
    parts, answers = await divided(tmp_path)
    assert [p.alias for p in parts.segments] == ["s1", "s2"]
    assert all(violation(p.spec, answers[p.key]) is None for p in parts.segments)
    choice = gather(SPEC, parts, answers)
    assert violation(SPEC, choice) is None
    assert set(choice.labels) == {"a", "b"}, "ends of our own making do not go up"
    assert len({label.suggested for label in parts.classes}) == 2, "data and LAN never share a label"


async def test_a_block_one_size_too_small_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    bits = block_bits(SPEC)
    await divided(tmp_path, f"10.64.0.0/{32 - bits}")
    with pytest.raises(CannotAddress) as refused:
        await divided(tmp_path, f"10.64.0.0/{33 - bits}")
    assert refused.value.reason.code is ReasonCode.PREFIX_TOO_SMALL


def same_label(choice: AddressingChoice) -> AddressingChoice:
    return replace(choice, labels={**choice.labels, "x1": choice.labels["x1.mgmt"]})


def no_label(choice: AddressingChoice) -> AddressingChoice:
    return replace(choice, labels={})


def small_mtu(choice: AddressingChoice) -> AddressingChoice:
    return replace(choice, links=tuple(replace(x, mtu=600) for x in choice.links))


def strange_hosts(choice: AddressingChoice) -> AddressingChoice:
    def moved(link: LinkChoice) -> LinkChoice:
        return replace(link, addresses=dict.fromkeys(link.addresses, ip_address("192.0.2.1")))

    return replace(choice, links=tuple(map(moved, choice.links)))


@pytest.mark.parametrize("breaks", [same_label, no_label, small_mtu, strange_hosts])
async def test_a_choice_that_breaks_any_part_of_its_constraint_is_found_out(
    tmp_path: Path, breaks: Callable[[AddressingChoice], AddressingChoice]
) -> None:
    parts, answers = await divided(tmp_path)
    segment: ServiceSpec = parts.segments[0].spec
    reason = violation(segment, breaks(answers[parts.segments[0].key]))
    assert reason is not None
    assert reason.code is ReasonCode.CONSTRAINT_VIOLATED


async def test_a_commit_confirms_and_completes_but_never_changes(tmp_path: Path) -> None:
    parts, answers = await divided(tmp_path)
    choice = gather(SPEC, parts, answers)
    assert unconfirmed(choice, AddressingChoice()) is None
    assert whole(choice, AddressingChoice()) == choice
    assert unconfirmed(choice, AddressingChoice(labels={"a": 7})) is not None
    assert unconfirmed(choice, AddressingChoice(links=(LinkChoice(link="l9"),))) is not None
