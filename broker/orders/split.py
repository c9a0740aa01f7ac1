"""From a plan to the segments that are handed down: each a ServiceSpec with its addressing constraint. Pure.

Rules kept here
- A segment has the service's ends that lie in it and one for each joint, the sections of its LINEs, and each path from joint
  to joint. Paths that are one there are one, for all their packets; flows go down only where paths part or meet.
- What is told of paths, places and ways is as in `bounds`, of prefixes and hosts in `addressing`, of labels in `lanes`, of path
  headers in `path_headers`.
- Isolation is asked for in the supplier's own words (`capability_registry.glossary`).
- A segment that has LANs alone, of a service that has paths, has no bandwidth of its own.
- A segment that is told what a supplier of an earlier release would not see requires the feature.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from address_planner.classes import LabelClass, LabelsExhausted, shortened, suggest
from address_planner.labels import NO_LABEL, LabelSet
from address_planner.prefixes import aggregate
from address_planner.stacks import NOTHING
from broker.decompose.mesh import Mesh
from broker.decompose.plan import Plan, Snapshot, SupplierView
from broker.orders import bounds
from broker.orders.addressing import Addressing, CannotAddress, CrossingLink, decide
from broker.orders.bounds import Told
from broker.orders.cut import Cut
from broker.orders.lanes import label_classes
from broker.orders.path_headers import headers, with_headers
from service_model.constraints import PLACEMENT
from service_model.families import DUAL_STACK, FIXED_PORTS, AddressFamily, families_of
from service_model.flows import PATHS
from service_model.outcomes import Reason, ReasonCode
from service_model.qos import QOS, QosClass, class_of
from service_model.replacing import replace
from service_model.spec import LAN_SITES, MACS, Blocks, End, LinkKind, ServiceSpec, VirtualLink, split_point
from service_model.words import Prefix

NO_COMMON_LABEL = "no common label is left where two segments meet"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedDown:
    """One segment as asked of a supplier.

    `towards`: what lies at each of its ends, on either side, as the service knows it: `end@path` for each of its ends and
    the path that leads there. Where that differs by the segment's own path, it is also under `end@path` of the segment.
    `crossings`: its ends that are no ends of the service. `lines`: its links that the service knows by another id.
    """

    key: str
    alias: str
    spec: ServiceSpec
    towards: Mapping[str, tuple[str, ...]]
    crossings: frozenset[str]
    lines: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """`links`: what this broker decided itself for links that cross segments: prefix and every address on them.
    `classes`: the label classes over the segments' ends. `carved`: the prefix of each link whose prefix was chosen here."""

    segments: tuple[HandedDown, ...]
    classes: tuple[LabelClass, ...]
    links: Mapping[str, CrossingLink]
    carved: Mapping[str, tuple[Prefix, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Had:
    """What a live version of the service has, and keeps where it can: what was decided of links, and by (segment, end) labels."""

    links: Mapping[str, CrossingLink] = field(default_factory=dict)
    labels: Mapping[tuple[str, str], int] = field(default_factory=dict)
    left: Mapping[str, LabelSet] = field(default_factory=dict)
    """By interconnect, what is not used there again where there is anything else: whoever was lost may still use it."""

    def suggested(self, item: LabelClass) -> LabelClass:
        """The class with the label that it had, if it may have it still."""
        others = item.labels - reduce(or_, (self.left.get(id, NO_LABEL) for id in item.interconnects), NO_LABEL)
        item = replace(item, labels=others) if others else item
        before = (self.labels.get((member.segment, member.end)) for member in item.members)
        label = next((value for value in before if value is not None and value in item.labels), None)
        return item if label is None else replace(item, suggested=label)


NEW = Had()


def split(
    mesh: Mesh,
    plan: Plan,
    snapshot: Snapshot,
    allowed: tuple[Prefix, ...],
    key: str,
    qos: Iterable[QosClass] = (),
    kept: Mapping[str, Sequence[Prefix]] = NOTHING,
    unusable: tuple[Prefix, ...] = (),
    path_ids: Mapping[str, int] | None = None,
    live: Had = NEW,
) -> Split:
    """`allowed`: the share from above, or the block taken for this service. `key` seeds labels and names. `qos`: what the
    service's class may be; its bounds are in the spec. `kept`, `unusable`: of prefixes, as in `decide`. `path_ids`: the
    identifiers of paths, where they have any. `live`: what a live version has.

    Raises CannotAddress (PREFIX_TOO_SMALL, ADDRESS_EXHAUSTED, LABELS_EXHAUSTED).
    """
    cut = Cut(mesh, plan)
    addressing = decide(cut, allowed, kept, unusable, live.links)
    try:
        classes = tuple(map(shortened, suggest(tuple(map(live.suggested, label_classes(cut, snapshot))), key)))
    except LabelsExhausted as error:
        none = Reason(code=ReasonCode.LABELS_EXHAUSTED, message=NO_COMMON_LABEL)
        raise CannotAddress(none, error.label_class.interconnects) from None
    labels = {(m.segment, m.end): c for c in classes for m in c.members}
    told = headers(cut, snapshot, path_ids or {})
    own = {end.id for end in mesh.spec.ends}
    views = {view.alias: view for view in snapshot.suppliers}
    had = mesh.spec.versions
    families = families_of(had) if mesh.spec.families or len(had) > 1 else ()
    segments = []
    for i, name in enumerate(cut.keys):
        alias, paths = plan.segments[i].alias, bounds.paths(cut, i)
        spec = _segment(cut, i, paths, addressing, key, families)
        spec = _in_their_words(spec, views[alias], class_of(mesh.spec, qos))
        ends = tuple(
            replace(end, labels=found.labels, suggested_label=found.suggested)
            if (found := labels.get((name, end.id)))
            else end
            for end in with_headers(spec.ends, told)
        )
        segments.append(
            HandedDown(
                key=name,
                alias=alias,
                spec=replace(spec, ends=ends),
                towards=_towards(paths),
                crossings=frozenset(e.id for e in ends if e.id not in own),
                lines={s.link: s.line for s in cut.of_segment(i) if s.link != s.line},
            )
        )
    return Split(segments=tuple(segments), classes=classes, links=addressing.crossing, carved=dict(addressing.carved))


def _segment(
    cut: Cut,
    i: int,
    paths: tuple[Told, ...],
    addressing: Addressing,
    key: str,
    families: tuple[AddressFamily, ...],
) -> ServiceSpec:
    whole, planned = cut.mesh.spec, cut.plan.segments[i]
    links = (*_lines(cut, i, addressing), *_lans(cut, i, addressing))
    own = {end.id: end for end in whole.ends}
    limit, limited = bounds.limits(cut, i, paths)
    segment = ServiceSpec(
        name=f"s-{key[:8]}-{i + 1}",
        ends=tuple(replace(own[id], sap=sap) if id in own else End(id=id, sap=sap) for id, sap in cut.ends_of(i)),
        functions=tuple(replace(whole.function(f), places=(planned.places[f],)) for f in planned.functions),
        links=links,
        paths=limited,
        blocks=Blocks(
            allowed=aggregate(prefix for link in links for prefix in addressing.shares.get(link.id, ())),
            excluded=addressing.excluded,
        ),
        bandwidth_bps=whole.bandwidth_bps if limited or not whole.paths else 0,
        max_delay_us=limit,
        min_mtu=whole.min_mtu,
        term_hours=whole.term_hours,
        start_time=whole.start_time,
        end_time=whole.end_time,
        required_features=whole.required_features,
        groups=tuple(bounds.groups(cut, i)),
        distances=tuple(bounds.distances(cut, i, paths)),
        countries=whole.countries,
        isolation=whole.isolation,
        min_availability=planned.availability,
        families=families,
        healing=whole.healing,
    )
    needs = (
        (PLACEMENT, segment.needs_placement()),
        (PATHS, segment.needs_paths()),
        (LAN_SITES, segment.needs_sites()),
        (MACS, segment.needs_macs()),
        (QOS, segment.needs_classes()),
        (DUAL_STACK, segment.needs_dual_stack()),
        (FIXED_PORTS, bool(segment.fixed_ports())),
    )
    needed = [feature for feature, asked in needs if asked]
    return replace(segment, required_features=tuple(dict.fromkeys([*whole.required_features, *needed])))


def _in_their_words(spec: ServiceSpec, view: SupplierView, ours: QosClass | None) -> ServiceSpec:
    """A class of theirs is named where it is ours, and adds no bound to those that the segment has."""
    glossary = view.glossary
    spec = replace(spec, isolation=glossary.theirs(spec.isolation))
    if ours is None or QOS not in view.note.api_features:
        return spec
    theirs = glossary.treatment(ours, view.note.qos_classes, spec.max_delay_us, spec.min_availability)
    if theirs is None:
        return spec
    return replace(spec, qos=theirs.name, required_features=tuple(dict.fromkeys([*spec.required_features, QOS])))


def _lines(cut: Cut, i: int, addressing: Addressing) -> Iterator[VirtualLink]:
    for section in cut.of_segment(i):
        points = (section.a, section.b)
        told = addressing.told(cut.mesh.spec.link(section.line), points)
        yield VirtualLink(id=section.link, kind=LinkKind.LINE, points=points, addressing=told)


def _lans(cut: Cut, i: int, addressing: Addressing) -> Iterator[VirtualLink]:
    places = [point for s in cut.of_segment(i) for point, sap in ((s.a, s.sap_a), (s.b, s.sap_b)) if sap is not None]
    for lan in cut.mesh.lans:
        whole = cut.mesh.spec.link(lan.id)
        ports = [p for p in whole.points if split_point(p)[1] and cut.home_of(p) == i]
        edges = [end for point in places for id, end in cut.lans_at(point) if id == lan.id]
        edges += [end for end, _ in cut.lan_ends(lan.id, i)]
        if ports or edges:
            points = (*ports, *edges)
            yield VirtualLink(id=lan.id, kind=LinkKind.LAN, points=points, addressing=addressing.told(whole, points))


def _towards(paths: tuple[Told, ...]) -> dict[str, tuple[str, ...]]:
    """What lies at each end, and for a path of the segment where that is not all of it."""
    out: dict[str, tuple[str, ...]] = {}
    sides = [(side, told, beyond) for told in paths for side, beyond in told.beyond.items()]
    for side, _, beyond in sides:
        out[side] = tuple(dict.fromkeys([*out.get(side, ()), *beyond]))
    for side, told, beyond in sides:
        if {b.partition("@")[0] for b in beyond} != {b.partition("@")[0] for b in out[side]}:
            out[f"{side}@{told.path.id}"] = beyond
    return out
