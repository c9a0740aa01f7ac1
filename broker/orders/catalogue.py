"""What a broker knows of its suppliers at this moment, and the snapshot that plans are made over.

A supplier is in here by its local alias, with its administrative state and its last good note; the snapshot is made anew
only when somebody asks after something changed, so that everything computed from it can be cached by its identity, and
ten thousand notes that come at once cost one. A note is put into our words once, when it comes. Views are kept in the order
of aliases, so that a snapshot after a few notes costs no sorting. Beside a note is kept what the supplier announced lately
(`capability_registry.remembered`), where the node hopes for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from broker.decompose.ordered import Ordered
from broker.decompose.plan import Snapshot, SupplierView
from broker.orders.flapping import Flapping
from capability_registry.glossary import SAME_WORDS, Glossary
from capability_registry.note import CapabilityNote, Lifecycle
from capability_registry.remembered import Memory

DEAD_AFTER = timedelta(minutes=5)
HEAL_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One supplier as administered. `expose` maps its SAP names to those under which we announce them."""

    alias: str
    sp_id: str
    local: bool
    usable: bool = True
    expose: Mapping[str, str] = field(default_factory=dict)
    glossary: Glossary = SAME_WORDS
    dead_after: timedelta = DEAD_AFTER
    """How long it may not be heard of until it counts as dead."""
    heal_after: timedelta = HEAL_AFTER
    """How long what it delivers may be degraded until it is bought elsewhere."""
    flapping: Flapping = Flapping()
    """How often what it delivers may be lost until it is bought elsewhere though it comes back."""
    trial: bool = False
    """Whether it is planned with also while its note says TRIAL."""
    sold_besides: bool = False
    """Whether others sell it to our customers too (`SupplierView`)."""


class Catalogue:
    def __init__(self, own_sp_id: str, caution: float = 0.0, remembers: bool = False) -> None:
        """`caution`: as in `Snapshot`. `remembers`: what suppliers announced before their last notes."""
        self._listings: dict[str, Listing] = {}
        self._notes: dict[str, CapabilityNote] = {}
        self._read: dict[str, tuple[CapabilityNote, Glossary, CapabilityNote]] = {}
        """By alias: a note as it came, by which glossary it was read, and what it says in our words."""
        self._views = Ordered()
        self._remembers = remembers
        self._memories: dict[str, Memory] = {}
        self._hoped: tuple[Snapshot, Snapshot] | None = None
        self._hopes: dict[str, tuple[SupplierView, SupplierView]] = {}
        """By alias: how a supplier was seen, and what is hoped of it, so that what was made of it can be kept."""
        self._kept: dict[str, float] = {}
        self._snapshot = Snapshot(own_sp_id=own_sp_id, number=0, suppliers=(), caution=caution)
        self._number = 0

    @property
    def snapshot(self) -> Snapshot:
        """Everything as it is now; its number grows with every change."""
        if self._snapshot.number != self._number:
            self._snapshot = replace(self._snapshot, number=self._number, suppliers=self._views.all())
        return self._snapshot

    def hoped(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot of this catalogue with what its suppliers announced lately; itself where that is no more. The same object
        for the same snapshot."""
        if self._hoped is None or self._hoped[0] is not snapshot:
            views = tuple(self._hopeful(view) for view in snapshot.suppliers)
            more = any(hoped is not view for hoped, view in zip(views, snapshot.suppliers, strict=True))
            self._hoped = snapshot, replace(snapshot, suppliers=views, hoped=True) if more else snapshot
        return self._hoped[1]

    def _hopeful(self, view: SupplierView) -> SupplierView:
        memory, known = self._memories.get(view.alias), self._hopes.get(view.alias)
        if memory is None or memory.latest is not view.note:
            return view
        if known is None or known[0] is not view:
            note = known[1].note if known is not None and known[0].note is view.note else memory.note()
            known = view, view if note is view.note else replace(view, note=note)
            self._hopes[view.alias] = known
        return known[1]

    def list(self, listings: tuple[Listing, ...]) -> None:
        """These are the suppliers from now on; notes of those that stay are kept."""
        self._listings = {item.alias: item for item in listings}
        self._notes = {alias: note for alias, note in self._notes.items() if alias in self._listings}
        self._read = {alias: read for alias, read in self._read.items() if alias in self._listings}
        self._memories = {alias: memory for alias, memory in self._memories.items() if alias in self._listings}
        self._views = Ordered(self._view(alias, note) for alias, note in self._notes.items())
        self._number += 1

    def put(self, alias: str, note: CapabilityNote | None) -> None:
        """The supplier's last good note; None: it has lapsed."""
        if alias not in self._listings:
            return
        if note is None:
            self._notes.pop(alias, None)
            self._views.remove(alias)
            self._memories.pop(alias, None)
        else:
            self._notes[alias] = note
            self._views.put(self._view(alias, note))
        self._number += 1

    def keeps(self, alias: str, rate: float) -> None:
        """Which part of what the supplier announced it made good, from 0 to 1."""
        self._kept[alias] = rate
        if (note := self._notes.get(alias)) is not None:
            self._views.put(self._view(alias, note))
            self._number += 1

    def note(self, alias: str) -> CapabilityNote | None:
        return self._notes.get(alias)

    def listing(self, alias: str) -> Listing | None:
        return self._listings.get(alias)

    def dead_after(self, alias: str) -> timedelta | None:
        """None: it never counts as dead, as our own domains."""
        listing = self._listings.get(alias)
        return listing.dead_after if listing is not None and not listing.local else None

    def heal_after(self, alias: str) -> timedelta:
        listing = self._listings.get(alias)
        return listing.heal_after if listing is not None else HEAL_AFTER

    def flapping(self, alias: str) -> Flapping:
        listing = self._listings.get(alias)
        return listing.flapping if listing is not None else Flapping()

    def usable(self, alias: str) -> bool:
        """Whether a supplier that is listed takes new orders of ours: by its document, and by its note if there is one."""
        view = self._views.get(alias)
        return self._listings[alias].usable if view is None else view.usable

    def listings(self) -> tuple[Listing, ...]:
        return tuple(self._listings.values())

    def _view(self, alias: str, note: CapabilityNote) -> SupplierView:
        item = self._listings[alias]
        names = {sap.id: item.expose.get(sap.id, f"{alias}.{sap.id}") for sap in note.saps}
        return SupplierView(
            alias=alias,
            sp_id=item.sp_id,
            note=self._in_our_words(alias, note, item.glossary),
            local=item.local,
            saps={ours: theirs for theirs, ours in names.items()},
            usable=item.usable and (item.trial or note.lifecycle is not Lifecycle.TRIAL),
            kept=self._kept.get(alias, 1.0),
            glossary=item.glossary,
            sold_besides=item.sold_besides,
        )

    def _in_our_words(self, alias: str, note: CapabilityNote, glossary: Glossary) -> CapabilityNote:
        """The same object for the same note, so that what was made of it can be kept."""
        known = self._read.get(alias)
        if known is None or known[0] is not note or known[1] != glossary:
            same = known is not None and known[1] == glossary
            known = self._read[alias] = (note, glossary, glossary.ours(note))
            if self._remembers:
                memory = self._memories.get(alias) if same else None  # words of another glossary are other words
                self._memories[alias] = memory.seeing(known[2]) if memory else Memory.of(known[2])
        return known[2]
