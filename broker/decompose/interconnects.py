"""The interconnects of a snapshot: which suppliers' SAPs name each, and whether it joins two of them.

Rules kept here
- An interconnect joins two SAPs when both notes name it, each names the other's SP as peer, exactly one side decides
  labels, and the encapsulations are equal, and known to us; it carries what both sides have free labels for. Suppliers of
  different currencies are not joined, nor is anything joined to a supplier that is not planned with.
- Named by one note only, and with a peer that is no supplier of ours, it is *dangling*.
- Where a supplier hands over (`beyond`), it meets whoever else sells the SAP at the other side, whatever name it has as a peer:
  they are told by its token. The first one counts.
- Where we meet a supplier that others sell too (`sold_besides`), we hand over: to whom has that of them. If it names us as its
  peer, the other side is the one SAP of ours that names the interconnect, whoever that thinks is its seller.
- What two suppliers both sell stands in the notes of both. Of more than two that name an interconnect the two count that
  name each other. Where none does, each dangles as if it were alone, and the other side of what one says is with us.
- Nothing here is a number of the graph: what a note names is looked at once, until that note is another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from address_planner.labels import LabelSet
from broker.decompose.difference import difference
from broker.decompose.piece import Flags, first_named
from broker.decompose.plan import Snapshot, SupplierView
from capability_registry.note import Encapsulation, Lifecycle, SapOffer, SapRole
from capability_registry.sharing import token_of

Side = tuple[SupplierView, SapOffer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjoined:
    """An interconnect that both notes name and that cannot be used: `why` for the operator and for reasons."""

    id: str
    why: str


def planned_with(view: SupplierView) -> bool:
    return view.usable and view.note.lifecycle is not Lifecycle.WITHDRAWING


class Interconnects:
    """`named`: by id the SAPs that name it, in the order of their suppliers' aliases. `labels_of`: by id of those that join
    two SAPs, which these are and the labels free at both (perhaps none). `touched`: ids of what is not as it was before.
    `planned`: per supplier of the snapshot whether it is planned with."""

    def __init__(self, snapshot: Snapshot, before: Interconnects | None = None) -> None:
        self.snapshot = snapshot
        was = before.snapshot.suppliers if before is not None else ()
        self.named: dict[str, tuple[Side, ...]] = before.named if before is not None else {}
        self.labels_of: dict[str, tuple[SapOffer, SapOffer, LabelSet]] = before.labels_of if before is not None else {}
        self.touched: frozenset[str] = frozenset()
        changed = difference(was, snapshot.suppliers)
        gone, fresh = [was[i] for i in changed.gone], [snapshot.suppliers[i] for i in changed.fresh]
        flags = before.planned if before is not None else np.zeros(0, np.bool_)
        self.planned: Flags = changed.array(
            flags, np.arange(len(was) + 1), lambda i: np.array([planned_with(snapshot.suppliers[i])])
        )
        self._sp_ids: Counter[str] = Counter() if before is None else before._sp_ids.copy()
        self._sp_ids.subtract(view.sp_id for view in gone)
        self._sp_ids.update(view.sp_id for view in fresh)
        if gone or fresh:
            self._name(gone, fresh)

    def _name(self, gone: list[SupplierView], fresh: list[SupplierView]) -> None:
        former = {id(view) for view in gone}
        added: dict[str, list[Side]] = {}
        for side in _sides(fresh):
            added.setdefault(side[1].interconnect, []).append(side)
        self.touched = frozenset(added).union(sap.interconnect for _, sap in _sides(gone))
        self.named, self.labels_of = self.named.copy(), self.labels_of.copy()
        for id_ in self.touched:
            sides = [s for s in self.named.pop(id_, ()) if id(s[0]) not in former] + added.get(id_, [])
            known = self.labels_of.pop(id_, None)
            if sides:
                self.named[id_] = tuple(sorted(sides, key=_alias))
            if (two := pair(self.named.get(id_, ()), self.snapshot.own_sp_id)) is not None:
                (_, p), (_, q) = two
                same = known is not None and known[0] is p and known[1] is q
                self.labels_of[id_] = known if known is not None and same else (p, q, p.free & q.free)

    def pair(self, id: str) -> tuple[Side, Side] | None:
        """The two sides that an interconnect joins."""
        return pair(self.named[id], self.snapshot.own_sp_id) if id in self.labels_of else None

    def hands_over(self, view: SupplierView, sap: SapOffer) -> str:
        """The token of the SAP at the other side, where the interconnect is joined to what others sell too; else empty."""
        if self._none_besides:
            return ""
        for (one, own), (other, far) in permutations(self.pair(sap.interconnect) or (), 2):
            if one is view and own is sap and other.sold_besides:
                return token_of(other.note, far)
        return ""

    @cached_property
    def _none_besides(self) -> bool:
        return not any(view.sold_besides for view in self.snapshot.suppliers)

    def dangles(self, sap: SapOffer) -> bool:
        """Of a SAP of a supplier that is planned with."""
        sides = self.named.get(sap.interconnect, ()) if sap.role is SapRole.NNI else ()
        own = self.snapshot.own_sp_id
        if not sap.peer or sap.peer == own:
            return False
        if len(sides) == 1:
            return not self._sp_ids[sap.peer]
        if mutual(sides) or any(view.sp_id == own for view, _ in sides):
            return False
        if any(sap is other for _, other in handed(sides, own)):
            return False
        if self._sp_ids[sap.peer] and not any(other.peer == own for _, other in sides):
            return False
        return next(other for _, other in sides if other.peer == sap.peer) is sap

    @property
    def unjoined(self) -> list[Unjoined]:
        """In the order of their ids."""
        ways = ((id_, sides) for id_, sides in sorted(self.named.items()) if len(sides) > 1)
        return [
            Unjoined(id=id_, why=why)
            for id_, sides in ways
            if all(planned_with(view) for view, _ in sides)
            and (why := mismatch(sides, self.snapshot.own_sp_id))
            and not any(self.dangles(sap) for _, sap in sides)
        ]


def _alias(side: Side) -> str:
    return side[0].alias


def _sides(views: Iterable[SupplierView]) -> Iterator[Side]:
    for view in views:
        for sap in first_named(view.note.saps).values():
            if sap.role is SapRole.NNI and sap.interconnect:
                yield view, sap


def pair(sides: tuple[Side, ...], own: str) -> tuple[Side, Side] | None:
    """The two of those that name an interconnect that it joins; None where it joins none. `own`: our SP's id."""
    two = handed(sides, own) or (mutual(sides) if len(sides) > 2 else sides)
    if mismatch(two, own) or not all(planned_with(view) for view, _ in two):
        return None
    x, y = two
    return x, y


