"""Suppliers as planned with, in the order of their aliases, while they come, change and go.

Rules kept here
- All of them are a tuple of their own each time that one changed: who has a former one has it as it was. To make it is to
  copy it; only suppliers that are new cost a search for where they belong.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

from broker.decompose.plan import SupplierView


class Ordered:
    def __init__(self, views: Iterable[SupplierView] = ()) -> None:
        self._by_alias = {view.alias: view for view in views}
        self._aliases = sorted(self._by_alias)

    def get(self, alias: str) -> SupplierView | None:
        return self._by_alias.get(alias)

    def __getitem__(self, alias: str) -> SupplierView:
        return self._by_alias[alias]

    def put(self, view: SupplierView) -> None:
        if view.alias not in self._by_alias:
            insort(self._aliases, view.alias)
        self._by_alias[view.alias] = view

    def remove(self, alias: str) -> None:
        """Nothing happens where there is none."""
        if self._by_alias.pop(alias, None) is not None:
            del self._aliases[bisect_left(self._aliases, alias)]

    def all(self) -> tuple[SupplierView, ...]:
        return tuple(map(self._by_alias.__getitem__, self._aliases))
