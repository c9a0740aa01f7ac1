"""Base types that every word of the model is built from.

Rules kept here
- An enum's value *is* its name in the protocol buffers (`LINK_KIND_LAN`), so that a value's JSON form is proto3 JSON.
  People write the short form (`LAN`); both are read, case does not matter.
- Identifiers are short and plain, so that they can be quoted, logged, and used in a file name anywhere.
- Every number has a bound: an absurd one is refused where it is read.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from address_planner.labels import LabelSet
from address_planner.macs import Mac, MacSet
from address_planner.port_ids import PortId

_REMEMBERED = 8192
_network = lru_cache(_REMEMBERED)(ip_network)
_address = lru_cache(_REMEMBERED)(ip_address)
"""An order's addresses are read again at every step and level: the same text gives the same value."""


def _prefix_in(value: Any) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return _network(value) if isinstance(value, str) else _network("")
    except ValueError:
        raise ValueError("not an IP prefix such as 192.0.2.0/24, without host bits") from None


def _address_in(value: Any) -> IPv4Address | IPv6Address:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        return _address(value) if isinstance(value, str) else _address("")
    except ValueError:
        raise ValueError("not an IP address") from None


def _either(first: str, second: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"format": first, "type": "string"}, {"format": second, "type": "string"}]})


Prefix = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_prefix_in),
    PlainSerializer(str, return_type=str),
    _either("ipv4network", "ipv6network"),
]
Address = Annotated[
    IPv4Address | IPv6Address,
    PlainValidator(_address_in),
    PlainSerializer(str, return_type=str),
    _either("ipv4", "ipv6"),
]


class Word(StrEnum):
    """An enum of the model: value = proto enum value name, `short` = what people write and read."""

    @classmethod
    def _prefix(cls) -> str:
        out = "".join(("_" + c) if c.isupper() else c.upper() for c in cls.__name__).lstrip("_")
        return out + "_"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if isinstance(value, str):
            name = value.upper().replace("-", "_").removeprefix(cls._prefix())
            return cls.__members__.get(name)
        if isinstance(value, int):  # a value of a newer release: tolerated where the enum has UNSPECIFIED
            return cls.__members__.get("UNSPECIFIED")
        return None

    @property
    def short(self) -> str:
        return self.name

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        names = [n for n in cls.__members__ if n != "UNSPECIFIED"]
        return {"title": cls.__name__, "enum": names, "type": "string"}


def _labels_in(value: Any) -> Any:
    if isinstance(value, LabelSet):
        return value
    if isinstance(value, int):
        return LabelSet.of([value])
    if isinstance(value, str):
        return LabelSet.parse(value)
    if isinstance(value, list | tuple):
        with suppress(TypeError, KeyError, AttributeError):  # what is no list of ranges
            ranges = tuple([(_bound(r.get("first", 0)), _bound(r["last"])) for r in value])
            return _label_set(ranges) if len(ranges) <= _SHORT else LabelSet(ranges)
    raise ValueError("a label set is a text like '100-199,300'")


_label_set = lru_cache(_REMEMBERED)(LabelSet)
"""Many SAPs have the same labels free: equal sets of few ranges are one."""
_SHORT = 16


def _bound(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, int | str):
        return int(value)
    raise TypeError("a bound is a number")


def _labels_out(labels: LabelSet) -> list[dict[str, int]]:
    return [{"first": first, "last": last} for first, last in labels.ranges]


Labels = Annotated[
    LabelSet,
    BeforeValidator(_labels_in),
    PlainSerializer(_labels_out, return_type=list[dict[str, int]]),
    WithJsonSchema({"type": "string", "pattern": "^[0-9, -]*$", "description": "e.g. 100-199,300"}),
]


def _macs_in(value: Any) -> MacSet:
    if isinstance(value, MacSet):
        return value
    if not isinstance(value, str):
        raise ValueError("a pool of hardware addresses is a text like 02:00:00:00:00:00-02:00:00:00:00:ff")
    return MacSet.parse(value)


def _mac_in(value: Any) -> Mac:
    if isinstance(value, Mac):
        return value
    return Mac.parse(value if isinstance(value, str) else "")


def _port_in(value: Any) -> PortId:
    if isinstance(value, PortId):
        return value
    return PortId.parse(value if isinstance(value, str) else "")


_MAC = "[0-9a-f]{2}(:[0-9a-f]{2}){5}"
Macs = Annotated[
    MacSet,
    PlainValidator(_macs_in),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^({_MAC}(-{_MAC})?(,|$))*$"}),
]
"""A pool of hardware addresses."""
MacText = Annotated[
    Mac,
    PlainValidator(_mac_in),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_MAC}$"}),
]
PortName = Annotated[
    PortId,
    PlainValidator(_port_in),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[^/]+(/[^/]+){3}$"}),
]
"""A logical port identifier, `sp/service/link/cp`."""


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs its offset from UTC, e.g. 2026-01-31T12:00:00Z")
    return value.astimezone(UTC)


Instant = Annotated[datetime, AfterValidator(_utc)]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
"""An identifier: 1-63 of letters, digits, dot, underscore and hyphen, beginning and ending with a letter or digit."""

PointName = Annotated[str, Field(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,125}[A-Za-z0-9])?$")]
"""A connection point: an end's id, or `function:port`."""

Text = Annotated[str, Field(max_length=1000)]
Label = Annotated[int, Field(ge=0, le=(1 << 24) - 1)]
Mtu = Annotated[int, Field(ge=576, le=65535)]
BitsPerSecond = Annotated[int, Field(ge=0, le=100_000_000_000_000)]
Microseconds = Annotated[int, Field(ge=0, le=60_000_000)]