def mutual(sides: tuple[Side, ...]) -> tuple[Side, ...]:
    """Those that name another that names them."""
    named = {(view.sp_id, sap.peer) for view, sap in sides}
    return tuple((view, sap) for view, sap in sides if (sap.peer, view.sp_id) in named)


def handed(sides: tuple[Side, ...], own: str) -> tuple[Side, ...]:
    """The first two that are joined though they do not name each other; none where two do."""
    if mutual(sides):
        return ()
    for i, j in permutations(range(len(sides)), 2):
        (view, sap), (other, far) = sides[i], sides[j]
        meets = sap.beyond and sap.beyond == token_of(other.note, far)
        if view is not other and (meets or (len(sides) == 2 and view.sold_besides and sap.peer == own)):
            return sides[min(i, j)], sides[max(i, j)]
    return ()


def mismatch(sides: tuple[Side, ...], own: str) -> str:
    """Why what is named by several SAPs joins no two of them; empty where it does."""
    over = handed(sides, own)
    two = over or mutual(sides)
    sides = two if len(two) == 2 else sides
    if len(sides) != 2:
        return f"{len(sides)} SAPs name it"
    (x, p), (y, q) = sides
    if not over and (p.peer != y.sp_id or q.peer != x.sp_id):
        return f"{x.alias} and {y.alias} do not name each other as its peers"
    if p.decides_labels == q.decides_labels:
        return f"not exactly one of {x.alias} and {y.alias} decides its labels"
    if p.encapsulation != q.encapsulation:
        return f"{x.alias} and {y.alias} encapsulate differently"
    if p.encapsulation is Encapsulation.UNSPECIFIED:
        return f"{x.alias} and {y.alias} encapsulate in a way that is not known here"
    if x.note.currency != y.note.currency:
        return f"{x.alias} and {y.alias} charge in different currencies"
    return ""
