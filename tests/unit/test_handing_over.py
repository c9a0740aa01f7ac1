"""What two sell of one wholesaler is joined where one of them hands over to the other, and only there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from address_planner.labels import LabelSet
from broker.decompose.graph import graph_of
from broker.decompose.plan import Infeasible, Snapshot, SupplierView
from broker.decompose.search import alone, best, plan
from capability_registry import sharing
from capability_registry.abstraction import Disclosure, Sharing, abstracted
from capability_registry.note import CapabilityNote, Period
from capability_registry.sharing import marked
from lower_sp_clients import wire
from service_model.outcomes import ReasonCode
from service_model.spec import ServiceSpec
from tests.support.planning import GBIT, NOW, chain_spec, entry, offer, point, sap, sides, snapshot, view
from tests.unit.test_derive import note_of

ACROSS = chain_spec("m.east.uni", "n.west.uni")
LABELS = LabelSet(((100, 109),))


def sold(made: SupplierView) -> SupplierView:
    """As its buyers hear of it: with its own tokens."""
    return replace(made, note=marked(made.note, partial(sharing.minted, made.alias.encode(), "own")))


def wholesaler(labels: LabelSet = LABELS, besides: bool = False) -> SupplierView:
    """Between east and west, with f."""
    saps = [sap("x", "P", to="ix", peer="sp-east"), sap("y", "P", to="iy", peer="sp-west", labels=labels)]
    ways = [entry("x", "y", point(3, 1)), entry("x", "P", point(1, 1)), entry("y", "P", point(1, 1))]
    return replace(sold(view("w", saps, ways, [offer("f", "P")])), sold_besides=besides)


def beside(alias: str, joint: str, labels: LabelSet = LABELS) -> SupplierView:
    """With a customer and g, beside the wholesaler."""
    meets = sap("meets", f"P-{alias}", to=joint, peer="sp-w", decides_labels=True, labels=labels)
    at = f"P-{alias}"
    ways = [entry("uni", "meets", point(5, 1)), entry("uni", at, point(1, 1)), entry("meets", at, point(1, 1))]
    return sold(view(alias, [sap("uni", at), meets], ways, [offer("g", at)]))


def seller(alias: str, note: CapabilityNote) -> SupplierView:
    return SupplierView(
        alias=alias, sp_id=f"sp-{alias}", note=note, local=False, saps={f"{alias}.{s.id}": s.id for s in note.saps}
    )


def eastern(besides: bool = False) -> CapabilityNote:
    """Of who sells east and the wholesaler, and does not know west."""
    return note_of(snapshot(beside("east", "ix"), wholesaler(besides=besides)), own_sp_id="sp-m")


def western(besides: bool = True, labels: LabelSet = LABELS) -> CapabilityNote:
    """Of who sells west and the wholesaler, and does not know east."""
    return note_of(snapshot(wholesaler(labels, besides), beside("west", "iy", labels)), own_sp_id="sp-n")


def over(east: CapabilityNote, west: CapabilityNote) -> Snapshot:
    return snapshot(seller("m", east), seller("n", west))


def test_where_nobody_hands_over_what_each_sells_of_the_wholesaler_is_not_joined() -> None:
    assert isinstance(plan(ACROSS, over(eastern(), western(besides=False)), NOW), Infeasible)


def test_who_knows_that_others_sell_it_too_hands_over_behind_it() -> None:
    east, west = eastern(), western()
    handed = next(s for s in west.saps if s.id == "west.meets")
    assert handed.beyond
    assert handed.beyond == sharing.token_of(east, next(s for s in east.saps if s.id == "w.y"))
    found = best(ACROSS, over(east, west), NOW)
    assert found is not None
    assert sides(found) == [("m", "east.uni", "w.y"), ("n", "west.meets", "west.uni")]


def test_it_is_handed_over_on_either_side_of_the_wholesaler_whichever_costs_less() -> None:
    both = over(eastern(besides=True), western())
    through_east, through_west = (
        [("m", "east.uni", "w.y"), ("n", "west.meets", "west.uni")],
        [("m", "east.uni", "east.meets"), ("n", "w.x", "west.uni")],
    )
    plans = plan(ACROSS, both, NOW)
    assert not isinstance(plans, Infeasible)
    assert {tuple(sides(p)) for p in plans} == {tuple(through_east), tuple(through_west)}


def test_one_that_claims_to_be_behind_something_else_is_not_joined() -> None:
    east, west = eastern(), western()
    for beyond in ("", "made-up"):
        claims = replace(west, saps=tuple(replace(s, beyond=beyond) if s.beyond else s for s in west.saps))
        assert isinstance(plan(ACROSS, over(east, claims), NOW), Infeasible)
        assert [u.why for u in graph_of(over(east, claims)).unjoined] == []


def test_who_withholds_what_others_sell_hands_over_to_nobody() -> None:
    east, west = eastern(), abstracted(western(), Disclosure(sharing=Sharing.WITHHELD), {})
    assert not [s for s in west.saps if s.beyond]
    assert isinstance(plan(ACROSS, over(east, west), NOW), Infeasible)


def test_it_is_handed_on_to_whom_has_the_other_side_further_up() -> None:
    """A broker that sells the western one alone tells what it hands over, and a top that has both joins them."""
    only = note_of(snapshot(seller("n", western())), own_sp_id="sp-k")
    handed = next(s for s in only.saps if s.id == "n.west.meets")
    assert handed.beyond == next(s for s in western().saps if s.beyond).beyond
    top = snapshot(seller("m", eastern()), seller("k", only))
    found = best(chain_spec("m.east.uni", "k.n.west.uni"), top, NOW)
    assert found is not None
    assert [s.alias for s in found.segments] == ["m", "k"]


@pytest.mark.parametrize(("labels", "enough"), [(1, False), (2, True)])
def test_what_ends_where_it_is_handed_over_and_what_crosses_there_share_its_labels(labels: int, enough: bool) -> None:
    """From where it comes in at west, to the wholesaler's function: one label to come in, and one to cross."""
    few = LabelSet(((100, 99 + labels),))
    below = snapshot(wholesaler(few, True), beside("west", "iy", few))
    spec = chain_spec("west.meets", "w.x", "gf")
    note = note_of(below, own_sp_id="sp-n")
    found = plan(spec, below, NOW)
    assert isinstance(found, Infeasible) == (not enough)
    assert (best(spec, alone(note), NOW) is not None) == enough
    if isinstance(found, Infeasible):
        assert found.reasons[0].code is ReasonCode.LABELS_EXHAUSTED


