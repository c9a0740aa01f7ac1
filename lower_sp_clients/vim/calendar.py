"""What a domain has given out over time: a profile for each way, SAP and host, and its labels. Pure.

Rules kept here
- What has bandwidth or units is taken from its start to its end, and what overlaps adds up (`Profile`).
- A label is taken from the hold on until it has rested, whenever the service begins and ends: two that follow each other do
  not share one. See ADR 0044.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from address_planner.labels import LabelSet
from capability_registry.periods import MOST, telling, windows
from lower_sp_clients.vim.domain import Key, Sap, Usage
from lower_sp_clients.vim.profile import Profile
from service_model.window import NEVER, Window


@dataclass(slots=True)
class Calendar:
    """`taken`: of each resource that anything is taken of, bit/s or units; labels as in `Usage`."""

    taken: dict[Key, Profile] = field(default_factory=dict)
    labels: dict[str, dict[int, str]] = field(default_factory=dict)
    held_labels: dict[str, set[int]] = field(default_factory=dict)

    def take(self, window: Window, amounts: Mapping[Key, int]) -> None:
        """So much more is taken within the window; negative amounts are given back."""
        for key, amount in amounts.items():
            profile = self.taken.setdefault(key, Profile())
            profile.add(window, amount)
            if profile.nothing:
                del self.taken[key]

    def usage(self, window: Window) -> Usage:
        """What is not to be had within the window: of each resource the most that is taken at any moment of it."""
        most = {key: profile.most(window) for key, profile in self.taken.items()}
        return Usage(
            bandwidth={key: amount for key, amount in most.items() if isinstance(key, str)},
            units={key: amount for key, amount in most.items() if not isinstance(key, str)},
            labels=self.labels,
            held_labels=self.held_labels,
            when=lambda key: self._when(key, window),
        )

    def moments(self, now: datetime, sizes: Mapping[Key, int], most: int) -> list[datetime]:
        """The moments to come, at most so many, at which the greatest parts of resources are taken or come free."""
        moved: dict[datetime, float] = {}
        for key, profile in self.taken.items():
            for n in range(bisect_right(profile.at, now), len(profile.at)):
                part = abs(profile.level[n + 1] - profile.level[n]) / max(1, sizes.get(key, 0))
                moved[profile.at[n]] = moved.get(profile.at[n], 0.0) + part
        return sorted(sorted(moved, key=lambda at: (-moved[at], at))[:most])

    def next_change(self, now: datetime) -> datetime:
        """When what is taken changes next."""
        return min(
            (p.at[bisect_right(p.at, now)] for p in self.taken.values() if p.at and p.at[-1] > now), default=NEVER
        )

    def steps(self, now: datetime) -> list[tuple[Key, list[tuple[datetime, int]]]]:
        """Of each resource that anything is taken of from now on: from when, and how much."""
        out: list[tuple[Key, list[tuple[datetime, int]]]] = []
        for key, profile in sorted(self.taken.items(), key=lambda item: str(item[0])):
            first = bisect_right(profile.at, now)
            found = [*zip([now, *profile.at[first:]], profile.level[first:], strict=True)]
            if any(taken for _, taken in found):
                out.append((key, found))
        return out

    def later(self, now: datetime, sizes: Mapping[Key, int]) -> list[tuple[Window, Usage]]:
        """The windows to announce in which less is taken than always from now on, the widest first, and what is taken then."""
        always = self.usage(Window(start=now))
        candidates = windows(self.moments(now, sizes, MOST))
        return telling(candidates, lambda window: self.usage(window.since(now)), always)

    def free_labels(self, sap: Sap) -> LabelSet:
        return sap.labels - LabelSet.of(self.labels.get(sap.id, ()))

    def _when(self, key: Key, window: Window) -> Window | None:
        profile = self.taken.get(key)
        fullest = profile.fullest(window) if profile is not None else window
        return None if fullest == window else fullest
