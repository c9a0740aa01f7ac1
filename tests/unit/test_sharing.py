"""Shares: what several sell of one pool is known to be one thing, is not bought twice, and nothing else is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from address_planner.labels import LabelSet
from broker.decompose.graph import Graph
from broker.decompose.plan import Infeasible, Plan, Snapshot, SupplierView
from broker.decompose.search import best, plan
from capability_registry import payload, sharing
from capability_registry.abstraction import Abstraction, Disclosure, Sharing, abstracted
from capability_registry.decoys import MOST, with_decoys
from capability_registry.hysteresis import Change, change
from capability_registry.loops import UnknownOrigin, without_ours
from capability_registry.note import Bin, CapabilityNote, PlaceCapacity, Share, SharedLimit
from capability_registry.sharing import drawn_on, marked
from lower_sp_clients import wire
from service_model.constraints import Group, GroupKind, GroupScope
from service_model.outcomes import ReasonCode
from service_model.spec import ServiceSpec
from tests.support.planning import (
    GBIT,
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
from tests.unit.test_derive import note_of

SECRET = b"w" * 32
POOL = "w-hosts"
ROOM = Share(token=POOL, bandwidth_bps=2 * GBIT, units=2)


def domain(secret: bytes = SECRET) -> CapabilityNote:
    """Two SAPs, two places of which one has hosts of 3 and of 5 units, and a trunk between the places."""
    ways = [
        entry("a", "P", point(1, 1, bandwidth_bps=4 * GBIT), point(2, 1, bandwidth_bps=3 * GBIT)),
        entry("b", "Q", point(1, 1)),
        entry("a", "b", point(3, 3, bandwidth_bps=2 * GBIT)),
        entry("P", "Q", point(1, 1, bandwidth_bps=2 * GBIT)),
    ]
    trunk = SharedLimit(id="trunk", limit_bps=2 * GBIT, coefficients={"a|b": 1.0, "P|Q": 1.0})
    access = SharedLimit(id="access", limit_bps=GBIT, coefficients={"a|P": 1.0, "a|b": 1.0})
    capacities = (
        PlaceCapacity(place="P", bins=(Bin(size=3, count=2), Bin(size=5, count=1))),
        PlaceCapacity(place="Q", bins=(Bin(size=9, count=0),)),
    )
    plain = view(
        "w", [sap("a", "P"), sap("b", "Q")], ways, [offer("x", "P")], capacities=capacities, shared=(trunk, access)
    )
    return marked(plain.note, partial(sharing.minted, secret, "own"))


def pools(note: CapabilityNote) -> dict[str, tuple[int, int]]:
    return {share.token: (share.bandwidth_bps, share.units) for share in note.shares}


def drawn(note: CapabilityNote, shares: tuple[int, ...]) -> list[str]:
    return sorted(note.shares[n].token for n in shares)


def test_a_domain_is_cut_into_its_saps_its_places_and_what_is_inside() -> None:
    note = domain()
    token = partial(sharing.minted, SECRET, "own")
    assert pools(note) == {
        token("sap a"): (0, 0),
        token("sap b"): (0, 0),
        token("place P"): (2 * GBIT, 5),  # the narrowest way that ends there, and the largest host
        token("place Q"): (2 * GBIT, 0),
        token("inside"): (2 * GBIT, 0),
    }
    assert [drawn(note, s.shares) for s in note.saps] == [[token("sap a")], [token("sap b")]]
    assert [drawn(note, p.shares) for e in note.matrix for p in e.points] == [
        [], [], [], [token("inside")], [token("inside")]
    ]  # fmt: skip


def test_whoever_buys_of_a_domain_hears_the_same_tokens_and_nobody_can_make_them() -> None:
    assert pools(domain()) == pools(domain())
    assert pools(domain()).keys().isdisjoint(pools(domain(b"v" * 32)))


def test_a_note_with_shares_is_the_same_by_either_way_of_reading() -> None:
    written = payload.write(domain())
    assert payload.read(written, wire.parse_note) == domain()
    assert wire.parse_note(written) == domain()


def test_shares_that_a_note_does_not_have_are_refused() -> None:
    note = domain()
    with pytest.raises(UnknownOrigin, match="share 4 of 4"):
        without_ours(replace(note, shares=note.shares[:-1]), lambda token: False)


def seller(alias: str, side: str, *shares: Share, bins: int = 2, cost: int = 1, local: bool = False) -> SupplierView:
    """Between a UNI and the interconnect `mn`, with x at P, a place of its own."""
    joint = sap("mn", f"P-{alias}", to="mn", peer=f"sp-{side}", decides_labels=alias < side)
    at = f"P-{alias}"
    ways = [entry("uni", "mn", point(5, 1)), entry("uni", at, point(1, 1)), entry("mn", at, point(1, 1))]
    capacity = PlaceCapacity(place=at, bins=(Bin(size=bins, count=1),), shares=tuple(range(len(shares))))
    return view(
        alias, [sap("uni", at), joint], ways, [offer("x", at, cost)], capacities=(capacity,), shares=shares, local=local
    )


APART = Group(
    id="g", kind=GroupKind.ANTI_AFFINITY, scope=GroupScope.SUPPLIER, functions=("f0", "f1")
)  # one at each seller


def both(**more: Any) -> ServiceSpec:
    return chain_spec("m.uni", "n.uni", "xx", groups=(APART,), **more)


def test_what_two_sell_of_one_pool_is_bought_of_both_where_there_is_room() -> None:
    served = best(both(bandwidth_bps=GBIT // 2), snapshot(seller("m", "n", ROOM), seller("n", "m", ROOM)), NOW)
    assert served is not None
    assert [s.alias for s in served.segments] == ["m", "n"]


@pytest.mark.parametrize(
    ("theirs", "bps"),
    [
        (replace(ROOM, units=1), 0),  # the smaller figure counts
        (ROOM, GBIT),  # two flows to each place
        (replace(ROOM, bandwidth_bps=0), 0),  # a flow without bandwidth is one
    ],
    ids=["hosts", "bandwidth", "none"],
)
def test_what_two_sell_of_one_pool_is_not_bought_twice(theirs: Share, bps: int) -> None:
    snap = snapshot(seller("m", "n", ROOM), seller("n", "m", theirs))
    refused = plan(both(bandwidth_bps=bps), snap, NOW)
    assert isinstance(refused, Infeasible)
    assert refused.reasons[0].code is ReasonCode.CAPACITY
    assert "several suppliers sell" in refused.reasons[0].message
    assert refused.nearest
    other = snapshot(seller("m", "n", ROOM), seller("n", "m", replace(theirs, token="another")))
    assert best(both(bandwidth_bps=bps), other, NOW) is not None


def test_of_one_seller_all_that_it_announces_is_bought() -> None:
    one = chain_spec("m.uni", "n.uni", "xx", bandwidth_bps=2 * GBIT)
    snap = snapshot(seller("m", "n", replace(ROOM, units=0)), seller("n", "m", replace(ROOM, units=0), cost=9))
    bought = best(one, snap, NOW)
    assert bought is not None
    assert set(bought.segments[0].places.values()) == {"P-m"}


def test_who_says_that_a_pool_is_empty_is_in_the_way_of_nobody_that_is_bought_without_it() -> None:
    liar = seller("z", "m", replace(ROOM, bandwidth_bps=0, units=0))
    served = best(both(), snapshot(seller("m", "n", ROOM), seller("n", "m", ROOM), liar), NOW)
    assert served is not None
    assert [s.alias for s in served.segments] == ["m", "n"]


def test_old_notes_that_tell_no_shares_are_bought_as_ever() -> None:
    assert best(both(), snapshot(seller("m", "n"), seller("n", "m")), NOW) is not None
    assert best(both(), snapshot(seller("m", "n", ROOM), seller("n", "m")), NOW) is not None


def test_one_sap_that_two_sell_is_the_end_of_a_service_once() -> None:
    def sells(alias: str, token: str) -> SupplierView:
        made = seller(alias, "n" if alias == "m" else "m")
        uni, joint = made.note.saps
        note = replace(made.note, shares=(Share(token=token),), saps=(replace(uni, shares=(0,)), joint))
        return replace(made, note=note)

    spec = chain_spec("m.uni", "n.uni")
    assert best(spec, snapshot(sells("m", "w"), sells("n", "v")), NOW) is not None
    twice = snapshot(sells("m", "w"), sells("n", "w"))
    assert isinstance(plan(spec, twice, NOW), Infeasible)
    for lans in ([lan("l", "a", "b")], [lan("l", "a", "b"), lan("k", "f0:mgmt", "a", "b")]):
        types = "x" if len(lans) > 1 else ""
        beside = chain_spec("m.uni", "n.uni", types, lans=lans)
        assert isinstance(plan(beside, twice, NOW), Infeasible)


def test_a_note_of_notes_relays_what_its_ways_cross_and_who_sells_it() -> None:
    """Two sellers of one pool below one broker: its note has two shares of it, and whoever reads that does not buy both."""
    snap = snapshot(seller("m", "n", ROOM), seller("n", "m", replace(ROOM, units=1)))
    note = note_of(snap)
    assert sorted((s.token, s.units) for s in note.shares) == [(POOL, 1), (POOL, 2)]
    seen = SupplierView(alias="t", sp_id="t", note=note, local=False, saps={s.id: s.id for s in note.saps})
    hosts = replace(APART, scope=GroupScope.PLACE)
    asked = chain_spec("m.uni", "n.uni", "xx", groups=(hosts,))
    assert best(asked, snapshot(seen), NOW) is None
    roomy = note_of(snapshot(seller("m", "n", ROOM), seller("n", "m", ROOM)))
    assert best(asked, snapshot(replace(seen, note=roomy)), NOW) is not None


@pytest.mark.parametrize(("token", "announced"), [("v", True), ("w", False)])
def test_a_way_that_itself_goes_through_one_pool_of_two_sellers_is_not_announced(token: str, announced: bool) -> None:
    def through(alias: str, token: str) -> SupplierView:
        made = seller(alias, "n" if alias == "m" else "m")
        ways = tuple(replace(e, points=tuple(replace(p, shares=(0,)) for p in e.points)) for e in made.note.matrix)
        return replace(made, note=replace(made.note, matrix=ways, shares=(Share(token=token, bandwidth_bps=GBIT),)))

    note = note_of(snapshot(through("m", "w"), through("n", token)))
    assert any({e.a, e.b} == {"m.uni", "n.uni"} for e in note.matrix) == announced
    assert any({e.a, e.b} == {"m.uni", "P-m"} for e in note.matrix)


def test_our_own_domains_are_told_of_with_our_secret_and_suppliers_only_by_themselves() -> None:
    snap = snapshot(seller("m", "n", local=True), seller("n", "m"))
    assert note_of(snap).shares == ()
    note = note_of(snap, share_secret=SECRET)
    assert note.shares
    assert note_of(snap, share_secret=SECRET, audience="other").shares == note.shares
    told = {c.place: bool(c.shares) for c in note.capacities}
    assert told == {"P-m": True, "P-n": False}


def test_hosts_of_different_pools_are_apart_whatever_their_places_are_called() -> None:
    """GREY places of two suppliers may be one place, but its hosts are not: a group by host is kept."""

    def grey(alias: str, side: str, token: str) -> SupplierView:
        made = seller(alias, side, *([replace(ROOM, token=token)] if token else []), bins=1)
        words = {p.id: f"p-{alias}" for p in made.note.places}
        return replace(made, note=abstracted(made.note, Disclosure(abstraction=Abstraction.GREY), words))

    apart = replace(APART, scope=GroupScope.HOST)
    spec = chain_spec("m.uni", "n.uni", "xx", groups=(apart,))
    assert best(spec, snapshot(grey("m", "n", "v"), grey("n", "m", "w")), NOW) is not None
    assert best(spec, snapshot(grey("m", "n", "w"), grey("n", "m", "w")), NOW) is None
    assert best(spec, snapshot(grey("m", "n", "v"), grey("n", "m", "")), NOW) is None
    by_place = replace(spec, groups=(replace(apart, scope=GroupScope.PLACE),))
    assert best(by_place, snapshot(grey("m", "n", "v"), grey("n", "m", "w")), NOW) is None


def tokens(rng_seed: int, snap: Snapshot) -> Snapshot:
    """Each place sells of one of two pools."""
    views = []
    for n, v in enumerate(snap.suppliers):
        shares = tuple(Share(token=f"t{(rng_seed + n + k) % 2}", bandwidth_bps=20, units=1 + n % 2) for k in range(2))
        capacities = tuple(replace(c, shares=(k % 2,)) for k, c in enumerate(v.note.capacities))
        views.append(replace(v, note=replace(v.note, shares=shares, capacities=capacities)))
    return snapshot(*views)


def allowed(found: Plan, snap: Snapshot) -> bool:
    """By the plan alone: units (one each) of the functions in each pool, where several sell of it."""
    notes = {v.alias: v.note for v in snap.suppliers}
    units: Counter[str] = Counter()
    sellers: dict[str, dict[tuple[str, int], int]] = {}
    for segment in found.segments:
        note = notes[segment.alias]
        of = {c.place: c.shares for c in note.capacities}
        for place in segment.places.values():
            for n in of[place]:
                units[note.shares[n].token] += 1
    for alias, note in notes.items():
        for n, share in enumerate(note.shares):
            sellers.setdefault(share.token, {})[alias, n] = share.units
    used: dict[str, set[tuple[str, int]]] = {}
    for segment in found.segments:
        note = notes[segment.alias]
        for place in segment.places.values():
            for c in note.capacities:
                if c.place == place:
                    for n in c.shares:
                        used.setdefault(note.shares[n].token, set()).add((segment.alias, n))
    return all(len(who) < 2 or units[t] <= min(sellers[t].values()) for t, who in used.items())


def drawn_cases() -> Iterator[tuple[int, Snapshot, ServiceSpec]]:
    for seed in range(24):
        snap = random_snapshot(seed, 3, labels=40)
        for a, b in (("s0.uni", "s1.uni"), ("s1.uni", "s2.uni")):
            yield seed, snap, chain_spec(a, b, ("xy", "xx", "xyx")[seed % 3])


def test_the_best_plan_that_buys_nothing_twice_is_found() -> None:
    """Beside all plans in their order, of which those are struck out that buy something twice."""
    told = Counter[str]()
    for seed, snap, spec in drawn_cases():
        shared = tokens(seed, snap)
        every = plan(spec, snap, NOW, alternatives=60)
        found = best(spec, shared, NOW)
        if isinstance(every, Infeasible):
            assert found is None
            continue
        first = next((p for p in every if allowed(p, shared)), None)
        told["barred"] += not allowed(every[0], shared)
        if first is None:
            assert found is None or len(every) == 60, seed
            continue
        assert found is not None
        assert allowed(found, shared)
        assert found.cost == first.cost, seed
        told["found"] += 1
    assert told["found"] > 10
    assert told["barred"] > 3


def test_nothing_is_looked_up_where_nobody_sells_what_another_does() -> None:
    graph = Graph(snapshot(seller("m", "n", ROOM), seller("n", "m", replace(ROOM, token="another"))))
    assert graph.sold_twice == frozenset()
    both_sell = Graph(snapshot(seller("m", "n", ROOM), seller("n", "m", ROOM)), graph)
    assert both_sell.sold_twice == {POOL}
    assert Graph(snapshot(seller("m", "n", ROOM), seller("n", "m")), both_sell).sold_twice == frozenset()


def test_decoys_look_like_shares_and_change_no_plan() -> None:
    note = domain()
    told = with_decoys(note, SECRET)
    real = set(pools(note))
    assert 0 < len(told.shares) - len(note.shares) <= MOST
    assert {len(s.token) for s in told.shares} == {len(s.token) for s in note.shares}
    assert [s.token for s in told.shares][: len(real)] != [s.token for s in note.shares]
    for plain, mixed in zip(drawn_on(note), drawn_on(told), strict=True):
        assert [t for t in drawn(told, mixed) if t in real] == drawn(note, plain)
    assert set(pools(told).values()) == set(pools(note).values())


def test_an_agreement_may_withhold_shares_and_nothing_else() -> None:
    note = domain()
    shown = abstracted(note, Disclosure(sharing=Sharing.WITHHELD), {})
    assert (shown.shares, set(drawn_on(shown))) == ((), {()})
    assert change(note, replace(shown, shares=note.shares), 0.1) <= Change.SLIGHT


def test_less_of_a_pool_and_one_more_seller_are_told_at_once() -> None:
    note = domain()
    less = tuple(replace(s, units=0) for s in note.shares)
    assert change(note, replace(note, shares=less), 0.1) is Change.LESS
    assert change(note, replace(note, shares=tuple(reversed(note.shares))), 0.1) is Change.SLIGHT
    more = tuple(replace(s, units=s.units + 1) for s in note.shares)
    assert change(note, replace(note, shares=more), 0.1) is Change.SLIGHT


def test_labels_of_a_sap_are_one_sellers_even_where_there_are_many() -> None:
    note = domain()
    assert all(s.labels == LabelSet(((100, 199),)) for s in note.saps)
    assert {note.shares[s.shares[0]].bandwidth_bps for s in note.saps} == {0}
