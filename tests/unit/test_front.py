"""Which ways a note announces, and what of them draws on the same."""

from __future__ import annotations

from typing import Any

from address_planner.labels import LabelSet
from capability_registry.front import MOST, Candidate, Draws, announced, shortened
from capability_registry.note import PointKind, SharedLimit


def way(name: str, cost: float, delay: int, **more: Any) -> Candidate[str]:
    return Candidate(way=name, cost=cost, delay_us=delay, **({"bandwidth_bps": 10} | more))


def told(*ways: Candidate[str]) -> list[str]:
    return [name for _, name in announced(ways)]


def test_the_cheapest_and_the_fastest_come_first_and_may_be_the_same() -> None:
    assert announced([way("slow", 1, 9), way("fast", 9, 1)]) == [
        (PointKind.CHEAPEST, "slow"),
        (PointKind.FASTEST, "fast"),
    ]
    assert told(way("only", 1, 1)) == ["only", "only"]
    assert announced([]) == []


def test_what_is_beaten_is_not_announced() -> None:
    assert told(way("good", 1, 1), way("dearer", 2, 1), way("slower", 1, 2)) == ["good", "good"]


def test_what_is_dearer_and_slower_is_announced_where_it_alone_can_do_something() -> None:
    able = [
        way("wide", 5, 5, bandwidth_bps=20), way("lan", 5, 5, lan=True), way("swaps", 5, 5),
        way("isolated", 5, 5, isolation=frozenset({"vrf"})), way("at home", 5, 5, countries=frozenset({"NL"})),
    ]  # fmt: skip
    for one in able:
        plain = way("plain", 1, 1, countries=frozenset({"DE", "NL"}), swaps_labels=False)
        assert told(plain, one) == ["plain", "plain", one.way]


def test_who_does_not_tell_countries_passes_any() -> None:
    assert told(way("silent", 1, 1, countries=None), way("told", 2, 2, countries=frozenset({"NL"}))) == [
        "silent", "silent", "told",
    ]  # fmt: skip
    assert told(way("told", 1, 1, countries=frozenset({"NL"})), way("silent", 2, 2, countries=None)) == ["told", "told"]


def test_of_many_those_that_gain_most_stay() -> None:
    line = [way(f"{n}", n, 100 - n) for n in range(0, 101, 10)]
    kinds = [kind for kind, _ in announced(line)]
    assert kinds == [PointKind.CHEAPEST, PointKind.FASTEST] + [PointKind.BETWEEN] * (MOST - 2)
    assert told(*line)[:3] == ["0", "100", "50"]
    bent = [way("cheap", 0, 100), way("fast", 100, 0), way("bargain", 10, 10), way("poor", 50, 9)]
    assert [name for _, name in announced(bent, most=3)] == ["cheap", "fast", "bargain"]


def test_what_ways_could_overdraw_together_is_a_limit_and_of_equal_ones_the_least() -> None:
    draws = Draws()
    draws.add("a|b#0", 10, {"trunk": 1.0, "narrow": 1.0, "own": 1.0})
    draws.add("a|c#1", 10, {"trunk": 2.0, "narrow": 2.0})
    assert draws.limits({"trunk": 29, "narrow": 15, "own": 10}) == (
        SharedLimit(id="limit-1", limit_bps=15, coefficients={"a|b#0": 1.0, "a|c#1": 2.0}),
    )
    assert draws.limits({"trunk": 30, "narrow": 30, "own": 10}) == ()


def test_a_limit_that_another_implies_is_not_told() -> None:
    draws = Draws()
    draws.add("a|b#0", 10, {"trunk": 1.0, "behind": 1.0, "last": 2.0})
    draws.add("a|c#0", 10, {"trunk": 1.0, "behind": 1.0})
    draws.add("a|d#0", 10, {"trunk": 1.0})
    told = draws.limits({"trunk": 15, "behind": 15, "last": 12})
    assert [(limit.limit_bps, set(limit.coefficients)) for limit in told] == [
        (15, {"a|b#0", "a|c#0", "a|d#0"}),
        (12, {"a|b#0"}),
    ]
    assert len(draws.limits({"trunk": 15, "behind": 14, "last": 20})) == 2, "a tighter one over fewer is told"


def test_what_counts_all_ways_of_an_entry_alike_names_the_entry() -> None:
    entries = {"a|b": {"a|b#0", "a|b#g0"}, "a|c": {"a|c#0", "a|c#1"}}
    limit = SharedLimit(id="l", limit_bps=1, coefficients={"a|b#0": 1.0, "a|b#g0": 1.0, "a|c#0": 1.0})
    twice = SharedLimit(id="m", limit_bps=1, coefficients={"a|c#0": 1.0, "a|c#1": 2.0})
    assert [dict(told.coefficients) for told in shortened([limit, twice], entries)] == [
        {"a|b": 1.0, "a|c#0": 1.0},
        {"a|c#0": 1.0, "a|c#1": 2.0},
    ]


def test_a_way_that_is_cheaper_over_a_short_term_is_not_beaten_by_one_that_is_over_a_long_one() -> None:
    assert told(way("by the hour", 1, 1, once=9), way("at once", 2, 1, once=2)) == [
        "by the hour",
        "by the hour",
        "at once",
    ]
    assert told(way("both", 1, 1, once=1), way("neither", 2, 1, once=2)) == ["both", "both"]


def test_a_way_that_takes_other_labels_is_told_unless_many_are_left() -> None:
    few, others, many = (LabelSet.parse(labels) for labels in ("1-4", "3-6", "1-40"))
    assert told(way("few", 1, 1, near=few), way("others", 2, 2, near=others)) == ["few", "few", "others"]
    assert told(way("few", 1, 1, near=few), way("part", 2, 2, near=LabelSet.parse("2"))) == ["few", "few"]
    assert told(way("many", 1, 1, far=many), way("others", 2, 2, far=others)) == ["many", "many"]
