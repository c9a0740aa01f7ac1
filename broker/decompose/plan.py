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

from capability_registry.glossary import SAME_WORDS, Glossary
from capability_registry.note import CapabilityNote
from service_model.money import Price
from service_model.outcomes import Reason, ReasonCode
from service_model.words import Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplierView:
    """One supplier as planned with. `saps` maps the SAP names we announce to the supplier's own; `note` is in our words,
    and `glossary` knows the supplier's."""

    alias: str
    sp_id: str
    note: CapabilityNote
    local: bool
    saps: Mapping[str, str] = field(default_factory=dict)
    usable: bool = True
    """False while it drains, is in maintenance or disabled, or its note lapsed."""
    kept: float = 1.0
    """Which part of what it announced it made good, from 0 to 1 (`capability_registry.promises`)."""
    glossary: Glossary = SAME_WORDS
    sold_besides: bool = False
    """Whether others sell it too: what joins it inside of us is announced, to hand over there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All notes at one moment. `own_sp_id` is the broker's; `number` grows with every change. `caution`: by which part dearer
    a supplier counts that keeps nothing of what it announces; one that keeps all counts as it asks. `hoped`: its notes also
    tell what was announced before, and is not now."""

    own_sp_id: str
    number: int
    suppliers: tuple[SupplierView, ...]
    caution: float = 0.0
    hoped: bool = False


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

    functions: (alias, function id), everywhere at the supplier; placings: (alias, function id, place); ways: (alias, point,
    point) in both directions, where a point is a SAP or a place; saps: (alias, SAP); interconnects by id.
    """

    functions: frozenset[tuple[str, str]] = frozenset()
    placings: frozenset[tuple[str, str, str]] = frozenset()
    ways: frozenset[tuple[str, str, str]] = frozenset()
    saps: frozenset[tuple[str, str]] = frozenset()
    interconnects: frozenset[str] = frozenset()
    dearer: tuple[Dearer, ...] = ()

    def __or__(self, more: Avoid) -> Avoid:
        return Avoid(
            functions=self.functions | more.functions,
            placings=self.placings | more.placings,
            ways=self.ways | more.ways,
            saps=self.saps | more.saps,
            interconnects=self.interconnects | more.interconnects,
            dearer=self.dearer + more.dearer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The part of a LINE that lies in one segment: from where it comes in to where it leaves, as its `Line` is directed.

    `entry` and `exit` are the supplier's own SAP ids; None: there it begins or ends at a function's port. `interconnect`
    leads to `entry` from the stretch before; None for a LINE's first. `entry_labels`, `exit_labels`: what may be used there
    on the way that is planned; None: whatever is free.
    """

    segment: int
    entry: str | None
    exit: str | None
    interconnect: str | None = None
    swaps_labels: bool = True
    entry_labels: Labels | None = None
    exit_labels: Labels | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """Where a LINE goes over an interconnect from its stretch `after` to the next one."""

    line: str
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where an end of a LAN is that stands beside no path's end: the segment and the supplier's own SAP id."""

    segment: int
    sap: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LanJoint:
    """Where a LAN goes over an interconnect by itself: between the supplier's SAPs of two segments."""

    interconnect: str
    a: Site
    b: Site


@dataclass(frozen=True, slots=True, kw_only=True)
class LanTree:
    """What joins a LAN beyond the lines that it goes beside. `sites`: by the ids of its ends."""

    joints: tuple[LanJoint, ...] = ()
    sites: Mapping[str, Site] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSegment:
    """What one supplier is to deliver: functions and stretches of LINEs, or a part of a LAN by itself.

    `functions` in the order of the service, `places` by function. `budgets`: of each path that runs through it, by id, the
    delay handed down (plan plus a share of the slack) for each of its visits in order, microseconds. `price`: what the note
    says. `near`: of each distance by delay that runs through it, by id: by path, each visit's part of the bound in
    microseconds, None where it is not between the two points. `availability`: its part of that bound, if there is one.
    """

    alias: str
    functions: tuple[str, ...]
    places: Mapping[str, str]
    price: Price
    mtu: int
    budgets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    near: Mapping[str, Mapping[str, tuple[int | None, ...]]] = field(default_factory=dict)
    availability: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`lines`: of each LINE of the service, by id, its stretches in order. `lans`: of each LAN, by id, the joints that it
    goes beside; `trees`: of each LAN that these do not join, what does. `delay_us` is that of the slowest path, 0 where there
    is none."""

    segments: tuple[PlannedSegment, ...]
    lines: Mapping[str, tuple[Stretch, ...]]
    lans: Mapping[str, tuple[Joint, ...]] = field(default_factory=dict)
    trees: Mapping[str, LanTree] = field(default_factory=dict)
    price: Price
    cost: Decimal
    delay_us: int

    @property
    def lan_sites(self) -> tuple[Site, ...]:
        """Where LANs end beside no line, at interconnects too."""
        return tuple(
            site
            for tree in self.trees.values()
            for site in (*tree.sites.values(), *(s for joint in tree.joints for s in (joint.a, joint.b)))
        )

    @property
    def interconnects(self) -> tuple[str, ...]:
        """The interconnects that LINEs cross, LINE by LINE in order, and then those that LANs cross by themselves."""
        crossed = [s.interconnect for line in self.lines.values() for s in line if s.interconnect is not None]
        return (*crossed, *(joint.interconnect for tree in self.trees.values() for joint in tree.joints))


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
