"""Rows of the journal and of the audit that are to be recorded with their order's next change."""

from __future__ import annotations

from collections.abc import Iterable

from broker.orders.records import AuditRow, JournalEntry, Order
from broker.orders.tasks import Call
from service_model.clock import Clock

Row = JournalEntry | AuditRow
DETAIL_LENGTH = 500
"""Characters: an error that a supplier sends may be as long as it likes."""


class Unrecorded:
    """By the order's id."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[str, list[Row]] = {}

    def add(self, id: str, row: Row) -> None:
        self._rows.setdefault(id, []).append(row)

    def add_calls(self, order: Order, calls: Iterable[Call], detail: str) -> None:
        """An entry for each call, in the version of the order that it is of."""
        for call in calls:
            self.add_call(call.of.part(order) or order, call, detail)

    def add_call(self, order: Order, call: Call, detail: str) -> None:
        segment = order.segment(call.segment)
        entry = JournalEntry(
            at=self._clock.now(),
            service=order.id,
            segment=call.segment,
            what=call.kind.value,
            key=f"{segment.ref if segment else ''}/{call.version}",
            detail=detail[:DETAIL_LENGTH],
        )
        self.add(order.id, entry)

    def of(self, id: str) -> list[Row]:
        return list(self._rows.get(id, ()))

    def put(self, id: str, rows: list[Row]) -> None:
        """These and no others."""
        self._rows[id] = rows

    def take(self, id: str) -> list[Row]:
        """All of them, which are not here any more."""
        return self._rows.pop(id, [])
