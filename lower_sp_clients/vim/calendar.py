"""What a domain has given out over time: a profile for each way, SAP and host, and its labels. Pure.

Rules kept here
- What has bandwidth or units is taken from its start to its end, and what overlaps adds up (`Profile`).
- A label is taken from the hold on until it has rested, whenever the service begins and ends: two that follow each other do
  not share one. See ADR 0044.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from address_planner.labels import LabelSet
from lower_sp_clients.vim.domain import Key, Sap, Usage
from lower_sp_clients.vim.profile import Profile
from service_model.window import Window


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

    def free_labels(self, sap: Sap) -> LabelSet:
        return sap.labels - LabelSet.of(self.labels.get(sap.id, ()))

    def _when(self, key: Key, window: Window) -> str:
        """When most of a resource is taken, as it stands in a reason; nothing where that is the whole window."""
        profile = self.taken.get(key)
        fullest = profile.fullest(window) if profile is not None else window
        return "" if fullest == window else f" {fullest}"
