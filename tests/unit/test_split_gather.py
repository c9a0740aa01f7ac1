"""From a plan to segments and back: every choice is checked, and what a commit tells must be what is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from broker.decompose.mesh import Mesh, read_mesh
from broker.decompose.plan import Infeasible, Snapshot
from broker.decompose.search import plan
from broker.orders.addressing import CannotAddress, block_bits
from broker.orders.gather import gather, unconfirmed, violation, whole
from broker.orders.split import Split, split
from capability_registry.note import Bin, PlaceCapacity
from lower_sp_clients.vim.choosing import choose
from lower_sp_clients.vim.domain import Usage
from service_model.check import check
from service_model.constraints import PLACEMENT, Countries, Distance, Group, GroupKind, GroupScope
from service_model.outcomes import AddressingChoice, LinkChoice, ReasonCode
from service_model.spec import ServiceSpec
from tests.support.planning import chain_spec, entry, offer, point, sap, snapshot, view
from tests.support.sites import Site, Sp, chain
from tests.support.stack import Stack

SPEC = chain("s1.uni", "s2.uni", "firewall", "meter", lan=True)
TOP = Sp("a", (Site("s1", ("firewall",)), Site("s2", ("meter",))))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def divided(path: Path, block: str = "10.64.0.0/24") -> tuple[Split, dict[str, AddressingChoice]]:
    async with Stack(TOP, path) as stack:
        node = stack.nodes["a"]
        snapshot = node.catalogue.snapshot
        plans, read = plan(SPEC, snapshot, NOW), read_mesh(SPEC)
        assert isinstance(read, Mesh)
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
    bits = block_bits(SPEC)[0]
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


# --- what each segment is told of where functions may be -------------------------------------------------------------


def three() -> Snapshot:
    """Two x at `left`, a transit `mid`, a y at `right`; 10 microseconds from point to point."""
    left = [sap("uni", "BER"), sap("n", "BER", to="ix1", peer="sp-mid", decides_labels=True)]
    mid = [sap("n1", "HAM", to="ix1", peer="sp-left"), sap("n2", "HAM", to="ix2", peer="sp-right", decides_labels=True)]
    right = [sap("n", "MUC", to="ix2", peer="sp-mid"), sap("uni", "MUC")]
    way = point(1, 10, isolation=("vlan",))
    two_hosts = (PlaceCapacity(place="BER", bins=(Bin(size=4, count=2),)),)
    return snapshot(
        view(
            "left", left, [entry("uni", "BER", way), entry("n", "BER", way)], [offer("x", "BER")], capacities=two_hosts
        ),
        view("mid", mid, [entry("n1", "n2", way)]),
        view("right", right, [entry("n", "MUC", way), entry("uni", "MUC", way)], [offer("y", "MUC")]),
    )


def told(**asked: Any) -> list[ServiceSpec]:
    spec = chain_spec("left.uni", "right.uni", ["x", "x", "y"], **asked)
    snap = three()
    plans, read = plan(spec, snap, NOW), read_mesh(spec)
    assert not isinstance(plans, Infeasible), plans
    assert isinstance(read, Mesh)
    segments = [part.spec for part in split(read, plans[0], snap, (ip_network("10.64.0.0/24"),), "k").segments]
    assert [[f.id for f in s.functions] for s in segments] == [["f0", "f1"], [], ["f2"]]
    assert not any(check(s) for s in segments), "what is handed down is right in itself"
    return segments


def test_countries_and_isolation_bind_every_segment_and_so_the_transit() -> None:
    countries = Countries(denied=("FR",))
    for segment in told(countries=countries, isolation=("vlan",)):
        assert (segment.countries, segment.isolation) == (countries, ("vlan",))
        assert segment.required_features == (PLACEMENT,)


def test_only_the_segment_that_has_the_functions_is_told_of_their_hosts() -> None:
    apart = Group(id="g", kind=GroupKind.ANTI_AFFINITY, scope=GroupScope.HOST, functions=("f0", "f1", "f2"))
    left, mid, right = told(groups=(apart,))
    assert left.groups == (replace(apart, functions=("f0", "f1")),)
    assert (mid.groups, right.groups) == ((), ())
    assert [s.required_features for s in (left, mid, right)] == [(PLACEMENT,), (), ()]


def test_what_the_places_keep_is_not_handed_down() -> None:
    by_place = Group(id="p", kind=GroupKind.AFFINITY, scope=GroupScope.PLACE, functions=("f0", "f1"))
    by_supplier = Group(id="s", kind=GroupKind.AFFINITY, scope=GroupScope.SUPPLIER, functions=("f0", "f1"))
    near = Distance(id="d", function="f0", to="a", max_km=1)
    for segment in told(groups=(by_place, by_supplier), distances=(near,)):
        assert (segment.groups, segment.distances, segment.required_features) == ((), (), ())
        assert all(len(f.places) == 1 for f in segment.functions)


def test_a_distance_by_delay_is_shared_by_the_segments_between_its_points() -> None:
    def distance(id: str, function: str, to: str, most: int) -> Distance:
        return Distance(id=id, function=function, to=to, max_delay_us=most)

    within, across = distance("within", "f1", "f0", 50), distance("across", "f2", "f1", 60)
    left, mid, right = told(distances=(within, across, distance("end", "f2", "b", 15), distance("all", "f2", "a", 80)))
    assert left.distances == (distance("within", "f0", "f1", 50), distance("across", "f1", "x1", 20))
    assert (left.max_delay_us, mid.distances) == (40, ())
    assert mid.max_delay_us == 20, "from side to side: its part of both that go through it, 20 of 60 and of 80"
    assert right.distances == (
        distance("across", "f2", "x2", 20),
        distance("end", "f2", "b", 15),
        distance("all", "f2", "x2", 20),
    )
    assert right.max_delay_us is None


def test_the_service_s_own_end_is_a_point_of_its_segment() -> None:
    left, mid, right = told(distances=(Distance(id="d", function="f0", to="a", max_delay_us=30),))
    assert left.distances == (Distance(id="d", function="f0", to="a", max_delay_us=30),)
    assert (mid.max_delay_us, right.max_delay_us, mid.required_features) == (None, None, ())
