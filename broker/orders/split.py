"""From a plan to the segments that are handed down: each a ServiceSpec with its addressing constraint. Pure.

Rules kept here
- Every prefix that this broker or anyone below will choose is carved here from one allowed set, so nothing in the service
  overlaps at any depth. The prefix of a link that two segments share (an adjacency split here) is kept and told to both
  with disjoint hosts; the prefixes of links inside a segment are its share, aggregated.
- A constraint from above is passed on as it is to whoever holds the port: narrowed, never widened.
- The crossing between segment i and i+1 is one end id in both (`x1`, `x1.<lan>`), so bindings can name it.
- What lies behind the service's ends is excluded for all of them.
- Countries and isolation bind every segment, transits too. Hosts that functions share or not are a matter of the segment
  that has them; of a distance by delay each segment between its points gets its part of the bound. What the places of the
  plan keep (groups by place or supplier, kilometres) is not handed down: a supplier means other suppliers than we do.
- Isolation is asked for in the supplier's own words (`capability_registry.glossary`).
- A segment that is told any of these requires the feature: a supplier of an earlier release would not see them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from address_planner.classes import LabelClass, LabelsExhausted, Member, suggest
from address_planner.labels import ANY_LABEL, LabelSet
from address_planner.prefixes import PrefixTooSmall, aggregate, carve, host_bits, host_prefix, pick_hosts
from broker.decompose.chain import Chain, ChainLan
from broker.decompose.plan import Plan, PlannedSegment, Snapshot
from capability_registry.note import SapOffer
from service_model.constraints import PLACEMENT, Distance, Group, GroupScope
from service_model.outcomes import Nogood, Reason, ReasonCode
from service_model.spec import (
    AddressRole,
    Blocks,
    End,
    LinkAddressing,
    LinkKind,
    ReservedAddress,
    ServiceFunctionPath,
    ServiceSpec,
    VirtualLink,
    split_point,
)
from service_model.words import Address, Prefix

NO_COMMON_LABEL = "no common label is left where two segments meet"


class CannotAddress(Exception):
    """The plan cannot be addressed; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedDown:
    """One segment as asked of a supplier. `beyond` maps each of its ends to the id by which the service itself knows what
    lies there: the service's own end, on either side; `crossings` are its ends that are no ends of the service."""

    key: str
    alias: str
    spec: ServiceSpec
    towards: Mapping[str, str]
    crossings: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """`links`: what this broker decided itself for links that cross segments: prefix and every address on them.
    `classes`: the label classes over the segments' ends."""

    segments: tuple[HandedDown, ...]
    classes: tuple[LabelClass, ...]
    links: Mapping[str, CrossingLink]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossingLink:
    """A link whose points are in more than one segment: its prefix, and the address of each point that is decided here."""

    prefix: Prefix
    addresses: Mapping[str, Address] = field(default_factory=dict)


def block_bits(spec: ServiceSpec) -> int:
    """Host bits of one block that holds every prefix to be chosen for `spec`; 0 when none is."""
    addresses = sum(1 << bits for bits in _wanted(spec).values())
    return max(0, addresses - 1).bit_length()


def _wanted(spec: ServiceSpec) -> dict[str, int]:
    return {
        link.id: host_bits(len(link.points))
        for link in spec.links
        if link.addressing.prefix is None and any(split_point(p)[1] for p in link.points)
    }


def split(chain: Chain, plan: Plan, snapshot: Snapshot, allowed: tuple[Prefix, ...], key: str) -> Split:
    """`allowed`: the share from above, or the block taken for this service. `key` seeds labels and names.

    Raises CannotAddress (PREFIX_TOO_SMALL, LABELS_EXHAUSTED).
    """
    return _Splitter(chain, plan, snapshot, allowed, key).split()


