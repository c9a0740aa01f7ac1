"""The parts of the documentation that are made from the code.

`python -m tests.support.generated_docs` writes them into the pages; a test compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import typer
from structlog.testing import capture_logs

import broker.orders.engine  # noqa: F401  the tasks register themselves
from broker.accounts.admin_port import AccountNotFound
from broker.cli import exit_codes
from broker.cli.loader import commands, offered
from broker.cli.rendering.tasks import registered
from broker.decompose.lexicon import lexicon
from broker.northbound.status import status_of
from broker.northbound.wrong_calls import (
    AuthError,
    AuthReason,
    PageTokenInvalid,
    RequestTooLarge,
    ShuttingDown,
    Throttled,
)
from broker.orders.schedules import Workflows
from broker.orders.states import AS_SERVICE, IN_FLIGHT, NOTHING_LEFT, SegmentState, mermaid
from broker.orders.states import NEWER as NEWER_STATES
from broker.orders.tasks import HEALING, NEWER, TASKS, WORKFLOWS
from broker.settings.administered import TYPES
from broker.storage.tables import metadata
from capability_registry import feed
from capability_registry.abstraction import Abstraction, Disclosure, abstracted
from capability_registry.note import Bin, CapabilityNote, Place, PlaceCapacity
from lower_sp_clients.supplier import NotRecorded, OutcomeUnknown, Overloaded, ReadOnly, ServiceNotFound
from lower_sp_clients.wire import Violation, WireError
from service_model.outcomes import ReasonCode, ServiceState
from tests.support.markdown import ROOT, generated, pages, with_generated
from tests.support.planning import offer, snapshot, view

ERRORS: tuple[Exception, ...] = (
    *(AuthError(reason, "…") for reason in AuthReason),
    Throttled(1.0),
    Overloaded(1.0),
    RequestTooLarge(2, 1),
    WireError(Violation("field", "reason")),
    PageTokenInvalid(),
    ServiceNotFound("ref"),
    AccountNotFound("account"),
    ShuttingDown(),
    ReadOnly("…"),
    NotRecorded("…"),
    OutcomeUnknown("…"),
    LookupError("anything else"),
)
"""One of each kind that the table of statuses knows, and one that it does not."""
_PROTO = ROOT / "proto" / "spbroker" / "v1" / "outcome.proto"
_REASON = re.compile(r"^  // (.+)\n  REASON_CODE_(\w+) = (\d+);$", re.MULTILINE)


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in (head, *rows)]
    return "".join([lines[0], f"|{'---|' * len(head)}\n", *lines[1:]])


def states() -> str:
    return f"```mermaid\n{mermaid()}```\n"


def feed_states() -> str:
    return f"```mermaid\n{feed.mermaid()}```\n"


def segment_states() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for state, service in AS_SERVICE.items():
            kind = "a call is in flight" if state in IN_FLIGHT else ""
            kind = "the supplier has nothing" if state in NOTHING_LEFT else kind
            kind = "given up: the supplier may still have it" if state is SegmentState.ABANDONED else kind
            yield f"`{state.short}`", f"`{service.short}`", kind

    return table(("segment", "its owner reads", ""), rows())


def workflows(of: Mapping[ServiceState, tuple[str, ...]] = WORKFLOWS) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for state, tasks in of.items():
            yield f"`{state.short}`", ", ".join(f"`{name}`" for name in tasks) or "–"

    return table(("state", "tasks, in order"), rows())


def tasks() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for name in dict.fromkeys(
            name for of in (WORKFLOWS, NEWER, HEALING) for schedule in of.values() for name in schedule
        ):
            task = TASKS[name]
            module = str(getattr(task, "__module__", "")).rpartition(".")[2]
            yield f"`{name}`", " ".join((task.__doc__ or "").split()), f"`{module}.py`"

    return table(("task", "what it does", "in `broker/orders/`"), rows())


def manager_tasks() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for row in registered(Workflows()):
            if row.services:
                yield row.services, f"`{row.task}`", f"`{row.place}`", row.does

    return table(("where a manager decides", "task", "place", "what it does"), rows())


def tables() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for made in metadata.tables.values():
            key = [column.name for column in made.primary_key]
            rest = [column.name for column in made.columns if column.name not in key]
            yield f"`{made.name}`", ", ".join(key), ", ".join(rest)

    return table(("table", "key", "further columns"), rows())


def reasons() -> str:
    said = {name: meaning for meaning, name, _ in _REASON.findall(_PROTO.read_text())}
    missing = {code.short for code in ReasonCode} ^ set(said)
    if missing:
        raise AssertionError(f"not both in the protocol and in the model: {sorted(missing)}")
    return table(("code", "why"), ((f"`{code.short}`", said[code.short]) for code in ReasonCode))


def statuses() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for error in ERRORS:
            with capture_logs():  # what is not in the table is logged with an incident id
                status = status_of(error)
            yield f"`{status.code.name}`", f"`{status.reason}`"

    return table(("gRPC status", "reason in `google.rpc.ErrorInfo`"), rows())


def exits() -> str:
    return table(("code", "meaning"), iter(exit_codes.table()))


def kinds() -> str:
    return ", ".join(f"`{kind}`" for kind in TYPES) + "\n"


def disclosed() -> str:
    """Three places of one supplier, as each level of abstraction shows them."""
    known = (("CHZRH", "CH", 47.38, 8.54, 64), ("CHGVA", "CH", 46.2, 6.14, 40), ("ATVIE", "AT", 48.21, 16.37, 16))
    supplier = view(
        "m", [], [], [offer("firewall", id) for id, *_ in known],
        capacities=tuple(PlaceCapacity(place=id, bins=(Bin(size=8, count=room // 8),)) for id, *_, room in known),
    )  # fmt: skip
    places = tuple(Place(id=id, country=c, latitude=north, longitude=east) for id, c, north, east, _ in known)
    note = replace(supplier.note, places=places)
    levels = [Disclosure(abstraction=level) for level in Abstraction]
    words = [lexicon(snapshot(replace(supplier, note=note)), b"docs" * 8, "alice", d).words or {} for d in levels]

    def rows() -> Iterator[Sequence[str]]:
        for place, *_ in known:
            yield (
                place,
                *(_shown(abstracted(note, d, w), w.get(place, place)) for d, w in zip(levels, words, strict=True)),
            )

    return table(("place", *(f"`{level.short}`" for level in Abstraction)), rows())


def _shown(note: CapabilityNote, word: str) -> str:
    place = next(p for p in note.places if p.id == word)
    room = next(c for c in note.capacities if c.place == word)
    where = f" {place.latitude:g} {place.longitude:g}" if place.located else ""
    several = ", several" if place.merged else ""
    return f"`{word}`: {place.country}{where}, {room.bins[0].count} × {room.bins[0].size}{several}"


def command_list() -> str:
    return "".join(f"- [`{name}`](#spbroker-{name}): {entry.help}\n" for name, entry in offered().items())


def command_details() -> str:
    group = commands()
    context = typer.Context(group, info_name="spbroker")
    return "\n".join(_details(name, group.get_command(context, name)) for name in group.list_commands(context))


def _details(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    words = " ".join(p.metavar or p.name.upper() for p in arguments)
    usage = f"    spbroker {name}{' ' + words if words else ''}{' [OPTIONS]' if options else ''}\n"
    said = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    shown = [p for p in (*arguments, *options) if p.help or p.param_type_name == "option"]
    lines = "".join(f"- `{_forms(p)}`: {p.help}\n" if p.help else f"- `{_forms(p)}`\n" for p in shown)
    return f"### spbroker {name}\n\n{usage}\n{said}\n\n{lines}"


def _forms(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    forms = ", ".join((*parameter.opts, *parameter.secondary_opts))
    return forms if parameter.is_flag or not parameter.metavar else f"{forms} {parameter.metavar}"


PARTS: dict[str, Callable[[], str]] = {
    "states": states,
    "newer-states": lambda: f"```mermaid\n{mermaid(NEWER_STATES)}```\n",
    "segment-states": segment_states,
    "feed-states": feed_states,
    "workflows": workflows,
    "newer-workflows": lambda: workflows(NEWER),
    "healing-workflows": lambda: workflows({s: names for s, names in HEALING.items() if names != NEWER[s]}),
    "tasks": tasks,
    "manager-tasks": manager_tasks,
    "tables": tables,
    "reasons": reasons,
    "statuses": statuses,
    "exit-codes": exits,
    "kinds": kinds,
    "disclosed": disclosed,
    "commands": command_list,
    "command-details": command_details,
}


def main() -> None:
    for page in pages():
        parts = {name: PARTS[name]() for name in generated(page)}
        if parts:
            page.write_text(with_generated(page.read_text(), parts))


if __name__ == "__main__":
    main()
