"""Whatever the note of a hierarchy's top promises is delivered, at every level of abstraction."""

from __future__ import annotations

import random

import pytest

from benchmarks.hierarchies.drawn import hierarchy
from benchmarks.hierarchies.judging import Drawn, asked_of, sells, told
from benchmarks.hierarchies.requests import plain, request, sites
from benchmarks.hierarchies.sellers import NOW
from broker.decompose.search import alone, best
from capability_registry.abstraction import Abstraction, Disclosure
from service_model.outcomes import Reserved


@pytest.mark.parametrize("level", Abstraction, ids=lambda level: level.short)
def test_what_a_note_of_notes_promises_is_delivered_when_nothing_else_is_ordered(level: Abstraction) -> None:
    promised = 0
    for seed in range(6):
        drawn = hierarchy(seed, 1 + seed % 2, margins=seed % 2 == 1, disclosure=Disclosure(abstraction=level))
        rng, note = random.Random(f"requests/{seed}"), alone(drawn.top.note())
        for number in range(4):
            spec = request(drawn, rng)
            if best(spec, note, NOW) is not None:
                promised += 1
                assert isinstance(drawn.top.reserve(f"r{number}", 1, spec), Reserved), (seed, number)
                drawn.top.release(f"r{number}")
    assert promised > 4


@pytest.mark.parametrize("level", Abstraction, ids=lambda level: level.short)
def test_what_a_note_promises_of_lans_to_sites_is_delivered(level: Abstraction) -> None:
    promised = alone_ = 0
    for seed in range(14):
        drawn = hierarchy(seed, 1 + seed % 2, margins=seed % 2 == 1, disclosure=Disclosure(abstraction=level))
        rng, note = random.Random(f"lans/{seed}"), alone(drawn.top.note())
        for number in range(6 if len(drawn.top.note().saps) > 1 else 0):
            spec = sites(drawn, rng)
            if best(spec, note, NOW) is not None:
                promised, alone_ = promised + 1, alone_ + (not spec.paths)
                assert isinstance(drawn.top.reserve(f"r{number}", 1, spec), Reserved), (seed, number)
                drawn.top.release(f"r{number}")
    assert promised > 8
    assert alone_ > 1


def test_a_path_leaves_a_lan_the_label_that_it_wants() -> None:
    """Drawn: the cheapest ways of the path all take both labels of an interconnect that the LAN has to cross."""
    grey = Disclosure(abstraction=Abstraction.GREY)
    drawn, rng = hierarchy(79, 3, margins=True, disclosure=grey), random.Random("lans/79")
    spec = [sites(drawn, rng) for _ in range(7)][-1]
    assert best(spec, alone(drawn.top.note()), NOW) is not None
    assert isinstance(drawn.top.reserve("r", 1, spec), Reserved)


@pytest.mark.parametrize("seed", [9, 13, 6089])
def test_what_the_broker_that_sees_all_sells_is_sold_by_the_top_too(seed: int) -> None:
    """Two suppliers at one place (9), one domain of two sellers (13), a way that is neither cheapest nor fastest (6089)."""
    drawn = Drawn(seed).at(Disclosure())
    asked = [a for a in asked_of(drawn, seed) if a.sold]
    assert len(asked) > 1
    assert [told(a.spec) for n, a in enumerate(asked) if not sells(drawn.top, f"r{n}", a.spec)] == []


@pytest.mark.parametrize("seed", [1479, 1522, 1590, 2055, 4199])
@pytest.mark.parametrize("level", Abstraction, ids=lambda level: level.short)
def test_what_visits_a_supplier_twice_is_delivered_as_it_was_promised(seed: int, level: Abstraction) -> None:
    """Two ends at one SAP (1479), one way (1590) and one host (1522) that both visits want; a delay on one of them
    (2055), and three visits to one domain with tight delays (4199)."""
    drawn = Drawn(seed).at(Disclosure(abstraction=level))
    note = alone(drawn.top.note())
    promised = [(n, a.spec) for n, a in enumerate(asked_of(drawn, seed)) if best(a.spec, note, NOW) is not None]
    assert promised
    assert [told(spec) for n, spec in promised if not sells(drawn.top, f"r{n}", spec)] == []


@pytest.mark.parametrize("seed", [5278, 2062, 2174])
@pytest.mark.parametrize("level", Abstraction, ids=lambda level: level.short)
def test_what_two_sell_of_one_domain_is_promised_to_one_request_once(seed: int, level: Abstraction) -> None:
    """Its ways (5278), and one SAP of it as both ends (2062, 2174): each of the sellers' notes is true by itself."""
    drawn = Drawn(seed).at(Disclosure(abstraction=level))
    note = alone(drawn.top.note())
    promised = [(n, a.spec) for n, a in enumerate(asked_of(drawn, seed)) if best(a.spec, note, NOW) is not None]
    assert promised
    assert [told(spec) for n, spec in promised if not sells(drawn.top, f"r{n}", spec)] == []


def test_what_is_sold_stays_held_until_it_is_released() -> None:
    drawn = hierarchy(3, 2, roomy=True)
    rng = random.Random("held")
    held = [n for n in range(12) if isinstance(drawn.top.reserve(f"r{n}", 1, plain(drawn, rng)), Reserved)]
    assert held
    assert any(labels for leaf in drawn.leaves for labels in leaf.calendar.labels.values())
    for number in held:
        drawn.top.release(f"r{number}")
    assert not any(labels for leaf in drawn.leaves for labels in leaf.calendar.labels.values())
