"""Identifiers of paths: each once, recorded with the order, free when that is durable; and headers that count segments."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from broker.orders.path_ids import POOL, PathIds
from broker.orders.records import Order
from lower_sp_clients.vim.holds import Allocation, AllocationState
from service_model.outcomes import Reason, ReasonCode, ServiceState
from service_model.path_headers import ID_MAX, INDEX_FIRST, Mark, PathHeader, between

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEADER: TypeAdapter[PathHeader] = TypeAdapter(PathHeader)


def order(id: str, **path_ids: int) -> Order:
    return Order(
        id=id, account="a", ref=id, version=1, state=ServiceState.RESERVING, created=NOW, updated=NOW,
        path_ids=path_ids,
    )  # fmt: skip


def record(ids: PathIds, before: Order | None, after: Order) -> None:
    """As the engine does: in one transaction with the order."""
    ids.stored(*ids.changes(before, after))


def taken(ids: PathIds, owner: str, *paths: str, known: dict[str, int] | None = None) -> dict[str, int]:
    found = ids.allocate(owner, paths, known or {})
    assert not isinstance(found, Reason)
    return dict(found)


def test_an_id_is_even_and_given_once_as_long_as_there_are_any() -> None:
    ids = PathIds(count=50)
    given_out = [taken(ids, f"o{n}", "p")["p"] for n in range(50)]
    assert sorted(given_out) == list(range(2, 102, 2))
    none = ids.allocate("one more", ("p",), {})
    assert isinstance(none, Reason)
    assert (none.code, none.subject) == (ReasonCode.LABELS_EXHAUSTED, "p")
    record(ids, order("o7", p=given_out[7]), order("o7"))
    assert taken(ids, "one more", "p") == {"p": given_out[7]}


def test_where_one_of_several_is_missing_none_is_taken() -> None:
    ids = PathIds(count=2)
    assert isinstance(ids.allocate("o", ("p", "q", "r"), {}), Reason)
    assert (ids.allocations(), ids.free) == ((), 2)


def test_what_a_service_has_it_keeps_and_gets_only_what_is_missing() -> None:
    ids = PathIds()
    first = taken(ids, "o", "p")
    assert taken(ids, "o", "p", "q", known=first)["p"] == first["p"]
    assert len(ids.allocations()) == 2
    assert taken(ids, "other", "p") != first, "another service's path of the same name is another path"


def test_an_id_is_held_then_live_then_free_and_a_restart_changes_nothing() -> None:
    ids = PathIds()
    live, held = order("x", **taken(ids, "x", "p")), order("y", **taken(ids, "y", "p"))
    record(ids, None, live)
    record(ids, None, held)
    record(ids, live, active := replace(live, was_live=True))
    assert {a.owner: a.state for a in ids.allocations()} == {"x": AllocationState.LIVE, "y": AllocationState.HELD}
    ids = PathIds(known := ids.allocations())
    assert ids.allocations() == known
    record(ids, active, replace(active, path_ids={}))
    assert [a.owner for a in ids.allocations()] == ["y"]
    record(ids, held, replace(held, path_ids={}))
    assert (ids.allocations(), ids.free) == ((), ids.size)


def test_what_could_not_be_recorded_is_free_again() -> None:
    ids = PathIds()
    first = order("o", **taken(ids, "o", "p"))
    record(ids, None, first)
    taken(ids, "o", "q", known=dict(first.path_ids))
    ids.lost("o", first)
    assert [a.value for a in ids.allocations()] == [str(first.path_ids["p"])]
    ids.lost("o", None)
    assert ids.allocations() == ()


def test_nothing_is_recorded_twice_and_what_is_recorded_is_of_one_pool() -> None:
    ids = PathIds()
    first = order("o", **taken(ids, "o", "p", "q"))
    put, drop = ids.changes(None, first)
    assert ({a.pool for a in put}, len(put), drop) == ({POOL}, 2, [])
    ids.stored(put, drop)
    assert ids.changes(first, first) == ([], [])


@given(st.integers(1, 300), st.integers(1, 300))
def test_an_index_counts_the_segments_that_were_passed_forth_and_back(passed: int, ahead: int) -> None:
    header = between(4, passed, ahead)
    if passed >= INDEX_FIRST or ahead >= INDEX_FIRST:
        assert header is None
        return
    assert header is not None
    assert (header.forth, header.back) == (Mark(4, INDEX_FIRST - passed), Mark(5, INDEX_FIRST - ahead))
    further = between(4, passed + 1, ahead - 1) if ahead > 1 and passed + 1 < INDEX_FIRST else None
    assert further is None or (further.index, further.back_index) == (header.index - 1, header.back_index + 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 3, "index": 1, "back_index": 1},
        {"id": 0, "index": 1, "back_index": 1},
        {"id": ID_MAX + 1, "index": 1, "back_index": 1},
        {"id": 2, "index": 0, "back_index": 1},
        {"id": 2, "index": 256, "back_index": 1},
        {"id": 2, "index": 1, "back_index": 0},
        {"id": 2, "index": 1},
    ],
)
def test_what_is_no_header_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        HEADER.validate_python(wrong)


def test_identifiers_that_another_process_recorded_are_known_here_until_it_frees_them() -> None:
    ids = PathIds(count=2)
    mine = ids.allocate("a", ["p"], {})
    assert not isinstance(mine, Reason)
    (other,) = {2, 4} - set(mine.values())
    ids.mirror([Allocation(pool=POOL, value=str(other), owner="b", state=AllocationState.HELD)], [])
    assert isinstance(ids.allocate("c", ["p"], {}), Reason)
    ids.mirror([], [other, mine["p"]], lambda owner: owner == "a")
    assert ids.has("a", set(mine.values()))
    assert ids.allocate("c", ["p"], {}) == {"p": other}
    ids.mirror([Allocation(pool=POOL, value=str(other), owner="b", state=AllocationState.HELD)], [])
    assert not ids.has("c", {other}), "what was given and not recorded gives way"
