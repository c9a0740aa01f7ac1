"""What the planner takes and gives: a snapshot of notes in, ranked plans or the binding constraint out.

Rules kept here
- Pure: `now`, the snapshot and what to avoid are arguments; the same input gives the same plans.
- A supplier is known by its local alias; a local domain and a lower SP look the same.
- An interconnect joins two suppliers of the snapshot when both notes name it, each names the other as peer, and exactly
  one side decides labels. One that only one note of the snapshot names is *dangling*: we may announce it as our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from capability_registry.note import CapabilityNote
from service_model.money import Price
from service_model.outcomes import Reason, ReasonCode


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplierView:
    """One supplier as planned with. `saps` maps the SAP names we announce to the supplier's own."""

    alias: str
    sp_id: str
    note: CapabilityNote
    local: bool
    saps: Mapping[str, str] = field(default_factory=dict)
    usable: bool = True
    """False while it drains, is in maintenance or disabled, or its note lapsed."""
    kept: float = 1.0
    """Which part of what it announced it made good, from 0 to 1 (`capability_registry.promises`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All notes at one moment. `own_sp_id` is the broker's; `number` grows with every change."""

    own_sp_id: str
    number: int
    suppliers: tuple[SupplierView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dearer:
    """By how much a supplier asked more than it had announced: for a function, or for a transit between two SAPs."""

    alias: str
    function: str = ""
    way: tuple[str, str] = ("", "")
    once: Decimal = Decimal(0)
    per_hour: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Avoid:
    """What crank-back learnt for this order: not to be planned again, or at these prices only.

    functions: (alias, function id); ways: (alias, SAP in, SAP out) of a transit; interconnects by id.
    """

    functions: frozenset[tuple[str, str]] = frozenset()
    ways: frozenset[tuple[str, str, str]] = frozenset()
    interconnects: frozenset[str] = frozenset()
    dearer: tuple[Dearer, ...] = ()

    def __or__(self, more: Avoid) -> Avoid:
        return Avoid(
            functions=self.functions | more.functions,
            ways=self.ways | more.ways,
            interconnects=self.interconnects | more.interconnects,
            dearer=self.dearer + more.dearer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSegment:
    """A maximal run at one supplier: enters at SAP `entry`, places `functions` (in path order), leaves at SAP `exit`.

    SAP ids are the supplier's own. `places` maps function id to place. `delay_us` is the budget handed down (plan plus
    a share of the slack), `price` what the note says. `swaps_labels` False: labels at entry and exit must be equal.
    `lans`: ids of the LAN links that this segment carries, and at which of its two SAPs they cross. `near`: of each
    distance by delay that runs through this segment, by id: its part of the bound in microseconds.
    """

    alias: str
    entry: str
    exit: str
    functions: tuple[str, ...]
    places: Mapping[str, str]
    price: Price
    delay_us: int
    swaps_labels: bool
    mtu: int
    lans: tuple[LanCarriage, ...] = ()
    near: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LanCarriage:
    lan: str
    at_entry: bool
    at_exit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Segments along the path; segment i's exit and segment i+1's entry are the two sides of `interconnects[i]`."""

    segments: tuple[PlannedSegment, ...]
    interconnects: tuple[str, ...]
    price: Price
    cost: Decimal
    delay_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A plan that would do but for one class of constraints: `code`; or for more, the others of which are `also`."""

    code: ReasonCode
    plan: Plan
    also: tuple[ReasonCode, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasible:
    """No plan: the binding constraint first, then what else is wrong. `nearest`: what would do if one did not hold, or where
    only several together bring a plan, all of them."""

    reasons: tuple[Reason, ...]
    nearest: tuple[Rejected, ...] = ()
