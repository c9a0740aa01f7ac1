"""What a supplier announced lately: the most of what comes and goes, nothing of what does not, and not for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from address_planner.labels import LabelSet
from broker.orders.catalogue import Catalogue, Listing
from capability_registry.glossary import Glossary
from capability_registry.note import Bin, CapabilityNote, Outage, PlaceCapacity, SharedLimit
from capability_registry.remembered import MEMORY, WAYS, Memory, most
from tests.support.planning import GBIT, NOW, entry, offer, point, sap, view

CHEAP, FAST = point(1, 900), point(5, 100)
FULL = view("m", [sap("u", "P"), sap("w", "Q")], [entry("u", "w", CHEAP, FAST)], [offer("x", "P")]).note
LEAST = LabelSet(((100, 100),))


def hosts(*bins: tuple[int, int]) -> CapabilityNote:
    return replace(FULL, capacities=(PlaceCapacity(place="P", bins=tuple(Bin(size=s, count=n) for s, n in bins)),))


def later(note: CapabilityNote, minutes: float) -> CapabilityNote:
    return replace(note, edition=note.edition + 1, not_before=NOW + timedelta(minutes=minutes))


def bins(note: CapabilityNote) -> dict[int, int]:
    return {b.size: b.count for c in note.capacities for b in c.bins}


def test_each_host_is_as_large_as_it_was_in_either() -> None:
    assert bins(most(hosts((2, 1), (1, 3)), hosts((8, 1), (1, 1)))) == {8: 1, 1: 3}
    assert bins(most(hosts((0, 2)), hosts((4, 2)))) == {4: 2}
    assert bins(most(hosts((4, 1000)), hosts((5, 3), (1, 2000)))) == {5: 3, 4: 997, 1: 1003}


def test_labels_bandwidth_and_ways_that_were_full_are_remembered() -> None:
    taken = replace(
        FULL,
        saps=tuple(replace(s, labels=LEAST, bandwidth_bps=1) for s in FULL.saps),
        matrix=(entry("u", "w", replace(CHEAP, bandwidth_bps=5)),),
    )
    wide = most(taken, FULL)
    assert [(s.labels, s.bandwidth_bps) for s in wide.saps] == [(s.labels, s.bandwidth_bps) for s in FULL.saps]
    assert set(wide.matrix[0].points) == {replace(CHEAP, bandwidth_bps=5), CHEAP, FAST}
    assert most(replace(taken, matrix=()), FULL).matrix == FULL.matrix


def test_who_announces_as_much_as_ever_is_seen_as_it_is() -> None:
    note = later(FULL, 1)
    assert most(note, FULL) is note
    shared = replace(note, shared=(SharedLimit(id="l", limit_bps=GBIT, coefficients={"u|w": 1.0}),))
    assert most(shared, FULL) is shared, "with what its ways draw on together"


def test_what_does_not_come_and_go_is_as_the_last_note_says() -> None:
    outage = Outage(subject="P", start=NOW, end=NOW + timedelta(hours=1))
    gone = replace(
        FULL, saps=FULL.saps[:1], functions=(), places=FULL.places[:1], capacities=(), matrix=(), api_features=(),
        outages=(outage,),
    )  # fmt: skip
    wide = most(gone, FULL)
    assert wide is gone, "no SAP, function, place or feature comes back, nor a way to a SAP that is gone"


def test_what_was_announced_is_forgotten() -> None:
    memory = Memory.of(later(hosts((8, 1)), 0))
    step, minutes = MEMORY / 4 / timedelta(minutes=1), 0.0
    while bins(memory.note()) == {8: 1}:
        minutes += step
        memory = memory.seeing(later(hosts((1, 1)), minutes))
    assert MEMORY <= timedelta(minutes=minutes) <= 3 * MEMORY


def test_who_was_silent_for_long_is_not_remembered_by_what_it_said_before() -> None:
    memory = Memory.of(later(hosts((8, 1)), 0)).seeing(later(hosts((1, 1)), 3 * MEMORY / timedelta(minutes=1)))
    memory = memory.seeing(later(hosts((1, 1)), 5 * MEMORY / timedelta(minutes=1)))
    assert bins(memory.note()) == {1: 1}


def test_prices_that_change_all_the_time_do_not_fill_the_memory() -> None:
    memory = Memory.of(FULL)
    for number in range(5 * WAYS):
        memory = memory.seeing(later(replace(FULL, matrix=(entry("u", "w", point(number, 1)),)), number / 1000))
    assert len(memory.note().matrix[0].points) <= 3 * WAYS


def known(remembers: bool = True) -> Catalogue:
    catalogue = Catalogue("us", remembers=remembers)
    catalogue.list((Listing(alias="m", sp_id="sp-m", local=False), Listing(alias="n", sp_id="sp-n", local=False)))
    catalogue.put("m", FULL)
    catalogue.put("n", FULL)
    catalogue.put("m", later(replace(FULL, matrix=()), 1))
    return catalogue


def test_a_catalogue_hopes_for_what_its_suppliers_announced_and_for_nothing_else() -> None:
    catalogue = known()
    snapshot = catalogue.snapshot
    hoped = catalogue.hoped(snapshot)
    assert hoped.hoped
    assert [view.note.matrix for view in hoped.suppliers] == [FULL.matrix, FULL.matrix]
    assert hoped.suppliers[1] is snapshot.suppliers[1]
    assert catalogue.hoped(snapshot) is hoped
    catalogue.put("n", later(FULL, 2))
    assert catalogue.hoped(catalogue.snapshot).suppliers[0] is hoped.suppliers[0], "what was made of it is kept"


def test_a_catalogue_forgets_who_lapsed_and_whose_words_changed_and_all_where_it_is_not_to_hope() -> None:
    catalogue = known()
    catalogue.put("m", None)
    catalogue.put("m", later(replace(FULL, matrix=()), 2))
    assert catalogue.hoped(catalogue.snapshot) is catalogue.snapshot
    catalogue = known()
    other = Glossary(isolation={"vrf": "vxlan"})
    catalogue.list((Listing(alias="m", sp_id="sp-m", local=False, glossary=other),))
    assert catalogue.hoped(catalogue.snapshot) is catalogue.snapshot
    silent = known(remembers=False)
    assert silent.hoped(silent.snapshot) is silent.snapshot
