"""Where a plan cuts a service: the parts of its links and paths in each segment, and the names of their ends. Pure.

Rules kept here
- A joint is one end id in both segments that meet there (`x1`; `x1.<lan>` for a LAN beside it, or by itself), so bindings can
  name it. No id of the service is used again for something else.
- A LINE is a link of the same id in each segment that has a stretch of it; a second stretch in one segment gets its own id.
- A path is in a segment once for each visit: from where it comes in to where it goes on over a joint.
- A LAN is one bridge in each segment, so its joints close no ring over segments, and lead to no segment for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from broker.decompose.mesh import Mesh, MeshLan, MeshPath
from broker.decompose.plan import Joint, LanJoint, LanTree, Plan
from service_model.spec import ServiceFunctionPath, split_point


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Stretch `number` of a LINE as a link of its segment, between points of the service and ends at joints. `sap_a` and
    `sap_b` are the supplier's SAPs where these are ends."""

    line: str
    number: int
    segment: int
    link: str
    a: str
    b: str
    sap_a: str | None
    sap_b: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """The part of a path in one segment, from joint to joint; `number` counts its visits there."""

    path: ServiceFunctionPath
    segment: int
    number: int
    sections: tuple[Section, ...]

    @property
    def hops(self) -> tuple[str, ...]:
        return tuple(point for s in self.sections for point in (s.a, s.b))


