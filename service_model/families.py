"""The families of addresses that a service has: IPv4, IPv6 or both.

Rules kept here
- A link of two families is two links of one family each, side by side: what holds of one holds of each.
- Where both are told, IPv4 comes first.
"""

from __future__ import annotations

from collections.abc import Iterable

from service_model.words import Word

BOTH = (4, 6)
"""IP versions, in the order in which they are told."""
DUAL_STACK = "dual-stack"
"""The feature of who gives a link a prefix of each family; one of an earlier release would see the first alone."""
FIXED_PORTS = "fixed-ports"
"""The feature of who gives a function's port the address that is reserved for it."""


class AddressFamily(Word):
    UNSPECIFIED = "ADDRESS_FAMILY_UNSPECIFIED"
    IPV4 = "ADDRESS_FAMILY_IPV4"
    IPV6 = "ADDRESS_FAMILY_IPV6"


_VERSIONS = {AddressFamily.IPV4: 4, AddressFamily.IPV6: 6}
FAMILIES = {version: family for family, version in _VERSIONS.items()}
"""By IP version."""


ANY_FAMILY = (AddressFamily.IPV4, AddressFamily.IPV6)


def versions(families: Iterable[AddressFamily]) -> tuple[int, ...]:
    """IP versions of these, in order. A family of a newer release is passed over."""
    return tuple(sorted({_VERSIONS[family] for family in families if family in _VERSIONS}))


def families_of(versions: Iterable[int]) -> tuple[AddressFamily, ...]:
    """The families of these IP versions, in order."""
    return tuple(FAMILIES[version] for version in sorted(set(versions)))


def named(versions: Iterable[int]) -> str:
    """`IPv4 and IPv6`."""
    return " and ".join(f"IPv{version}" for version in sorted(set(versions)))
