"""Names and tags of what the driver makes, so that everything is found again from the kernel alone.

Rules enforced here
- A namespace is `spb.<domain>.<segment>.<kind>.<id>`; domain and segment contain no dot, so it is read back exactly.
- A device name has 15 characters (IFNAMSIZ - 1) and none of `/`, `:`, blank; a port keeps its name where that fits,
  else it gets a hash. `lo`, `all` and `default` mean something to the kernel and are never used.
- What stands in a border namespace carries its domain and segment as the device's alias; for the instant between its
  creation and its alias, the name itself begins with a hash of both.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

FUNCTION = "f"
NETWORK = "n"
HEADER = "h"
BRIDGE = "bridge"
INSIDE, OUTSIDE = "inside", "outside"
"""The two devices of a HEADER namespace."""

_DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
_KERNEL_WORDS = frozenset({"lo", "all", "default"})


def check_domain(domain: str) -> None:
    """Raises ValueError when the domain cannot be part of names."""
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(f"domain {domain!r} is not 1-40 letters, digits, hyphens or underscores")


@dataclass(frozen=True, slots=True, order=True)
class NamespaceName:
    """`kind` is FUNCTION or NETWORK, `id` the one in the blueprint; or HEADER, and `id` is SAP and label."""

    domain: str
    segment: str
    kind: str
    id: str

    def __str__(self) -> str:
        return f"spb.{self.domain}.{self.segment}.{self.kind}.{self.id}"

    @classmethod
    def parse(cls, text: str, domain: str) -> NamespaceName | None:
        """The name if it is one of this domain's, else None."""
        parts = text.split(".", 4)
        if len(parts) != 5 or parts[0] != "spb" or parts[1] != domain or parts[3] not in (FUNCTION, NETWORK, HEADER):
            return None
        return cls(parts[1], parts[2], parts[3], parts[4])


def device_name(port: str) -> str:
    """A device name for a port (or any other identifier)."""
    if _DEVICE.fullmatch(port) and port not in _KERNEL_WORDS:
        return port
    return "p" + _hash(port, 14)


def border_prefix(domain: str, segment: str) -> str:
    """How the name of each device of this segment in a border namespace begins."""
    return "spb" + _hash(f"{domain}/{segment}", 7)


def border_device(domain: str, segment: str, sap: str, kind: str) -> str:
    """`kind` is one letter: `b` a bridge, `v` the veth to the service. At most 15 characters."""
    return border_prefix(domain, segment) + kind + _hash(sap, 4)


def border_tag(domain: str, segment: str) -> str:
    return f"spb:{domain}:{segment}"


def port_alias(index: int, port: str, *, management: bool) -> str:
    return f"{index}:{'management' if management else 'data'}:{port}"


@dataclass(frozen=True, slots=True)
class PortAlias:
    """What a port's device says about it: its place in the function, and its name in the blueprint."""

    index: int
    port: str
    management: bool

    @classmethod
    def parse(cls, alias: str) -> PortAlias | None:
        index, _, rest = alias.partition(":")
        use, _, port = rest.partition(":")
        if not index.isdecimal() or use not in ("management", "data") or not port:
            return None
        return cls(int(index), port, use == "management")


def hardware_address(key: str) -> str:
    """A locally administered unicast address (IEEE 802-2014, 8.2) that is the same for the same key."""
    octets = bytes.fromhex(_hash(key, 12))
    return ":".join(f"{octet:02x}" for octet in (octets[0] & 0xFC | 0x02, *octets[1:]))


def _hash(text: str, digits: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:digits]
