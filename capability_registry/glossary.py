"""What a supplier's words mean in ours: the same isolation mechanism is VRF at one operator and VXLAN at another.

Rules kept here
- A note is read in our words: the planner, our own notes and our customers know no others. What is handed down is said in
  the supplier's.
- A word that the glossary does not have means the same at both, unless ours of that name is another of theirs: that one
  could not be asked for, so it is left out.
- No two of theirs are one of ours: what we ask for is always one word of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from capability_registry.note import BorderEntry, CapabilityNote


@dataclass(frozen=True, slots=True, kw_only=True)
class Glossary:
    """`isolation`: the supplier's name of a mechanism → ours. The values differ from each other."""

    isolation: Mapping[str, str] = field(default_factory=dict)

    def ours(self, note: CapabilityNote) -> CapabilityNote:
        """The supplier's note in our words; the same object where it has none of these."""
        if not self.isolation:
            return note
        return replace(note, matrix=tuple(self._entry(entry) for entry in note.matrix))

    def theirs(self, mechanisms: Iterable[str]) -> tuple[str, ...]:
        """Mechanisms as the supplier calls them. Raises KeyError for one that it has no word for."""
        words = {ours: theirs for theirs, ours in self.isolation.items()}
        for same in self.isolation:
            words.setdefault(same, "")  # there it means something else
        found = tuple(words.get(name, name) for name in mechanisms)
        if "" in found:
            raise KeyError(f"no word for {', '.join(mechanisms)}")
        return found

    def _entry(self, entry: BorderEntry) -> BorderEntry:
        return replace(entry, points=tuple(replace(p, isolation=self._known(p.isolation)) for p in entry.points))

    def _known(self, theirs: Iterable[str]) -> tuple[str, ...]:
        taken = set(self.isolation.values())
        read = (self.isolation.get(name, "" if name in taken else name) for name in theirs)
        return tuple(sorted(filter(None, read)))


SAME_WORDS = Glossary()
