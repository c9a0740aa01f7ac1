"""What every command that reads an order's file takes: the file, where the ends of an NSD are, and what the customer brings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import TypeAdapter

from address_planner.labels import LabelSet
from broker.cli.faults import WrongInput
from service_model.brought import Brought, NotThere
from service_model.check import check
from service_model.families import AddressFamily
from service_model.spec import ServiceSpec
from service_model.words import Instant

OrderFile = Annotated[Path, typer.Option("-f", "--file", metavar="FILE", help="A spec, or a SONATA NSD.")]
FromSap = Annotated[str | None, typer.Option("--from", metavar="SAP", help="NSD: where its first path begins.")]
ToSap = Annotated[str | None, typer.Option("--to", metavar="SAP", help="NSD: where its first path ends.")]
Saps = Annotated[
    list[str] | None, typer.Option("--sap", metavar="CP=SAP", help="NSD: attach a connection point; repeatable.")
]
Families = Annotated[
    list[str] | None, typer.Option("--family", metavar="ipv4|ipv6", help="Of its addresses; both: say it twice.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="END=LABELS", help="Your own label there (VLAN, VNI); repeatable."),
]
Networks = Annotated[
    list[str] | None, typer.Option("--network", metavar="END=PREFIX", help="What lies behind an end; repeatable.")
]
Addresses = Annotated[
    list[str] | None,
    typer.Option("--address", metavar="POINT=ADDRESS/LENGTH", help="Of an end or a function's port; repeatable."),
]
Start = Annotated[
    str | None, typer.Option("--start", metavar="TIME", help="When it is to begin, e.g. 2026-01-31T12:00:00Z.")
]
End = Annotated[str | None, typer.Option("--end", metavar="TIME", help="When it is to end by itself.")]
Value = TypeVar("Value")


_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


def attachments(saps: list[str] | None) -> dict[str, str]:
    """Connection point → SAP. Raises WrongInput."""
    pairs = [item.partition("=") for item in saps or ()]
    for point, sign, sap in pairs:
        if not point or not sap:
            raise WrongInput(f"--sap {point + sign + sap!r}: give CONNECTION-POINT=SAP")
    return {point: sap for point, _, sap in pairs}


def brought(
    families: list[str] | None,
    labels: list[str] | None,
    networks: list[str] | None,
    addresses: list[str] | None,
    start: str | None = None,
    end: str | None = None,
) -> Brought:
    """What these options say. Raises WrongInput, which names the option."""
    return Brought(
        families=tuple(dict.fromkeys(_read("--family", f, f, _family) for f in families or ())),
        labels={end: values[-1] for end, values in _pairs("--label", labels, LabelSet.parse).items()},
        networks={end: tuple(values) for end, values in _pairs("--network", networks, ip_network).items()},
        addresses={point: tuple(values) for point, values in _pairs("--address", addresses, ip_interface).items()},
        start_time=_read("--start", start, start, _instant) if start is not None else None,
        end_time=_read("--end", end, end, _instant) if end is not None else None,
    )


def with_brought(spec: ServiceSpec, own: Brought) -> ServiceSpec:
    """The service with what the customer brings. Raises WrongInput where it has no such end, or contradicts itself then."""
    if own == Brought():
        return spec
    try:
        whole = own.to(spec)
    except NotThere as error:
        raise WrongInput(str(error)) from None
    if problems := check(whole):
        raise WrongInput("; ".join(f"{'.'.join(map(str, p.field))}: {p.reason}" for p in problems))
    return whole


def _instant(text: str) -> datetime:
    try:
        return _INSTANT.validate_python(datetime.fromisoformat(text))
    except ValueError:  # also pydantic's
        raise ValueError("a time needs its offset from UTC, e.g. 2026-01-31T12:00:00Z") from None


def _family(text: str) -> AddressFamily:
    if text.lower() not in ("ipv4", "ipv6"):
        raise ValueError("there are ipv4 and ipv6")
    return AddressFamily(text)


def _pairs(option: str, given: Iterable[str] | None, read: Callable[[str], Value]) -> dict[str, list[Value]]:
    out: dict[str, list[Value]] = {}
    for text in given or ():
        name, sign, value = text.rpartition("=")
        if not name or not sign:
            raise WrongInput(f"{option} {text!r}: give NAME=VALUE")
        out.setdefault(name, []).append(_read(option, text, value, read))
    return out


def _read(option: str, text: str, value: str, read: Callable[[str], Value]) -> Value:
    try:
        return read(value)
    except ValueError as error:
        raise WrongInput(f"{option} {text!r}: {error}") from None


def brought_words(
    families: list[str] | None,
    labels: list[str] | None,
    networks: list[str] | None,
    addresses: list[str] | None,
    start: str | None,
    end: str | None,
) -> tuple[tuple[str, list[str] | None], ...]:
    """What is brought, each option by its name, for `words`."""
    return (
        ("--family", families),
        ("--label", labels),
        ("--network", networks),
        ("--address", addresses),
        ("--start", [start] if start else None),
        ("--end", [end] if end else None),
    )


def words(
    file: Path,
    from_sap: str | None,
    to_sap: str | None,
    saps: list[str] | None,
    own: Iterable[tuple[str, list[str] | None]] = (),
) -> list[str]:
    """The same options, as they are written on a command line."""
    out = ["-f", str(file)]
    several = (("--sap", saps), *own)
    for option, value in (("--from", from_sap), ("--to", to_sap), *((o, v) for o, vs in several for v in vs or ())):
        out += [option, value] if value else []
    return out
