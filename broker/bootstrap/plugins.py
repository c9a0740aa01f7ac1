"""The operator's plugins: entry points of the group `spbroker.tasks`, each a task, or several, for the schedules.

Rules kept here
- Nothing is loaded that the settings do not name; what they name is loaded at start, or the node does not start.
- An entry point leads to what `broker.orders.schedules.into` makes of a function, or to a tuple of such.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

from broker.orders.schedules import CannotSchedule, Change, Plugin, Workflows

GROUP = "spbroker.tasks"


def workflows(everywhere: Sequence[str], named: Sequence[str]) -> Workflows:
    """The schedules with these plugins in them, by the names of their entry points. Raises CannotSchedule."""
    if twice := sorted({name for name in (*everywhere, *named) if (*everywhere, *named).count(name) > 1}):
        raise CannotSchedule(f"plugin {twice[0]!r} is named twice in the settings")
    return Workflows([_loaded(name) for name in everywhere], [_loaded(name) for name in named])


def _loaded(name: str) -> Plugin:
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        there = ", ".join(sorted(e.name for e in entry_points(group=GROUP))) or "none"
        raise CannotSchedule(f"plugin {name!r} is not installed: group {GROUP} has {there}")
    if len(found) > 1:
        raise CannotSchedule(f"plugin {name!r} is of several distributions: {', '.join(sorted(map(_from, found)))}")
    try:
        value = found[0].load()
    except Exception as error:
        raise CannotSchedule(f"plugin {name!r} of {_from(found[0])}: {type(error).__name__}: {error}") from error
    changes = value if isinstance(value, tuple) else (value,)
    if not changes or not all(isinstance(change, Change) for change in changes):
        raise CannotSchedule(f"plugin {name!r} of {_from(found[0])}: {found[0].value} is no task made with `into`")
    distribution = found[0].dist
    return Plugin(
        name=name,
        distribution=distribution.name if distribution else "",
        version=distribution.version if distribution else "",
        changes=changes,
    )


def _from(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
