"""A capability note in tables: places, function types, attachment points, and the border matrix."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table

from broker.cli.rendering.figures import bandwidth_text, delay_text, facts, price_text, table, time_text
from broker.cli.rendering.text import Text
from capability_registry.note import (
    BorderEntry,
    BorderPoint,
    CapabilityNote,
    FunctionOffer,
    Lifecycle,
    PointKind,
    PortRole,
)
from capability_registry.packing import total
from capability_registry.periods import seen
from service_model.families import versions


def note_tables(note: CapabilityNote) -> Group:
    """Everything that a customer orders by; what the note does not have is left out."""
    parts: list[Table | Text] = [_head(note)]
    sections = (
        (note.places, _places),
        (note.functions, _functions),
        (note.saps, _saps),
        ((*note.matrix, *note.guarded), _matrix),
        (note.qos_classes, _classes),
        (note.outages, _outages),
        (note.periods, _periods),
    )
    for content, make in sections:
        if content:
            parts += [Text(), make(note)]
    return Group(*parts)


def _head(note: CapabilityNote) -> Table:
    trial = "" if note.lifecycle is Lifecycle.ACTIVE else f"  {note.lifecycle.short.lower()}"
    return facts(
        (
            ("provider", Text(note.sp_id, style="bold").append(trial, style="yellow")),
            ("edition", f"{note.edition}, for {note.audience}" if note.audience else str(note.edition)),
            ("valid", f"{time_text(note.not_before)} to {time_text(note.expires)}"),
            ("hold", f"at most {note.max_hold_s} s"),
        )
    )


def _places(note: CapabilityNote) -> Table:
    made = table("Places", "PLACE", "COUNTRY", "FREE CAPACITY", "LAN", "TAGS")
    capacities = {capacity.place: capacity for capacity in note.capacities}
    for place in note.places:
        free = capacities.get(place.id)
        bins = " + ".join(f"{b.count} × {b.size}" for b in free.bins if b.count and b.size) if free else ""
        made.add_row(
            Text(place.id + (" (several)" if place.merged else "")),
            Text(place.told_country or "–"),
            Text(bins or "–"),
            Text("yes" if free and free.lan else "–"),
            Text(" ".join(place.tags), style="dim"),
        )
    return made


def _functions(note: CapabilityNote) -> Table:
    """One line per type and flavour; places that offer the same are put together."""
    made = table("Functions", "TYPE", "FLAVOUR", "RUNTIME", "SIZE", "PRICE", "PORTS", "IP", "PLACES",
                 right=("SIZE", "PRICE"))  # fmt: skip
    places: dict[tuple[str, str, str, int, int, str, str, str], list[str]] = {}
    for offer in note.functions:
        ports = " ".join(
            f"{port.name}*" if port.role is PortRole.MANAGEMENT else port.name for port in offer.ports
        )  # management
        for flavour in offer.flavours:
            key = (str(offer.type), flavour.name, flavour.runtime.short.lower(), flavour.units,
                   flavour.max_bandwidth_bps, price_text(flavour.price), ports, _forwards(offer))  # fmt: skip
            places.setdefault(key, []).append(offer.place)
    last = ""
    for (type_, flavour_name, runtime, units, most, price, ports, forwards), where in sorted(places.items()):
        size = f"{units}, to {bandwidth_text(most)}" if most else str(units)
        made.add_row(
            Text("" if type_ == last else type_),
            *map(Text, (flavour_name, runtime, size, price, ports, forwards)),
            Text(" ".join(where)),
        )
        last = type_
    made.caption = "* management port" if any("*" in key[6] for key in places) else None
    made.caption_justify, made.caption_style = "left", "dim"
    return made


def _forwards(offer: FunctionOffer) -> str:
    """The IP versions that a function forwards at once."""
    told = versions(offer.families)
    return "+".join(map(str, told)) if told else "4 or 6"


def _saps(note: CapabilityNote) -> Table:
    made = table("Attachment points", "SAP", "ROLE", "PLACE", "ENCAPSULATION", "FREE LABELS", "MTU", "BANDWIDTH", "PEER",
                 right=("MTU", "BANDWIDTH"))  # fmt: skip
    for sap in note.saps:
        labels = "untagged" if str(sap.labels) == "0" else str(sap.labels) or "none free"
        made.add_row(
            *map(Text, (sap.id, sap.role.short, sap.place, sap.encapsulation.short.lower(), labels, str(sap.mtu))),
            Text(bandwidth_text(sap.bandwidth_bps)),
            Text(f"{sap.peer} {sap.interconnect}".strip(), style="dim"),
        )
    return made


def _matrix(note: CapabilityNote) -> Table:
    heads = ("PRICE", "DELAY", "BANDWIDTH", "AVAILABLE")
    made = table("Between them", "FROM", "TO", "WAY", *heads, right=heads)
    for entry in (*note.matrix, *note.guarded):
        for i, (name, point) in enumerate(_ways(entry)):
            made.add_row(
                Text(entry.a if i == 0 else ""),
                Text(entry.b if i == 0 else ""),
                Text(name, style="dim"),
                Text(price_text(point.price)),
                Text(delay_text(point.delay_us)),
                Text(bandwidth_text(point.bandwidth_bps)),
                Text(f"{point.availability * 100:.6g} %"),
            )
    return made


def _ways(entry: BorderEntry) -> list[tuple[str, BorderPoint]]:
    """The cheapest and the fastest on one line where they are the same way."""
    ways = [(point.kind.short.lower(), point) for point in entry.points]
    figures = {(p.price, p.delay_us, p.bandwidth_bps, p.availability) for p in entry.points}
    if (
        len(ways) > 1
        and len(figures) == 1
        and {p.kind for p in entry.points} >= {PointKind.CHEAPEST, PointKind.FASTEST}
    ):
        return [("only way", entry.points[0])]
    return ways


def _classes(note: CapabilityNote) -> Table:
    made = table("Classes of service", "CLASS", "DELAY", "AVAILABLE", right=("DELAY", "AVAILABLE"))
    for each in note.qos_classes:
        delay = f"at most {delay_text(each.max_delay_us)}" if each.max_delay_us else "–"
        works = f"at least {each.min_availability * 100:.6g} %" if each.min_availability else "–"
        made.add_row(Text(each.name), Text(delay), Text(works))
    return made


def _outages(note: CapabilityNote) -> Table:
    made = table("Planned outages", "WHERE", "FROM", "TO")
    for outage in note.outages:
        made.add_row(Text(outage.subject), Text(time_text(outage.start)), Text(time_text(outage.end)))
    return made


def _periods(note: CapabilityNote) -> Table:
    """Of each window what is free then, where that is otherwise."""
    made = table("More is free in these windows", "FROM", "UNTIL", "OF", "ALWAYS", "THEN", right=("ALWAYS", "THEN"))
    for number, period in enumerate(note.periods):
        cells = [
            time_text(period.start) if period.start else "now",
            time_text(period.end) if period.end else "for ever",
        ]
        for what, always, then in _differing(note, number):
            made.add_row(*map(Text, (*cells, what, always, then)))
            cells = ["", ""]
    return made


def _differing(note: CapabilityNote, number: int) -> Iterator[tuple[str, str, str]]:
    then = seen(note, number)
    for before, now in zip(note.capacities, then.capacities, strict=True):
        if before.bins != now.bins:
            yield before.place, str(total(before.bins)), str(total(now.bins))
    for sap, more in zip(note.saps, then.saps, strict=True):
        if sap.bandwidth_bps != more.bandwidth_bps:
            yield sap.id, bandwidth_text(sap.bandwidth_bps), bandwidth_text(more.bandwidth_bps)
    entries = zip((*note.matrix, *note.guarded), (*then.matrix, *then.guarded), strict=True)
    for entry, wider in entries:
        always, widest = (max(point.bandwidth_bps for point in each.points) for each in (entry, wider))
        if always != widest:
            yield f"{entry.a} to {entry.b}", bandwidth_text(always), bandwidth_text(widest)