class _Splitter:
    def __init__(self, chain: Chain, plan: Plan, snapshot: Snapshot, allowed: tuple[Prefix, ...], key: str) -> None:
        self.chain = chain
        self.spec = chain.spec
        self.plan = plan
        self.key = key
        self.views = {view.alias: view for view in snapshot.suppliers}
        behind = [n for end in self.spec.ends for n in end.networks]
        self.excluded = aggregate([*self.spec.blocks.excluded, *behind])
        required = [link.addressing.prefix for link in self.spec.links if link.addressing.prefix is not None]
        try:
            self.carved = carve(allowed, (*self.excluded, *required), _wanted(self.spec))
        except PrefixTooSmall as error:
            raise CannotAddress(
                Reason(
                    code=ReasonCode.PREFIX_TOO_SMALL,
                    message=str(error),
                    subject=error.wanted,
                    nogood=Nogood(needed_addresses=error.needed),
                )
            ) from None
        self.starts: list[int] = []
        count = 0
        for segment in plan.segments:
            self.starts.append(count)
            count += len(segment.functions)
        taken = {end.id for end in self.spec.ends}
        names = (f"x{n}" for n in range(1, 1000) if f"x{n}" not in taken)
        self.crossings = [next(names) for _ in plan.interconnects]
        self.holder = {f: i for i, s in enumerate(plan.segments) for f in s.functions}
        stretches = [s for line in plan.lines.values() for s in line]
        entries = {s.segment: s.entry for s in stretches if s.entry is not None}
        exits = {s.segment: s.exit for s in stretches if s.exit is not None}
        self.sides = [(entries[i], exits[i]) for i in range(len(plan.segments))]
        crossed = [(id, n) for id, line in plan.lines.items() for n in range(len(line) - 1)]
        self.beside = {lan: [crossed.index((j.line, j.after)) for j in joints] for lan, joints in plan.lans.items()}

    def split(self) -> Split:
        links = {link.id: crossing for link in self.spec.links if (crossing := self._crossing(link)) is not None}
        try:
            classes = suggest(tuple(self._classes()), self.key)
        except LabelsExhausted:
            raise CannotAddress(Reason(code=ReasonCode.LABELS_EXHAUSTED, message=NO_COMMON_LABEL)) from None
        wanted = {(m.segment, m.end): c for c in classes for m in c.members}
        segments = []
        for i, key in enumerate(self.keys()):
            spec = self._segment(i, key, links)
            ends = tuple(
                replace(e, labels=wanted[key, e.id].labels, suggested_label=wanted[key, e.id].suggested)
                if (key, e.id) in wanted
                else e
                for e in spec.ends
            )
            own = {end.id for end in self.spec.ends}
            segments.append(
                HandedDown(
                    key=key,
                    alias=self.plan.segments[i].alias,
                    spec=replace(spec, ends=ends),
                    towards=self._towards(i),
                    crossings=frozenset(e.id for e in ends if e.id not in own),
                )
            )
        return Split(segments=tuple(segments), classes=classes, links=links)

    def keys(self) -> list[str]:
        """A name for each segment that stays the same when the plan is made again: alias and its how-manieth visit."""
        visits: Counter[str] = Counter()
        out = []
        for segment in self.plan.segments:
            visits[segment.alias] += 1
            out.append(f"{segment.alias}.{visits[segment.alias]}")
        return out

    # ends

    def _edge(self, i: int, side: int) -> str:
        """The data end of segment i at its entry (side 0) or exit (side 1)."""
        if side == 0:
            return self.chain.a.id if i == 0 else self.crossings[i - 1]
        return self.chain.b.id if i == len(self.plan.segments) - 1 else self.crossings[i]

    def _lan_edge(self, i: int, side: int, lan: str) -> str:
        """The end of a LAN at the same SAP: the service's own one, or the crossing's."""
        chain_lan = next(x for x in self.chain.lans if x.id == lan)
        own = chain_lan.at_a if side == 0 else chain_lan.at_b
        outer = i == 0 if side == 0 else i == len(self.plan.segments) - 1
        if outer and own is not None:
            return own.id
        return f"{self._edge(i, side)}.{lan}"

    def _ends(self, i: int) -> Iterator[End]:
        own = {end.id: end for end in self.spec.ends}
        for side, sap in enumerate(self.sides[i]):
            ids = [self._edge(i, side)]
            ids += [self._lan_edge(i, side, lan.id) for lan in self.chain.lans if self._leaves(i, side, lan)]
            for id in ids:
                yield replace(own[id], sap=sap) if id in own else End(id=id, sap=sap)

    def _leaves(self, i: int, side: int, lan: ChainLan) -> bool:
        """Whether a LAN goes beside the data there."""
        if i + side == 0:
            return lan.at_a is not None
        if i + side == len(self.plan.segments):
            return lan.at_b is not None
        return i + side - 1 in self.beside.get(lan.id, ())

    def _towards(self, i: int) -> dict[str, str]:
        return {self._edge(i, 0): self.chain.a.id, self._edge(i, 1): self.chain.b.id}

    # links

    def _segments_of(self, link: VirtualLink) -> set[int]:
        last = len(self.plan.segments) - 1
        ends = {self.chain.a.id: 0, self.chain.b.id: last}
        for lan in self.chain.lans:
            if lan.at_a is not None:
                ends[lan.at_a.id] = 0
            if lan.at_b is not None:
                ends[lan.at_b.id] = last
        return {ends[p] if p in ends else self.holder[split_point(p)[0]] for p in link.points}

    def _crossing(self, link: VirtualLink) -> CrossingLink | None:
        """What this broker decides for a link in several segments. None: it lies in one, which decides, or has no layer 3."""
        if len(self._segments_of(link)) == 1 or not any(split_point(p)[1] for p in link.points):
            return None
        given = {r.point: r.address for r in link.addressing.reserved if r.point is not None}
        prefix = link.addressing.prefix or self.carved[link.id]
        ports = [p for p in link.points if split_point(p)[1]]
        ends = [p for p in link.points if not split_point(p)[1]]
        taken = [r.address for r in link.addressing.reserved]
        try:
            addresses = {p: given[p] for p in ends if p in given}
            if link.kind is LinkKind.LINE:
                addresses |= pick_hosts(prefix, (), taken, [p for p in ends if p not in given])
            gateway = next((r.address for r in link.addressing.reserved if r.role is AddressRole.GATEWAY), None)
            if gateway is not None and link.kind is LinkKind.LINE and len(ports) == 1:
                addresses[ports[0]] = gateway
            left = [p for p in ports if p not in addresses]
            addresses |= pick_hosts(prefix, link.addressing.hosts, [*taken, *addresses.values()], left)
        except PrefixTooSmall as error:
            raise CannotAddress(
                Reason(code=ReasonCode.ADDRESS_EXHAUSTED, message=f"link {link.id!r}: {error}", subject=link.id)
            ) from None
        return CrossingLink(prefix=prefix, addresses=addresses)

    def _addressing(
        self, link: VirtualLink, mine: list[str], far: str | None, crossing: CrossingLink
    ) -> LinkAddressing:
        """The constraint for a segment that holds the ports `mine` of a crossing link; `far` is its end towards the rest."""
        others = [r for r in link.addressing.reserved if r.role is not AddressRole.GATEWAY and r.point is None]
        reserved = [
            ReservedAddress(role=AddressRole.PEER, address=address, point=far if link.kind is LinkKind.LINE else None)
            for point, address in crossing.addresses.items()
            if point not in mine
        ]
        hosts = tuple(host_prefix(crossing.addresses[p]) for p in mine if p in crossing.addresses)
        return LinkAddressing(prefix=crossing.prefix, hosts=aggregate(hosts), reserved=(*others, *reserved))

    def _segment(self, i: int, key: str, links: Mapping[str, CrossingLink]) -> ServiceSpec:
        planned = self.plan.segments[i]
        start, count = self.starts[i], len(planned.functions)
        chain = self.chain
        out: list[VirtualLink] = []
        share: list[Prefix] = []
        for k in range(start, start + count + 1):
            left = self._edge(i, 0) if k == start else f"{chain.functions[k - 1].id}:{chain.ports[k - 1][1]}"
            right = self._edge(i, 1) if k == start + count else f"{chain.functions[k].id}:{chain.ports[k][0]}"
            line = chain.lines[k]
            addressing = line.addressing
            mine = [p for p in (left, right) if split_point(p)[1]]
            if line.id in links:
                far = next((p for p in (left, right) if not split_point(p)[1]), None)
                addressing = self._addressing(line, mine, far, links[line.id]) if mine else LinkAddressing()
            elif line.id in self.carved:
                share.append(self.carved[line.id])
            out.append(VirtualLink(id=line.id, kind=LinkKind.LINE, points=(left, right), addressing=addressing))
        hops = tuple(point for line in out for point in line.points)
        for lan in chain.lans:
            sides = [side for side in (0, 1) if self._leaves(i, side, lan)]
            if sides or any(start <= m < start + count for m in lan.members):
                out.append(self._lan_link(i, planned, lan.id, sides, links, share))
        functions = tuple(
            replace(chain.functions[k], places=(planned.places[chain.functions[k].id],))
            for k in range(start, start + count)
        )
        segment = ServiceSpec(
            name=f"s-{self.key[:8]}-{i + 1}",
            ends=tuple(self._ends(i)),
            functions=functions,
            links=tuple(out),
            paths=(ServiceFunctionPath(id="path", hops=hops),),
            blocks=Blocks(allowed=aggregate(share), excluded=self.excluded),
            bandwidth_bps=self.spec.bandwidth_bps,
            max_delay_us=self._max_delay(planned),
            min_mtu=self.spec.min_mtu,
            term_hours=self.spec.term_hours,
            start_time=self.spec.start_time,
            end_time=self.spec.end_time,
            required_features=self.spec.required_features,
            groups=tuple(self._groups(planned)),
            distances=tuple(self._distances(i, planned)),
            countries=self.spec.countries,
            isolation=self.views[planned.alias].glossary.theirs(self.spec.isolation),
        )
        if segment.needs_placement() and PLACEMENT not in segment.required_features:
            return replace(segment, required_features=(*segment.required_features, PLACEMENT))
        return segment

    # where functions may be

    def _groups(self, planned: PlannedSegment) -> Iterator[Group]:
        """Functions of other segments are no matter of this one: the plan keeps them at other places."""
        for group in self.spec.groups:
            here = tuple(f for f in group.functions if f in planned.functions)
            if group.scope is GroupScope.HOST and len(here) > 1:
                yield replace(group, functions=here)

    def _distances(self, i: int, planned: PlannedSegment) -> Iterator[Distance]:
        """Of each distance by delay with a point here: to its other point, or to where the segment ends towards it."""
        order = {self.chain.a.id: -1, self.chain.b.id: len(self.chain.functions)}
        order |= {f.id: k for k, f in enumerate(self.chain.functions)}
        for distance in self.spec.distances:
            points = sorted((distance.function, distance.to), key=order.__getitem__)
            here = [p for p in points if p in planned.functions]
            if distance.id not in planned.near or not here:
                continue
            to = points[1] if len(here) == 2 else self._edge(i, 1 if here[0] == points[0] else 0)
            yield replace(distance, function=here[0], to=to, max_km=None, max_delay_us=planned.near[distance.id])

    def _max_delay(self, planned: PlannedSegment) -> int | None:
        """Of the service's bound, and of each distance by delay that goes through the segment from side to side."""
        points = {d.id: {d.function, d.to} for d in self.spec.distances}
        through = [us for id, us in planned.near.items() if not points[id].intersection(planned.functions)]
        return min([*through, *(self._budget(planned))], default=None)

    def _budget(self, planned: PlannedSegment) -> list[int]:
        """What the segment may take of the path's bound."""
        (path,) = self.spec.paths
        return [sum(planned.budgets[path.id])] if self.spec.delay_limit(path) is not None else []

    def _lan_link(
        self,
        i: int,
        planned: PlannedSegment,
        lan: str,
        sides: list[int],
        links: Mapping[str, CrossingLink],
        share: list[Prefix],
    ) -> VirtualLink:
        whole = self.spec.link(lan)
        mine = [p for p in whole.points if split_point(p)[0] in planned.functions]
        edges = [self._lan_edge(i, side, lan) for side in sides]
        addressing = whole.addressing
        if lan in links:
            addressing = self._addressing(whole, mine, None, links[lan]) if mine else LinkAddressing()
        elif lan in self.carved:
            share.append(self.carved[lan])
        return VirtualLink(id=lan, kind=LinkKind.LAN, points=(*mine, *edges), addressing=addressing)

    # labels

    def _classes(self) -> Iterator[LabelClass]:
        """One class per lane (data, each LAN) and run of crossings that no swapping segment parts."""
        yield from self._lane("data", self._edge, range(len(self.crossings)))
        for lan in self.chain.lans:
            yield from self._lane(lan.id, partial(self._lan_edge, lan=lan.id), self.beside.get(lan.id, ()))

    def _lane(self, name: str, edge: Callable[[int, int], str], crossings: Iterable[int]) -> Iterator[LabelClass]:
        keys = self.keys()
        own = {end.id: end for end in self.spec.ends}
        open_class: LabelClass | None = None
        for n in crossings:
            before, after = self.plan.segments[n], self.plan.segments[n + 1]
            left, right = self._sap(before.alias, self.sides[n][1]), self._sap(after.alias, self.sides[n + 1][0])
            members: tuple[Member, ...] = (
                Member(segment=keys[n], end=edge(n, 1), decides=left.decides_labels),
                Member(segment=keys[n + 1], end=edge(n + 1, 0), decides=right.decides_labels),
            )
            labels: LabelSet = left.labels & right.labels
            tied = not before.swaps_labels
            if tied and n == 0:  # the service's own end is tied to this crossing
                outer = own.get(edge(0, 0))
                if outer is not None:
                    labels &= self._outer(before.alias, self.sides[0][0], outer)
                    members = (Member(segment=keys[0], end=outer.id), *members)
            if open_class is not None and tied:
                open_class = replace(
                    open_class,
                    members=(*open_class.members, *members),
                    interconnects=(*open_class.interconnects, self.plan.interconnects[n]),
                    labels=open_class.labels & labels,
                )
            else:
                if open_class is not None:
                    yield open_class
                open_class = LabelClass(
                    id=f"{name}{n}", members=members, interconnects=(self.plan.interconnects[n],), labels=labels
                )
            last = len(self.plan.segments) - 1
            if n + 1 == last and not after.swaps_labels:
                outer = own.get(edge(last, 1))
                if outer is not None:
                    open_class = replace(
                        open_class,
                        members=(*open_class.members, Member(segment=keys[last], end=outer.id)),
                        labels=open_class.labels & self._outer(after.alias, self.sides[last][1], outer),
                    )
        if open_class is not None:
            yield open_class

    def _outer(self, alias: str, sap: str, end: End) -> LabelSet:
        return self._sap(alias, sap).labels & (end.labels if end.labels is not None else ANY_LABEL)

    def _sap(self, alias: str, sap: str) -> SapOffer:
        offer = self.views[alias].note.sap(sap)
        assert offer is not None, "a plan names only SAPs of its snapshot"
        return offer
