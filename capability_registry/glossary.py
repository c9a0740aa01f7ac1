"""What a supplier's words mean in ours: the same isolation mechanism is VRF at one operator and VXLAN at another.

Rules kept here
- A note is read in our words: the planner, our own notes and our customers know no others. What is handed down is said in
  the supplier's.
- A word that the glossary does not have means the same at both, unless ours of that name is another of theirs: that one
  could not be asked for, so it is left out.
- No two of theirs are one of ours: what we ask for is always one word of theirs.
- Of a class of service the numbers bind. That two operators' classes are one says whose treatment a segment gets; it never
  makes a segment harder to deliver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from capability_registry.note import BorderEntry, CapabilityNote
from service_model.qos import QosClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Glossary:
    """`isolation`: the supplier's name of a mechanism → ours; `qos`: of a class of service. The values of each differ."""

    isolation: Mapping[str, str] = field(default_factory=dict)
    qos: Mapping[str, str] = field(default_factory=dict)

    def ours(self, note: CapabilityNote) -> CapabilityNote:
        """The supplier's note in our words; the same object where it has none of these."""
        if not self.isolation:
            return note
        matrix, guarded = (tuple(self._entry(entry) for entry in ways) for ways in (note.matrix, note.guarded))
        return replace(note, matrix=matrix, guarded=guarded)

    def theirs(self, mechanisms: Iterable[str]) -> tuple[str, ...]:
        """Mechanisms as the supplier calls them. Raises KeyError for one that it has no word for."""
        words = {ours: theirs for theirs, ours in self.isolation.items()}
        for same in self.isolation:
            words.setdefault(same, "")  # there it means something else
        found = tuple(words.get(name, name) for name in mechanisms)
        if "" in found:
            raise KeyError(f"no word for {', '.join(mechanisms)}")
        return found

    def treatment(
        self, ours: QosClass, offered: Iterable[QosClass], max_delay_us: int | None, min_availability: float | None
    ) -> QosClass | None:
        """Which of the supplier's classes a segment of a service of our class is to be given, whose bounds these are: the
        one that is the same, if its own bounds keep what ours promises and are not tighter than the segment's."""
        theirs = next((name for name, same in self.qos.items() if same == ours.name), ours.name)
        if theirs == ours.name and self.qos.get(theirs, theirs) != ours.name:
            return None  # their word means something else
        found = next((c for c in offered if c.name == theirs), None)
        if found is None:
            return None
        asked, least = max_delay_us or 0, min_availability or 0.0
        keeps = not ours.max_delay_us or 0 < found.max_delay_us <= ours.max_delay_us
        allows = not found.max_delay_us or 0 < asked <= found.max_delay_us
        return found if keeps and allows and ours.min_availability <= found.min_availability <= least else None

    def _entry(self, entry: BorderEntry) -> BorderEntry:
        return replace(entry, points=tuple(replace(p, isolation=self._known(p.isolation)) for p in entry.points))

    def _known(self, theirs: Iterable[str]) -> tuple[str, ...]:
        taken = set(self.isolation.values())
        read = (self.isolation.get(name, "" if name in taken else name) for name in theirs)
        return tuple(sorted(filter(None, read)))


SAME_WORDS = Glossary()
