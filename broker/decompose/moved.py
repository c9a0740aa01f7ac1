"""How much a snapshot says otherwise than one before it, without deriving anything: what to derive a note again for.

Rules kept here
- A supplier that is gone, or may not be used any more, is LESS; one that came is MORE. Notes are compared as
  `capability_registry.hysteresis` says.
- An inner interconnect carries what both its sides have free: a label that is few among many at one side may be the last
  of the joint, so joints are compared as well.
What a run of joints has in common is not compared: that it shrank is told when the rest is over.
"""

from __future__ import annotations

from address_planner.labels import LabelSet
from broker.decompose.plan import Snapshot, SupplierView
from capability_registry.hysteresis import Change, change, labels
from capability_registry.note import SapOffer


def moved(before: Snapshot, after: Snapshot, share: float) -> Change:
    """The greatest change between the two."""
    if before is after:
        return Change.SAME
    was = {view.alias: view for view in before.suppliers}
    now = {view.alias: view for view in after.suppliers}
    worst = Change.MORE if now.keys() - was.keys() else Change.SAME
    altered: list[tuple[SupplierView, SupplierView]] = []
    for alias, old in was.items():
        new = now.get(alias)
        if new is None or _standing(new) != _standing(old):
            return Change.LESS
        if new.note is not old.note:
            altered.append((old, new))
            worst = max(worst, change(old.note, new.note, share))
    if worst is Change.LESS or not altered:
        return worst
    return max([worst, *_joints(before, after, altered, share)])


def _standing(view: SupplierView) -> tuple[object, ...]:
    return view.sp_id, view.local, view.saps, view.usable, view.sold_besides


def _joints(
    before: Snapshot, after: Snapshot, altered: list[tuple[SupplierView, SupplierView]], share: float
) -> list[Change]:
    found: list[Change] = []
    then, since = _by_sp(before), _by_sp(after)
    for old, new in altered:
        ours = {sap.id: sap for sap in new.note.saps}
        for sap in old.note.saps:
            if sap.interconnect and ours[sap.id].free != sap.free:
                found.append(labels(_common(sap, then), _common(ours[sap.id], since), share))
    return found


def _by_sp(snapshot: Snapshot) -> dict[str, list[SupplierView]]:
    out: dict[str, list[SupplierView]] = {}
    for view in snapshot.suppliers:
        out.setdefault(view.sp_id, []).append(view)
    return out


def _common(sap: SapOffer, by_sp: dict[str, list[SupplierView]]) -> LabelSet:
    """What is free at both sides of the SAP's interconnect; at its own where the other is not ours to see."""
    for view in by_sp.get(sap.peer, ()):
        for other in view.note.saps:
            if other.interconnect == sap.interconnect and other is not sap:
                return sap.free & other.free
    return sap.free
