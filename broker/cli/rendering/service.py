"""A service: its tree of parts, its facts, and its labels and prefixes."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.tree import Tree

from broker.cli.rendering.figures import (
    NONE,
    delay_text,
    duration_text,
    facts,
    price_text,
    table,
    time_text,
)
from broker.cli.rendering.reasons import add_reasons
from broker.cli.rendering.states import state_text
from broker.cli.rendering.text import Text
from service_model.families import BOTH
from service_model.healing import HealPhase
from service_model.outcomes import (
    AddressingChoice,
    Healing,
    LinkChoice,
    NewerVersion,
    SegmentStatus,
    ServiceState,
    ServiceStatus,
)
from service_model.spec import ServiceSpec, VirtualLink

ANY = "any"


def service_tree(status: ServiceStatus) -> Tree:
    """The service with its parts, nested as far as the provider tells, and what is wrong with each."""
    head = Text(status.ref, style="bold").append("  ").append_text(state_text(status.state))
    tree = Tree(head, guide_style="bright_black")
    add_reasons(tree, status.reasons)
    _add_segments(tree, status.segments)
    return tree


def _add_segments(tree: Tree, segments: Iterable[SegmentStatus]) -> None:
    parts = tuple(segments)
    width = max((len(part.alias) for part in parts), default=0)
    for part in parts:
        line = Text(part.alias.ljust(width)).append("  ").append_text(state_text(part.state))
        if part.functions:
            line.append(f"  {', '.join(part.functions)}", style="default")
        if part.place:
            line.append(f"  {part.place}", style="dim")
        node = tree.add(line)
        add_reasons(node, part.reasons)
        _add_segments(node, part.segments)


def service_facts(status: ServiceStatus) -> Table:
    """What is known of it besides: name, version, price, delay, hold, references, times."""
    return facts(
        (
            ("name", status.name),
            ("version", str(status.version)),
            ("newer", _newer(status.newer) if status.newer is not None else ""),
            ("healing", _healing(status.healing) if status.healing is not None else ""),
            ("price", price_text(status.price) if status.price else ""),
            ("delay", delay_text(status.delay_us) if status.delay_us else ""),
            ("from", time_text(status.start_time) if status.start_time else ""),
            ("until", time_text(status.end_time) if status.end_time else ""),
            ("held for", duration_text(status.remaining_s) if status.remaining_s else ""),
            ("reference", status.reference),
            ("tags", ", ".join(status.tags)),
            ("created", time_text(status.create_time)),
            ("changed", time_text(status.update_time)),
        )
    )


def decisions_table(status: ServiceStatus) -> Table:
    """What the managers of the service decided, in order."""
    made = table("", "MANAGER", "DECIDED", "OUTCOME", "WHAT", "AT")
    for decision in status.decisions:
        made.add_row(
            Text(decision.manager, style="bold"),
            Text(decision.task.short),
            Text(decision.outcome.short),
            Text(decision.detail),
            Text(time_text(decision.at), style="dim"),
        )
    return made


def _healing(healing: Healing) -> str:
    what = f" ({', '.join(healing.broken)})" if healing.broken else ""
    tried = f", tried {healing.tries} times" if healing.tries > 1 else ", tried once" if healing.tries else ""
    due = f", next at {time_text(healing.next_time)}" if healing.next_time is not None else ""
    why = f": {healing.reasons[0].message}" if healing.reasons else ""
    says = {HealPhase.WAITING: " for your word: spbroker heal", HealPhase.LEFT: " as it is, as you want it"}
    return f"{healing.phase.short}{says.get(healing.phase, '')}{what}{tried}{due}{why}"


def _newer(newer: NewerVersion) -> str:
    price = (
        f", {price_text(newer.price)}" if newer.price is not None and newer.state is not ServiceState.REFUSED else ""
    )
    held = f", held for {duration_text(newer.remaining_s)}" if newer.remaining_s else ""
    start = f", from {time_text(newer.start_time)}" if newer.start_time else ""
    end = f", until {time_text(newer.end_time)}" if newer.end_time else ""
    why = f": {newer.reasons[0].message}" if newer.reasons else ""
    return f"version {newer.version} is {newer.state.short}{price}{start}{end}{held}{why}"


def services_table(statuses: Iterable[ServiceStatus]) -> Table:
    """One service a line, with when it begins and ends where any of them says."""
    shown = tuple(statuses)
    times = ("FROM", "UNTIL") if any(s.start_time or s.end_time for s in shown) else ()
    made = table("", "REF", "STATE", "NAME", "PRICE", "DELAY", *times, "CREATED", "TAGS", right=("PRICE", "DELAY"))
    for status in shown:
        window = [Text(time_text(at)) if at else NONE for at in (status.start_time, status.end_time)]
        made.add_row(
            Text(status.ref),
            state_text(status.state),
            Text(status.name),
            Text(price_text(status.price)),
            Text(delay_text(status.delay_us) if status.delay_us else "–"),
            *(window if times else ()),
            Text(time_text(status.create_time)),
            Text(" ".join(status.tags), style="dim"),
        )
    return made


def addressing_table(
    status: ServiceStatus | None = None,
    *,
    spec: ServiceSpec | None = None,
    choice: AddressingChoice | None = None,
    binding: AddressingChoice | None = None,
) -> Table:
    """Label and path header of each end, prefix and addresses of each link: as constrained (by `spec`), chosen and bound.

    There is a column for each of the three that is known; choice and binding come from `status` unless given.
    """
    if status is not None:
        choice, binding = choice or status.choice, binding or status.binding
    sides = (("CONSTRAINED", spec), ("CHOSEN", choice), ("BOUND", binding))
    made = table("", "WHERE", "WHAT", *(head for head, side in sides if side is not None))
    above = ""

    def row(where: str, what: str, *cells: str) -> None:
        """`cells` are constrained, chosen, bound. A row in which nothing is said is left out."""
        nonlocal above
        if not any(cells) or (what == "prefix" and not any(cells[1:]) and cells[0] == ANY):
            return
        shown = [cell for cell, (_, side) in zip(cells, sides, strict=True) if side is not None]
        made.add_row(Text("" if where == above else where), Text(what, style="dim"), *map(_cell, shown))
        above = where

    for end in _ends(spec, choice, binding):
        row(end, "label", _label_constraint(spec, end), _label(choice, end), _label(binding, end))
        row(end, "path header", _header_constraint(spec, end), _header(choice, end), _header(binding, end))
        row(end, "beyond it", "", _reach(choice, end), _reach(binding, end))
    for id in _links(spec, choice, binding):
        asked = next((link for link in spec.links if link.id == id), None) if spec else None
        ours, theirs = (side.link(id) if side else None for side in (choice, binding))
        row(id, "prefix", _prefix_constraint(asked, spec), _prefix(ours), _prefix(theirs))
        row(id, "hosts", _hosts_constraint(asked), "", "")
        row(id, "hardware", _macs_constraint(asked), "", "")
        for point in _points(ours, theirs, asked):
            row(id, point, _reserved(asked, point), _address(ours, point), _address(theirs, point))
        row(id, "MTU", "", _mtu(ours), _mtu(theirs))
    return made


def _cell(text: str) -> Text:
    return Text(text, style="dim" if text == ANY else "") if text else NONE


def _ends(spec: ServiceSpec | None, *sides: AddressingChoice | None) -> list[str]:
    named = [end.id for end in spec.ends] if spec else []
    for side in sides:
        named += [*side.labels, *side.path_headers, *side.reach] if side else []
    return list(dict.fromkeys(named))


def _links(spec: ServiceSpec | None, *sides: AddressingChoice | None) -> list[str]:
    named = [link.id for link in spec.links] if spec else []
    for side in sides:
        named += [link.link for link in side.links] if side else []
    return list(dict.fromkeys(named))


def _points(ours: LinkChoice | None, theirs: LinkChoice | None, asked: VirtualLink | None) -> list[str]:
    named = [r.point for r in asked.addressing.reserved if r.point] if asked else []
    for side in (ours, theirs):
        named += [point for stack in side.stacks for point in stack.addresses] if side else []
    return list(dict.fromkeys(named))


def _label_constraint(spec: ServiceSpec | None, id: str) -> str:
    end = next((end for end in spec.ends if end.id == id), None) if spec else None
    if end is None:
        return ""
    text = ANY if end.labels is None else str(end.labels) or "none"
    return text if end.suggested_label is None else f"{text} (suggested {end.suggested_label})"


def _label(side: AddressingChoice | None, end: str) -> str:
    if side is None or end not in side.labels:
        return ""
    return str(side.labels[end]) if side.labels[end] else "untagged"


def _header_constraint(spec: ServiceSpec | None, id: str) -> str:
    end = next((end for end in spec.ends if end.id == id), None) if spec else None
    return str(end.path_header) if end is not None and end.path_header is not None else ""


def _header(side: AddressingChoice | None, end: str) -> str:
    return str(side.path_headers[end]) if side is not None and end in side.path_headers else ""


def _reach(side: AddressingChoice | None, end: str) -> str:
    return ", ".join(map(str, side.reach.get(end, ()))) if side else ""


def _prefix_constraint(asked: VirtualLink | None, spec: ServiceSpec | None) -> str:
    """What is required of each family, and of what the other is to be where only one is."""
    if asked is None or spec is None:
        return ""
    stated = asked.addressing.prefixes
    lines = [*map(str, stated)]
    left = set(spec.link_versions()[asked.id]) - {prefix.version for prefix in stated}
    if asked.ports and (left or not stated):
        blocks = [str(p) for p in spec.blocks.allowed if p.version in (left or BOTH)]
        lines += [f"of {', '.join(blocks)}" if blocks else ANY]
    return "\n".join(lines) or ANY


def _hosts_constraint(asked: VirtualLink | None) -> str:
    return "\n".join(map(str, asked.addressing.hosts)) if asked else ""


def _macs_constraint(asked: VirtualLink | None) -> str:
    return str(asked.addressing.macs) if asked and asked.addressing.macs is not None else ""


def _reserved(asked: VirtualLink | None, point: str) -> str:
    mine = [r for r in asked.addressing.reserved if r.point == point] if asked else []
    return "\n".join(f"{r.address} ({r.role.short.lower()})" for r in mine)


def _prefix(side: LinkChoice | None) -> str:
    return "\n".join(map(str, side.prefixes)) if side else ""


def _address(side: LinkChoice | None, point: str) -> str:
    """Of each family, and the hardware address, where one was chosen."""
    if not side:
        return ""
    return "\n".join(map(str, (*side.all_addresses(point), *([side.macs[point]] if point in side.macs else []))))


def _mtu(side: LinkChoice | None) -> str:
    return str(side.mtu) if side and side.mtu else ""
