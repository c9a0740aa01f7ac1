"""Accepted editions that are only in memory."""

from __future__ import annotations

from collections.abc import Mapping


class EditionsInMemory:
    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, int]] = {}

    async def load(self) -> Mapping[str, tuple[str, int]]:
        return self.kept

    async def save(self, accepted: Mapping[str, tuple[str, int]]) -> None:
        self.kept |= accepted

    async def forget(self, alias: str) -> None:
        self.kept.pop(alias, None)