class Cut:
    """A mesh as a plan cuts it."""

    def __init__(self, mesh: Mesh, plan: Plan) -> None:
        self.mesh = mesh
        self.plan = plan
        own = {end.id.partition(".")[0] for end in mesh.spec.ends}
        names = (f"x{n}" for n in range(1, 10_000) if f"x{n}" not in own)
        self.joints: Mapping[Joint, str] = {
            Joint(line=line.link.id, after=n): next(names)
            for line in mesh.lines
            for n in range(len(plan.lines[line.link.id]) - 1)
        }
        self.own_joints: Mapping[str, tuple[tuple[str, LanJoint], ...]] = {
            lan.id: tuple((f"{next(names)}.{lan.id}", joint) for joint in self.tree(lan.id).joints) for lan in mesh.lans
        }
        """Of each LAN, where it goes over interconnects by itself, with the ids of its ends there."""
        self.sections: Mapping[str, tuple[Section, ...]] = self._sections()

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """A name for each segment that stays the same when the plan is made again: alias and its how-manieth visit."""
        visits: Counter[str] = Counter()
        out = []
        for segment in self.plan.segments:
            visits[segment.alias] += 1
            out.append(f"{segment.alias}.{visits[segment.alias]}")
        return tuple(out)

    def of_segment(self, segment: int) -> tuple[Section, ...]:
        """Its sections, in the order of the service's lines."""
        return tuple(s for sections in self.sections.values() for s in sections if s.segment == segment)

    def _sections(self) -> dict[str, tuple[Section, ...]]:
        links = {link.id for link in self.mesh.spec.links}
        names = (f"l{n}" for n in range(1, 10_000) if f"l{n}" not in links)
        out: dict[str, tuple[Section, ...]] = {}
        for line in self.mesh.lines:
            id = line.link.id
            stretches = self.plan.lines[id]
            points = [line.a, *(self.joints[Joint(line=id, after=n)] for n in range(len(stretches) - 1)), line.b]
            seen: set[int] = set()
            sections = []
            for n, stretch in enumerate(stretches):
                link = next(names) if stretch.segment in seen else id
                seen.add(stretch.segment)
                sections.append(
                    Section(
                        line=id, number=n, segment=stretch.segment, link=link, a=points[n], b=points[n + 1],
                        sap_a=stretch.entry, sap_b=stretch.exit,
                    )
                )  # fmt: skip
            out[id] = tuple(sections)
        return out

    # paths

    @cached_property
    def visits(self) -> tuple[Visit, ...]:
        return tuple(visit for path in self.mesh.paths for visit in self._visits(path))

    def _visits(self, path: MeshPath) -> Iterator[Visit]:
        runs: list[list[Section]] = [[]]
        for line in path.lines:
            for section in self.sections[self.mesh.lines[line].link.id]:
                if section.number:
                    runs.append([])
                runs[-1].append(section)
        times: Counter[int] = Counter()
        for run in runs:
            segment = run[0].segment
            yield Visit(path=path.path, segment=segment, number=times[segment], sections=tuple(run))
            times[segment] += 1

    # LANs

    @cached_property
    def homes(self) -> Mapping[str, int]:
        """The segment of each function, of each end of a path, and of each LAN's own end."""
        out = {f: i for i, segment in enumerate(self.plan.segments) for f in segment.functions}
        for sections in self.sections.values():
            out |= {sections[0].a: sections[0].segment, sections[-1].b: sections[-1].segment}
        out |= {outer.end.id: out[outer.beside.id] for lan in self.mesh.lans for outer in lan.outer}
        out |= {end: site.segment for tree in self.plan.trees.values() for end, site in tree.sites.items()}
        return out

    def tree(self, lan: str) -> LanTree:
        """What joins a LAN beyond its lines."""
        return self.plan.trees.get(lan, LanTree())

    @cached_property
    def lan_joints(self) -> Mapping[str, tuple[Joint, ...]]:
        """Of each LAN, the joints that it goes over beside lines."""
        return {lan.id: self._tree(lan) for lan in self.mesh.lans}

    def home_of(self, point: str) -> int:
        """The segment of a point of the service."""
        return self.homes[split_point(point)[0]]

    def _tree(self, lan: MeshLan) -> tuple[Joint, ...]:
        part = list(range(len(self.plan.segments)))
        pairs: dict[Joint, tuple[int, int]] = {}
        for joint in self.plan.lans.get(lan.id, ()):
            before, after = self.sections[joint.line][joint.after : joint.after + 2]
            x, y = part[before.segment], part[after.segment]
            if x != y:
                part = [x if known == y else known for known in part]
                pairs[joint] = (before.segment, after.segment)
        wanted = {self.home_of(point) for point in self.mesh.spec.link(lan.id).points}
        wanted |= {site.segment for joint in self.tree(lan.id).joints for site in (joint.a, joint.b)}
        while True:
            met = Counter(segment for pair in pairs.values() for segment in pair)
            bare = [j for j, pair in pairs.items() if any(met[s] == 1 and s not in wanted for s in pair)]
            if not bare:
                return tuple(pairs)
            for joint in bare:
                del pairs[joint]

    def lans_at(self, point: str) -> Iterator[tuple[str, str]]:
        """The LANs that go beside a line where it has the end `point`: LAN and its end there."""
        joint = next((joint for joint, name in self.joints.items() if name == point), None)
        for lan in self.mesh.lans:
            if joint in self.lan_joints[lan.id]:
                yield lan.id, f"{point}.{lan.id}"
            for outer in lan.outer:
                if joint is None and outer.beside.id == point:
                    yield lan.id, outer.end.id

    def lan_ends(self, lan: str, segment: int) -> Iterator[tuple[str, str]]:
        """The ends that a LAN has in a segment beside no line, with the supplier's SAPs."""
        tree = self.tree(lan)
        met = [(end, site) for end, joint in self.own_joints[lan] for site in (joint.a, joint.b)]
        yield from ((end, site.sap) for end, site in (*tree.sites.items(), *met) if site.segment == segment)

    def ends_of(self, segment: int) -> Iterator[tuple[str, str]]:
        """The ends of a segment with the supplier's SAPs: of each line and of the LANs beside it, then of LANs by themselves."""
        for section in self.of_segment(segment):
            for point, sap in ((section.a, section.sap_a), (section.b, section.sap_b)):
                if sap is not None:
                    yield point, sap
                    for _, end in self.lans_at(point):
                        yield end, sap
        for lan in self.mesh.lans:
            yield from self.lan_ends(lan.id, segment)
