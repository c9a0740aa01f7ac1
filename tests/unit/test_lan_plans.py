"""Plans of LANs that lines do not join: sites of their own, services without a path. Against a plain enumerator."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from ipaddress import ip_address, ip_network
from itertools import chain as chained
from itertools import combinations

import pytest

from address_planner.labels import LabelSet
from broker.decompose.graph import Graph, graph_of
from broker.decompose.mesh import Mesh, read_mesh
from broker.decompose.plan import Avoid, Infeasible, Plan, Snapshot, SupplierView
from broker.decompose.search import best, plan, rejected
from broker.orders.split import split
from capability_registry.note import PointKind, SharedLimit
from service_model.check import check
from service_model.constraints import Countries
from service_model.flows import PATHS
from service_model.outcomes import Reason, ReasonCode
from service_model.spec import LAN_SITES, AddressRole, End, LinkAddressing, ReservedAddress, ServiceSpec
from tests.support.planning import (
    NOW,
    chain_spec,
    entry,
    lan,
    offer,
    point,
    random_snapshot,
    sap,
    snapshot,
    view,
)
from tests.unit.test_split_mesh import BLOCK, joints_meet, labels_are_whole, prefixes_are_apart, walked


def elan(*saps: str, **more: object) -> ServiceSpec:
    """One LAN that joins these."""
    ends = tuple(End(id=f"e{n}", sap=at) for n, at in enumerate(saps))
    return ServiceSpec(name="lan", ends=ends, links=(lan("m", *(e.id for e in ends)),), **more)  # type: ignore[arg-type]


def planned(spec: ServiceSpec, known: Snapshot, avoid: Avoid | None = None) -> tuple[Plan, ...]:
    answer = plan(spec, known, NOW, avoid)
    assert not isinstance(answer, Infeasible), answer
    return answer


def refused(spec: ServiceSpec, known: Snapshot, avoid: Avoid | None = None) -> Reason:
    answer = plan(spec, known, NOW, avoid)
    assert isinstance(answer, Infeasible), answer
    return answer.reasons[0]


def judge(spec: ServiceSpec, known: Snapshot, made: Plan) -> None:
    """What must hold of every plan: it can be split, all of each LAN is joined, and nothing goes round."""
    mesh = read_mesh(spec)
    assert isinstance(mesh, Mesh)
    assert sum(segment.price.over(spec.term_hours) for segment in made.segments) == made.cost
    parts = split(mesh, made, known, (BLOCK,), "k")
    for part in parts.segments:
        assert check(replace(part.spec, bandwidth_bps=0)) == (), part.spec
        assert isinstance(read_mesh(part.spec), Mesh)
        assert (LAN_SITES in part.spec.required_features) == part.spec.needs_sites()
    joints_meet(parts)
    labels_are_whole(mesh, parts, made)
    prefixes_are_apart(parts)
    assert all(walked(parts, path) == list(path.hops) for path in spec.paths)
    own = {end.id for end in spec.ends}
    for link in mesh.lans:
        bridges = [(part, x) for part in parts.segments for x in part.spec.links if x.id == link.id]
        ends = [p for part, x in bridges for p in x.points if ":" not in p and p not in own]
        assert sorted(p for _, x in bridges for p in x.points if ":" in p or p in own) == sorted(
            spec.link(link.id).points
        )
        together = {part.key: part.key for part, _ in bridges}
        for end in set(ends):
            x, y = (part.key for part, x in bridges if end in x.points)
            assert together[x] != together[y], "a ring"
            together = {k: together[x] if v == together[y] else v for k, v in together.items()}
        assert len(set(together.values())) == 1, "it falls apart"


# --- against every tree ----------------------------------------------------------------------------------------------------


def edges(graph: Graph, spec: ServiceSpec) -> Iterator[tuple[int, int, int]]:
    """What one LAN alone may use, by nodes, with the price."""
    bps, saps = spec.bandwidth_bps, graph.sap_count
    wide = {s.index for s in graph.saps if s.offer.bandwidth_bps >= bps and s.offer.mtu >= spec.min_mtu}
    for way in chained.from_iterable(graph.ways):
        x, y = (v if v < saps else v - saps for v in (way.source, way.target))
        if way.point.lan_alone and way.point.bandwidth_bps >= bps and way.point.mtu >= spec.min_mtu:
            yield x, y, way.once + way.hour * spec.term_hours
    for crossing in map(graph.crossing.__getitem__, range(saps)):
        if crossing is not None and crossing.labels and {crossing.source, crossing.target} <= wide:
            yield crossing.source, crossing.target, 0


def cheapest(spec: ServiceSpec, known: Snapshot) -> Decimal | None:
    """Over every set of nodes: a tree that spans it (Kruskal, 1956)."""
    graph = graph_of(known)
    ends = {graph.announced[e.sap] for e in spec.ends}
    if any(
        graph.sap_offer(s).mtu < spec.min_mtu or graph.sap_offer(s).bandwidth_bps < spec.bandwidth_bps for s in ends
    ):
        return None
    found = sorted(edges(graph, spec), key=lambda e: e[2])
    others = sorted({v for x, y, _ in found for v in (x, y)} - ends)
    least: int | None = None
    for chosen in chained.from_iterable(combinations(others, n) for n in range(len(others) + 1)):
        nodes = ends.union(chosen)
        part, cost, joins = {v: v for v in nodes}, 0, 0
        for x, y, price in found:
            if x in part and y in part and part[x] != part[y]:
                part = {v: part[x] if p == part[y] else p for v, p in part.items()}
                cost, joins = cost + price, joins + 1
        if joins == len(nodes) - 1 and (least is None or cost < least):
            least = cost
    return None if least is None else Decimal(least).scaleb(-9)


def test_a_lan_of_sites_costs_the_least_there_is() -> None:
    none = several = 0
    for seed in range(60):
        rng = random.Random(seed)
        known = random_snapshot(seed, 3, joints=1)
        spec = elan(*(f"s{n}.uni" for n in rng.sample(range(3), rng.choice([2, 3, 3]))), term_hours=1,
                    bandwidth_bps=rng.choice([0, 0, 1, 2]), min_mtu=rng.choice([1280, 1280, 9000]))  # fmt: skip
        answer, expected = plan(spec, known, NOW), cheapest(spec, known)
        if isinstance(answer, Infeasible):
            assert expected is None, seed
            assert answer.reasons[0].code is not ReasonCode.SHAPE_NOT_OFFERED
            none += 1
            continue
        assert answer[0].cost == expected, seed
        judge(spec, known, answer[0])
        several += len(answer[0].segments) > 1
    assert none > 5
    assert several > 20


def test_a_site_beside_a_path_is_joined_wherever_it_is() -> None:
    made = beyond = 0
    for seed in range(60):
        rng = random.Random(seed)
        known = random_snapshot(seed, 4, labels=8, joints=1)
        a, b, noc = rng.sample([f"s{n}.uni" for n in range(4)], 3)
        types = [rng.choice("xy") for _ in range(rng.choice([1, 2]))]
        points = [*(f"f{n}:mgmt" for n in range(len(types))), "noc"]
        spec = chain_spec(a, b, types, [lan("m", *points)], [End(id="noc", sap=noc)], term_hours=1)
        answer = plan(spec, known, NOW)
        if isinstance(answer, Infeasible):
            continue
        for one in answer:
            judge(spec, known, one)
        costs = [one.cost for one in answer]
        assert costs == sorted(costs)
        made += 1
        crossed = {s.interconnect for line in answer[0].lines.values() for s in line}
        beyond += bool(set(answer[0].interconnects) - crossed)
    assert made > 15
    assert beyond > 8, "over interconnects that no path crosses"


# --- a line of four suppliers ----------------------------------------------------------------------------------------------


def supplier(n: int, of: int = 4, **more: object) -> SupplierView:
    """Number n of a line: a place with a firewall, ways between all of it that cost 1."""
    name, place = f"s{n}", f"P{n}"
    labels = more.pop("labels", LabelSet(((1, 9),)))
    way = more.pop("way", point(1, 1))
    saps = [sap("uni", place)]
    for m in (n - 1, n + 1):
        if 0 <= m < of:
            joint = f"ix{min(n, m)}"
            saps.append(sap(f"to{m}", place, to=joint, peer=f"sp-s{m}", decides_labels=n < m, labels=labels))
    points = [*(s.id for s in saps), place]
    ways = [entry(x, y, way) for x, y in combinations(points, 2)]  # type: ignore[arg-type]
    return view(name, saps, ways, [offer("fw", place)] if n < 2 else [], **more)  # type: ignore[arg-type]


def line(**more: object) -> Snapshot:
    """`s2` (a dict): what is different about that supplier."""
    return snapshot(*(supplier(n, **more.get(f"s{n}", {})) for n in range(4)))  # type: ignore[arg-type]


def managed(*more: str, **figures: object) -> ServiceSpec:
    """From s0 through a firewall to s1, and a management LAN to a site at s3."""
    return chain_spec("s0.uni", "s1.uni", ["fw"], [lan("m", "f0:mgmt", "noc", *more)], [End(id="noc", sap="s3.uni")],
                      **figures)  # fmt: skip


def test_a_lan_pays_for_the_ways_that_no_line_takes_alone() -> None:
    best = planned(managed(), line())[0]
    path = planned(chain_spec("s0.uni", "s1.uni", ["fw"]), line())[0]
    assert best.cost - path.cost == 3, "a way in each of s1, s2 and s3"
    assert best.interconnects == ("ix0", "ix1", "ix2")
    assert [s.alias for s in best.segments if not s.functions and not s.budgets] == ["s2", "s3"]


def test_a_way_is_paid_once_whatever_goes_on_from_it() -> None:
    two = elan("s0.uni", "s3.uni", term_hours=1)
    four = elan("s0.uni", "s1.uni", "s2.uni", "s3.uni", term_hours=1)
    assert planned(four, line())[0].cost == planned(two, line())[0].cost + 2


def test_a_lan_alone_takes_the_bandwidth_of_the_service_and_beside_a_path_none() -> None:
    thin = {"s2": {"way": point(1, 1, bandwidth_bps=5)}}
    assert refused(elan("s0.uni", "s3.uni", bandwidth_bps=10), line(**thin)).code is ReasonCode.BANDWIDTH
    best = planned(managed(bandwidth_bps=10), line(**thin))[0]
    mesh = read_mesh(managed(bandwidth_bps=10))
    assert isinstance(mesh, Mesh)
    asked = {p.alias: p.spec.bandwidth_bps for p in split(mesh, best, line(**thin), (BLOCK,), "k").segments}
    assert asked == {"s0": 10, "s1": 10, "s2": 0, "s3": 0}


def test_two_lans_have_labels_of_their_own_on_each_interconnect() -> None:
    two = replace(managed(), links=(*managed().links, lan("n", "e", "f")),
                  ends=(*managed().ends, End(id="e", sap="s0.uni"), End(id="f", sap="s3.uni")))  # fmt: skip
    few = {n: {"labels": LabelSet(((1, 2),))} for n in ("s2", "s3")}
    judge(two, line(**few), planned(two, line(**few))[0])
    one = {n: {"labels": LabelSet(((1, 1),))} for n in ("s2", "s3")}
    planned(managed(), line(**one))
    why = refused(two, line(**one))
    assert (why.code, why.retryable) == (ReasonCode.LABELS_EXHAUSTED, True)
    assert why.message == "LAN 'n': interconnect 'ix1' has 1 common free labels, 2 needed"
    assert why.subject == "ix1"


REFUSALS: dict[ReasonCode, tuple[dict[str, object], dict[str, object], str]] = {
    ReasonCode.LAN_NOT_OFFERED: ({"way": point(1, 1, lan=False)}, {}, "carries no LAN"),
    ReasonCode.FEATURE_NOT_OFFERED: ({"api_features": (PATHS,)}, {}, "lacks the feature 'lan-sites'"),
    ReasonCode.COUNTRY: (
        {"way": point(1, 1, countries=("FR",))},
        {"countries": Countries(allowed=("DE",))},
        "does not stay in the countries",
    ),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_what_no_lan_can_be_laid_over_is_named(code: ReasonCode) -> None:
    s2, figures, lack = REFUSALS[code]
    answer = plan(managed(**figures), line(s2=s2), NOW)
    assert isinstance(answer, Infeasible)
    where = "between interconnect 'ix1' and interconnect 'ix2'"
    assert (answer.reasons[0].code, answer.reasons[0].message) == (code, f"LAN 'm': s2 {lack} {where}")
    assert answer.nearest[0].code is code
    assert answer.nearest[0].plan.interconnects == ("ix0", "ix1", "ix2")


def test_of_packets_that_are_too_large_customers_are_told_nothing_of_suppliers() -> None:
    why = refused(managed(min_mtu=1400), line(s2={"way": point(1, 1, mtu=1300)}))
    assert (why.code, why.subject) == (ReasonCode.MTU, "m")
    assert why.message == "LAN 'm': no ways that join it carry 1400 bytes"


def test_a_site_that_nothing_leads_to_is_no_path() -> None:
    apart = snapshot(*(supplier(n, of=2 if n < 2 else 4) for n in (0, 1, 3)))
    why = refused(managed(), apart)
    assert (why.code, why.subject) == (ReasonCode.NO_PATH, "m")
    assert why.message == "LAN 'm': no ways that carry LANs join 'f0:mgmt', 'noc'"


def test_the_price_of_a_lan_counts_against_the_most_that_is_paid() -> None:
    cost = planned(managed(term_hours=1), line())[0].cost
    assert planned(managed(term_hours=1, max_price=cost), line())[0].cost == cost
    why = refused(managed(term_hours=1, max_price=cost - 1), line())
    assert (why.code, why.message) == (ReasonCode.PRICE, f"price over 1 h: best {cost.normalize():f} > {cost - 1} EUR")


def test_the_availability_of_a_lan_counts_with_the_rest() -> None:
    frail = {"s2": {"way": point(1, 1, availability=0.9)}}
    made = planned(managed(min_availability=0.8), line(**frail))[0]
    handed = 1.0
    for segment in made.segments:
        assert segment.availability is not None
        handed *= segment.availability
    assert handed == pytest.approx(0.8)
    assert refused(managed(min_availability=0.95), line(**frail)).code is ReasonCode.AVAILABILITY


def test_a_route_that_costs_more_is_taken_where_its_lan_costs_less() -> None:
    """A firewall at s0 is cheaper, but what carries a LAN from there is dear."""
    labels = LabelSet(((1, 9),))
    saps = [sap("uni", "P0"), sap("to1", "P0", to="ix0", peer="sp-s1", decides_labels=True, labels=labels)]
    dear = entry("P0", "to1", point(1, 1, lan=False), point(10, 5, kind=PointKind.FASTEST))
    s0 = view(
        "s0",
        saps,
        [entry("uni", "P0", point(1, 1)), entry("uni", "to1", point(1, 1, lan=False)), dear],
        [offer("fw", "P0")],
    )
    s1 = supplier(1)
    s1 = replace(s1, note=replace(s1.note, functions=(offer("fw", "P1", cost=4),)))
    known = snapshot(s0, s1, supplier(2), supplier(3))
    assert planned(chain_spec("s0.uni", "s1.uni", ["fw"]), known)[0].segments[0].functions == ("f0",)
    best = planned(managed(), known)[0]
    assert best.segments[0].functions == ()
    judge(managed(), known, best)


def test_what_suppliers_refused_a_lan_is_not_planned_again() -> None:
    way = Avoid(ways=frozenset({("s2", "to1", "to3")}))
    free, round_ = planned(managed(), line())[0], planned(managed(), line(), way)[0]
    assert round_.cost == free.cost + 1, "by its place"
    assert refused(managed(), line(), Avoid(interconnects=frozenset({"ix2"}))).code is ReasonCode.NO_PATH


def test_what_two_ways_draw_on_together_is_not_overdrawn() -> None:
    """The cheap ways of s1 to both neighbours share a limit; its dear way between them does not."""
    s1 = supplier(1)
    matrix = tuple(
        replace(e, points=(point(8, 1, bandwidth_bps=10),)) if (e.a, e.b) == ("to0", "to2") else e
        for e in s1.note.matrix
        if "uni" not in (e.a, e.b)
    )
    limit = SharedLimit(id="l", limit_bps=15, coefficients={"to0|P1": 1.0, "to2|P1": 1.0})
    narrow = replace(s1, note=replace(s1.note, matrix=matrix, shared=(limit,)))
    spec = elan("s0.uni", "s3.uni", term_hours=1)
    known = snapshot(supplier(0), narrow, supplier(2), supplier(3))
    wide, tight = planned(replace(spec, bandwidth_bps=5), known)[0], planned(replace(spec, bandwidth_bps=10), known)[0]
    assert [int(wide.cost), int(tight.cost)] == [5, 11]
    both = replace(narrow, note=replace(narrow.note, matrix=tuple(e for e in matrix if (e.a, e.b) != ("to0", "to2"))))
    short = snapshot(supplier(0), both, supplier(2), supplier(3))
    why = refused(replace(spec, bandwidth_bps=10), short)
    assert (why.code, why.subject) == (ReasonCode.BANDWIDTH, "m")
    assert why.message == "LAN 'm': no ways that join it have 10 bit/s free"


def test_better_plans_that_are_rejected_have_their_lans() -> None:
    spec = managed(term_hours=1, max_delay_us=4)
    s0 = supplier(0)
    slow = tuple(
        replace(e, points=(point(1, 9), point(2, 1, kind=PointKind.FASTEST))) if "to1" in (e.a, e.b) else e
        for e in s0.note.matrix
    )
    known = snapshot(replace(s0, note=replace(s0.note, matrix=slow)), *line().suppliers[1:])
    (found,) = rejected(spec, known, NOW)
    assert found.code is ReasonCode.DELAY
    judge(spec, known, found.plan)
    made = best(spec, known, NOW)
    assert made is not None
    assert found.plan.cost < made.cost


def test_the_addresses_of_a_lan_are_unique_over_its_segments_and_keep_off_its_sites() -> None:
    prefix, noc = ip_network("10.9.0.0/29"), ip_address("10.9.0.1")
    given = LinkAddressing(prefix=prefix, reserved=(ReservedAddress(role=AddressRole.PEER, address=noc, point="noc"),))
    spec = managed()
    spec = replace(spec, links=tuple(replace(x, addressing=given) if x.id == "m" else x for x in spec.links))
    mesh = read_mesh(spec)
    assert isinstance(mesh, Mesh)
    parts = split(mesh, planned(spec, line())[0], line(), (BLOCK,), "k")
    assert parts.links["m"].addresses == {"noc": noc, "f0:mgmt": ip_address("10.9.0.2")}
    told = {part.alias: x.addressing for part in parts.segments for x in part.spec.links if x.id == "m"}
    assert [told[n] for n in ("s2", "s3")] == [LinkAddressing(), LinkAddressing()], "nothing of them is addressed"
    (own,) = (addressing for addressing in told.values() if addressing.prefix)
    assert (own.prefix, own.hosts) == (prefix, (ip_network("10.9.0.2/32"),))
    assert [r.address for r in own.reserved] == [noc]
