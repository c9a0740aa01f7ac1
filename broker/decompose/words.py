"""Who has a word: names that several suppliers may use, each for something of its own.

Rules kept here
- Of each word it is known which suppliers have it, not what it means to them: that is theirs, and is looked up there. So
  nothing here changes when figures or numbers do.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

Had = tuple[str, Iterable[str]]
"""The alias of a supplier, and words that it has."""


class Words:
    """By word the aliases of who has it, in order."""

    def __init__(self, who: dict[str, tuple[str, ...]] | None = None) -> None:
        self._who = who or {}

    def of(self, word: str) -> tuple[str, ...]:
        return self._who.get(word, ())

    @cached_property
    def of_several(self) -> frozenset[str]:
        """The words that more than one has."""
        return frozenset(word for word, who in self._who.items() if len(who) > 1)

    def after(self, gone: Iterable[Had], fresh: Iterable[Had]) -> Words:
        """When what is gone is no more, and what is fresh is there: itself, where that comes to the same."""
        lost, won = _pairs(gone), _pairs(fresh)
        lost, won = lost - won, won - lost
        if not lost and not won:
            return self
        who = self._who.copy()
        taken: dict[str, set[str]] = {}
        given: dict[str, set[str]] = {}
        for some, pairs in ((taken, lost), (given, won)):
            for word, alias in pairs:
                some.setdefault(word, set()).add(alias)
        for word in taken.keys() | given.keys():
            left = {*who.pop(word, ())} - taken.get(word, set()) | given.get(word, set())
            if left:
                who[word] = tuple(sorted(left))
        out = Words(who)
        if "of_several" in self.__dict__:
            changed = taken.keys() | given.keys()
            now = (word for word in changed if len(who.get(word, ())) > 1)
            out.of_several = (self.of_several - changed).union(now)
        return out


def _pairs(had: Iterable[Had]) -> set[tuple[str, str]]:
    return {(word, alias) for alias, words in had for word in words}
