"""The tasks in the schedules of orders, one place a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.table import Table

from broker.cli.rendering.figures import table
from broker.cli.rendering.text import Text
from broker.orders.schedules import Schedule, Workflows


class Registered(NamedTuple):
    """`services`: for which; empty: every one."""

    state: str
    task: str
    place: str
    does: str
    origin: str
    services: str


def registered(workflows: Workflows) -> Iterator[Registered]:
    """Every task of every schedule; of schedules for some services only what is not in those of all."""
    known: set[tuple[str, str, str]] = set()
    for state, schedule, services in workflows.all():
        for i, slot in enumerate(schedule):
            if (state.short, slot.name, slot.origin) in known:
                continue
            known.add((state.short, slot.name, slot.origin))
            does = " ".join((slot.task.__doc__ or "").split())
            yield Registered(state.short, slot.name, _place(schedule, i), does, slot.origin, services)


def _place(schedule: Schedule, i: int) -> str:
    slot = schedule[i]
    if slot.place != slot.name:
        return f"instead of {slot.place}"
    return f"before {schedule[i + 1].name}" if i + 1 < len(schedule) else "last"


def tasks_table(rows: Iterable[Registered]) -> Table:
    made = table("", "STATE", "TASK", "PLACE", "FROM", "WHAT IT DOES")
    above = ""
    for row in rows:
        state = "" if row.state == above else row.state
        above = row.state
        name = Text(row.task, style="bold")
        made.add_row(Text(state), name, Text(row.place, style="dim"), Text(row.origin), Text(row.does))
    return made
