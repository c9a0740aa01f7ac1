"""The label classes of a service that is split: which ends must carry one label. Pure.

Rules kept here
- One class for each lane (a LINE, or a LAN beside it) and run of joints that no swapping segment parts. An end of the
  service itself is of the class of the joint that it is tied to.
- Where a LAN goes over an interconnect by itself, a class of its own: its ways swap.
- A segment that does not swap is a transit: it has one LINE, entered and left once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

from address_planner.classes import LabelClass, Member
from address_planner.labels import ANY_LABEL, LabelSet
from broker.decompose.plan import Joint, LanJoint, Site, Snapshot, Stretch
from broker.orders.cut import Cut, Section
from capability_registry.note import SapOffer


def label_classes(cut: Cut, snapshot: Snapshot) -> Iterator[LabelClass]:
    """The classes, with what is suggested to us for an end of ours."""
    lanes = _Lanes(cut, snapshot)
    everywhere = frozenset(cut.joints)
    for line in cut.mesh.lines:
        yield from lanes.along(line.link.id, None, everywhere)
    for lan in cut.mesh.lans:
        over = frozenset(cut.lan_joints[lan.id])
        for line in cut.mesh.lines:
            yield from lanes.along(line.link.id, lan.id, over)
    number = len(cut.joints)
    for lan in cut.mesh.lans:
        for end, own in cut.own_joints[lan.id]:
            yield lanes.over(f"{lan.id}{number}", end, own)
            number += 1


class _Lanes:
    def __init__(self, cut: Cut, snapshot: Snapshot) -> None:
        self.cut = cut
        self.views = {view.alias: view for view in snapshot.suppliers}
        self.own = {end.id: end for end in cut.mesh.spec.ends}
        self.number: Mapping[Joint, int] = {joint: n for n, joint in enumerate(cut.joints)}

    def along(self, line: str, lan: str | None, over: frozenset[Joint]) -> Iterator[LabelClass]:
        """The classes of one lane along a LINE, over those of its joints that are `over`."""
        sections = self.cut.sections[line]
        open_class: LabelClass | None = None
        for n, (before, after) in enumerate(pairwise(sections)):
            joint = Joint(line=line, after=n)
            if joint not in over:
                continue
            here = self._at(joint, before, after, lan)
            tied = not self._swaps(before)
            if tied and open_class is not None:
                open_class = _together(open_class, here)
            else:
                if open_class is not None:
                    yield open_class
                open_class = self._with_outer(here, before, before.a, lan) if tied else here
            if not self._swaps(after) and n + 2 == len(sections):
                open_class = self._with_outer(open_class, after, after.b, lan)
        if open_class is not None:
            yield open_class

    def over(self, id: str, end: str, joint: LanJoint) -> LabelClass:
        """The class of a LAN's own joint."""
        left, right = (self._offer(site) for site in (joint.a, joint.b))
        return LabelClass(
            id=id,
            members=(
                Member(segment=self.cut.keys[joint.a.segment], end=end, decides=left.decides_labels),
                Member(segment=self.cut.keys[joint.b.segment], end=end, decides=right.decides_labels),
            ),
            interconnects=(joint.interconnect,),
            labels=left.free & right.free,
        )

    def _at(self, joint: Joint, before: Section, after: Section, lan: str | None) -> LabelClass:
        end = self._end(before.b, lan)
        assert end is not None, "a lane crosses where it has an end"
        left, right = self._sap(before, before.sap_b), self._sap(after, after.sap_a)
        interconnect = self.cut.plan.lines[joint.line][joint.after + 1].interconnect
        assert interconnect is not None, "stretches meet over an interconnect"
        return LabelClass(
            id=f"{lan or 'data'}{self.number[joint]}",
            members=(
                Member(segment=self.cut.keys[before.segment], end=end, decides=left.decides_labels),
                Member(segment=self.cut.keys[after.segment], end=end, decides=right.decides_labels),
            ),
            interconnects=(interconnect,),
            labels=_narrowed(
                left.free & right.free, self._stretch(before).exit_labels, self._stretch(after).entry_labels
            ),
        )

    def _with_outer(self, known: LabelClass, section: Section, point: str, lan: str | None) -> LabelClass:
        """The class with the service's own end at `point`, where the lane has one there."""
        end = self.own.get(self._end(point, lan) or "")
        if end is None:
            return known
        offer = self._sap(section, section.sap_a if point == section.a else section.sap_b)
        stretch, allowed = self._stretch(section), end.labels if end.labels is not None else ANY_LABEL
        outer = LabelClass(
            id=known.id,
            members=(Member(segment=self.cut.keys[section.segment], end=end.id),),
            interconnects=(),
            saps=(f"{self.cut.keys[section.segment]}/{offer.id}",),
            suggested=end.suggested_label,
            labels=_narrowed(offer.free & allowed, stretch.entry_labels if point == section.a else stretch.exit_labels),
        )
        return _together(known, outer)

    def _end(self, point: str, lan: str | None) -> str | None:
        return point if lan is None else dict(self.cut.lans_at(point)).get(lan)

    def _stretch(self, section: Section) -> Stretch:
        return self.cut.plan.lines[section.line][section.number]

    def _swaps(self, section: Section) -> bool:
        return self._stretch(section).swaps_labels

    def _sap(self, section: Section, sap: str | None) -> SapOffer:
        return self._offer(Site(segment=section.segment, sap=sap or ""))

    def _offer(self, at: Site) -> SapOffer:
        offer = self.views[self.cut.plan.segments[at.segment].alias].note.sap(at.sap)
        assert offer is not None, "a plan names only SAPs of its snapshot"
        return offer


def _narrowed(labels: LabelSet, *told: LabelSet | None) -> LabelSet:
    """What is also told, where something is."""
    for more in told:
        labels = labels if more is None else labels & more
    return labels


def _together(x: LabelClass, y: LabelClass) -> LabelClass:
    return replace(
        x,
        members=(*x.members, *y.members),
        interconnects=(*x.interconnects, *y.interconnects),
        saps=(*x.saps, *y.saps),
        labels=x.labels & y.labels,
        suggested=x.suggested if x.suggested is not None else y.suggested,
    )
