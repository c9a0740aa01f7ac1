"""What may be chosen for one service, as values that only ever become narrower.

Rules kept here
- A constraint is the set of choices that it admits. What is EXCLUDED was taken out of what is ALLOWED; what is REQUIRED is the
  one choice that is left.
- `a & b` (narrow) admits what both admit: it is associative, commutative and idempotent, and never widens. Where nothing is left
  it raises Contradiction, which names the culprit.
- `a <= b`: whatever a admits, b admits. A broker hands down what is `<=` what it was given itself.
- Who says nothing of a link, an end or a port admits anything there.
- A reserved address is what its role makes of it: a peer's or a tunnel's end is no address for a port, the gateway's is the only
  one for the port that is the gateway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from address_planner.adjacencies import Adjacencies
from address_planner.labels import ANY_LABEL, LabelSet
from address_planner.macs import ANY_MAC, MacSet
from address_planner.prefix_sets import EVERYWHERE, PrefixSet
from address_planner.prefixes import Prefix


class Contradiction(ValueError):
    """Two constraints that nothing fulfils together. `subject`: which link, end or port; empty where only one is spoken of."""

    def __init__(self, message: str, subject: str = "") -> None:
        super().__init__(f"{subject!r}: {message}" if subject else message)
        self.message, self.subject = message, subject


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConstraint:
    """Of one link: its prefix is `required`, or lies within `allowed`; the supplier's own ports take `hosts`; packets of
    `min_mtu` bytes pass."""

    required: Prefix | None = None
    allowed: PrefixSet = EVERYWHERE
    hosts: PrefixSet = EVERYWHERE
    min_mtu: int = 0

    def __post_init__(self) -> None:
        if self.required is not None:
            if self.required not in self.allowed:
                raise Contradiction(f"prefix {self.required} is required and not allowed")
            object.__setattr__(self, "allowed", PrefixSet.of([self.required]))

    def __and__(self, other: LinkConstraint) -> LinkConstraint:
        if None not in (self.required, other.required) and self.required != other.required:
            raise Contradiction(f"prefix {self.required} and prefix {other.required} are both required")
        required = other.required if self.required is None else self.required
        allowed, hosts = self.allowed & other.allowed, self.hosts & other.hosts
        if required is not None:
            allowed = (
                PrefixSet.of([required]) if required in self.allowed and required in other.allowed else PrefixSet()
            )
        if not allowed:
            raise Contradiction(f"no prefix is left{f' for {required}' if required else ''}")
        if not hosts:
            raise Contradiction("no address is left for a port")
        return LinkConstraint(required=required, allowed=allowed, hosts=hosts, min_mtu=max(self.min_mtu, other.min_mtu))

    def __le__(self, other: LinkConstraint) -> bool:
        return (
            (other.required is None or self.required == other.required)
            and self.allowed <= other.allowed
            and self.hosts <= other.hosts
            and self.min_mtu >= other.min_mtu
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EndConstraint:
    """Of one end: the labels that may be used there."""

    labels: LabelSet = ANY_LABEL

    def __and__(self, other: EndConstraint) -> EndConstraint:
        labels = self.labels & other.labels
        if not labels:
            raise Contradiction("no label is left")
        return EndConstraint(labels=labels)

    def __le__(self, other: EndConstraint) -> bool:
        return self.labels <= other.labels


@dataclass(frozen=True, slots=True, kw_only=True)
class PortConstraint:
    """Of one port of a function: the addresses that it may take, and the hardware addresses."""

    addresses: PrefixSet = EVERYWHERE
    macs: MacSet = ANY_MAC

    def __and__(self, other: PortConstraint) -> PortConstraint:
        addresses, macs = self.addresses & other.addresses, self.macs & other.macs
        if not addresses:
            raise Contradiction("no address is left for the port")
        if not macs:
            raise Contradiction("no hardware address is left for the port")
        return PortConstraint(addresses=addresses, macs=macs)

    def __le__(self, other: PortConstraint) -> bool:
        return self.addresses <= other.addresses and self.macs <= other.macs


_Part = TypeVar("_Part", LinkConstraint, EndConstraint, PortConstraint)
ANY_LINK, ANY_END, ANY_PORT = LinkConstraint(), EndConstraint(), PortConstraint()


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """Of a service or segment, by the ids of its links, ends and ports; `adjacencies`: which links are one."""

    links: Mapping[str, LinkConstraint] = field(default_factory=dict)
    ends: Mapping[str, EndConstraint] = field(default_factory=dict)
    ports: Mapping[str, PortConstraint] = field(default_factory=dict)
    adjacencies: Adjacencies = Adjacencies()

    def __and__(self, other: Constraint) -> Constraint:
        return Constraint(
            links=_narrowed(self.links, other.links),
            ends=_narrowed(self.ends, other.ends),
            ports=_narrowed(self.ports, other.ports),
            adjacencies=self.adjacencies & other.adjacencies,
        )

    def __le__(self, other: Constraint) -> bool:
        return self.adjacencies <= other.adjacencies and not any(self.wider(other))

    def of(self, other: Constraint) -> Constraint:
        """The part of it that is about what `other` is about."""
        return Constraint(
            links={id: link for id, link in self.links.items() if id in other.links},
            ends={id: end for id, end in self.ends.items() if id in other.ends},
            ports={id: port for id, port in self.ports.items() if id in other.ports},
        )

    def wider(self, other: Constraint) -> Iterator[str]:
        """The links, ends and ports where something is admitted that `other` does not admit."""
        yield from (id for id, theirs in other.links.items() if not self.links.get(id, ANY_LINK) <= theirs)
        yield from (id for id, theirs in other.ends.items() if not self.ends.get(id, ANY_END) <= theirs)
        yield from (id for id, theirs in other.ports.items() if not self.ports.get(id, ANY_PORT) <= theirs)


def _narrowed(a: Mapping[str, _Part], b: Mapping[str, _Part]) -> dict[str, _Part]:
    out = {**a, **b}
    for id in a.keys() & b.keys():
        try:
            out[id] = a[id] & b[id]
        except Contradiction as error:
            raise Contradiction(error.message, id) from None
    return out