def test_one_end_where_it_is_handed_over_crosses_nothing() -> None:
    found = best(
        one := chain_spec("west.meets", "west.uni"), snapshot(wholesaler(besides=True), beside("west", "iy")), NOW
    )
    assert found is not None
    assert sides(found) == [("west", "meets", "uni")]
    assert best(one, alone(western()), NOW) is not None


@pytest.mark.parametrize(("days", "sold"), [(0, False), (10, True)])
def test_what_is_handed_over_in_a_window_is_had_in_it(days: int, sold: bool) -> None:
    """From the tenth day on the wholesaler has room for 2 Gbit/s, of which east asks."""

    def then(made: SupplierView) -> SupplierView:
        full = replace(made.note, saps=tuple(replace(s, bandwidth_bps=GBIT) for s in made.note.saps))
        free = Period(start=NOW + timedelta(days=10), saps={s.id: 4 * GBIT for s in full.saps})
        return replace(made, note=replace(full, periods=(free,)))

    east = note_of(snapshot(beside("east", "ix"), then(wholesaler())), own_sp_id="sp-m")
    west = note_of(snapshot(then(wholesaler(besides=True)), beside("west", "iy")), own_sp_id="sp-n")
    assert east.periods
    assert west.periods
    asked = replace(ACROSS, bandwidth_bps=2 * GBIT, start_time=NOW + timedelta(days=days))
    assert (best(asked, over(east, west), NOW) is not None) is sold


def test_what_is_handed_over_is_written_and_read() -> None:
    note = western()
    assert wire.NOTE.decode(wire.NOTE.encode(note)) == note


def test_the_same_wholesaler_through_both_is_one_thing() -> None:
    """It comes in by the eastern one and would leave over the western one's side of the same SAP: two sellers of it."""
    spec: ServiceSpec = chain_spec("m.east.uni", "n.west.uni", "ff")
    found = best(spec, over(eastern(), western()), NOW)
    assert found is not None
    assert sides(found) == [("m", "east.uni", "w.y"), ("n", "west.meets", "west.uni")]
