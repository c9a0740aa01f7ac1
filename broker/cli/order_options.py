"""What every command that reads an order takes: its file, where the ends of an NSD are, and what the customer brings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from functools import wraps
from inspect import Parameter, Signature, signature
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import TypeAdapter
from typer import Option

from address_planner.labels import LabelSet
from broker.cli.connection import Connection
from broker.cli.faults import WrongInput
from broker.cli.order_file import read_order, read_unjudged
from service_model.brought import Brought, NotThere
from service_model.check import check
from service_model.families import AddressFamily
from service_model.spec import FunctionType, ServiceSpec
from service_model.words import Instant

Value = TypeVar("Value")


_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


def _attachments(saps: list[str] | None) -> dict[str, str]:
    """Connection point → SAP. Raises WrongInput."""
    pairs = [item.partition("=") for item in saps or ()]
    for point, sign, sap in pairs:
        if not point or not sap:
            raise WrongInput(f"--sap {point + sign + sap!r}: give CONNECTION-POINT=SAP")
    return {point: sap for point, _, sap in pairs}


class Order:
    """The order that a command line names. Raises WrongInput, which names the option."""

    def __init__(
        self,
        file: Annotated[Path, Option("-f", "--file", metavar="FILE", help="A spec, or a SONATA NSD.")],
        from_sap: Annotated[
            str | None, Option("--from", metavar="SAP", help="NSD: where its first path begins.")
        ] = None,
        to_sap: Annotated[str | None, Option("--to", metavar="SAP", help="NSD: where its first path ends.")] = None,
        saps: Annotated[
            list[str] | None, Option("--sap", metavar="CP=SAP", help="NSD: attach a connection point; repeatable.")
        ] = None,
        families: Annotated[
            list[str] | None, Option("--family", metavar="ipv4|ipv6", help="Of its addresses; both: say it twice.")
        ] = None,
        labels: Annotated[
            list[str] | None,
            Option("--label", metavar="END=LABELS", help="Your own label there (VLAN, VNI); repeatable."),
        ] = None,
        networks: Annotated[
            list[str] | None,
            Option("--network", metavar="END=PREFIX", help="What lies behind an end; repeatable."),
        ] = None,
        addresses: Annotated[
            list[str] | None,
            Option("--address", metavar="POINT=ADDRESS/LENGTH", help="Of an end or a function's port; repeatable."),
        ] = None,
        start: Annotated[
            str | None, Option("--start", metavar="TIME", help="When it is to begin, e.g. 2026-01-31T12:00:00Z.")
        ] = None,
        end: Annotated[str | None, Option("--end", metavar="TIME", help="When it is to end by itself.")] = None,
    ) -> None:
        self.file, self._from, self._to = file, from_sap, to_sap
        self._attach = _attachments(saps)
        self._brought = Brought(
            families=tuple(dict.fromkeys(_read("--family", f, f, _family) for f in families or ())),
            labels={end: values[-1] for end, values in _pairs("--label", labels, LabelSet.parse).items()},
            networks={end: tuple(values) for end, values in _pairs("--network", networks, ip_network).items()},
            addresses={point: tuple(values) for point, values in _pairs("--address", addresses, ip_interface).items()},
            start_time=_read("--start", start, start, _instant) if start is not None else None,
            end_time=_read("--end", end, end, _instant) if end is not None else None,
        )
        told: tuple[tuple[str, Iterable[str | None]], ...] = (
            ("-f", [str(file)]),
            ("--from", [from_sap]),
            ("--to", [to_sap]),
            ("--sap", saps or ()),
            ("--family", families or ()),
            ("--label", labels or ()),
            ("--network", networks or ()),
            ("--address", addresses or ()),
            ("--start", [start]),
            ("--end", [end]),
        )
        self.words = [word for option, values in told for value in values if value for word in (option, value)]
        """The same options, as they are written on a command line."""

    def spec(self, connection: Connection, unsold: Collection[FunctionType] = ()) -> ServiceSpec:
        """What is ordered, over what the provider sells; as `read_order`. Raises WrongFile, WrongInput."""
        read = read_order(connection, self.file, self._from, self._to, self._attach, unsold)
        return _with_brought(read, self._brought)

    def unjudged(self) -> ServiceSpec:
        """What is ordered, whatever is sold; as `read_unjudged`. Raises WrongFile, WrongInput."""
        return _with_brought(read_unjudged(self.file, self._from, self._to, self._attach), self._brought)


def takes_order(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `order` is an Order: on its command line are the options of one in its place."""
    options = signature(Order, eval_str=True).parameters
    taken = [
        each.replace(kind=Parameter.KEYWORD_ONLY)
        for own in signature(command, eval_str=True).parameters.values()
        for each in (options.values() if own.name == "order" else (own,))
    ]

    @wraps(command)
    def told(**given: Any) -> None:
        command(order=Order(**{name: given.pop(name) for name in options}), **given)

    told.__dict__.pop("__wrapped__")
    told.__dict__["__signature__"] = Signature(taken)
    told.__annotations__ = {p.name: p.annotation for p in taken}
    return told


def _with_brought(spec: ServiceSpec, own: Brought) -> ServiceSpec:
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
