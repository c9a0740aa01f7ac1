"""A driver that alters a blueprint before another applies it: a fault that nobody planned, to be found by who verifies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lower_sp_clients.vim.driver import (
    Blueprint,
    Driver,
    DriverOffer,
    Item,
    Loss,
    Measurement,
    ProbePath,
    ProbeResult,
)


class PlantedDriver:
    """All but `apply` is the other driver's."""

    def __init__(self, driver: Driver, alter: Callable[[Blueprint], Blueprint]) -> None:
        self._driver, self._alter = driver, alter

    @property
    def offer(self) -> DriverOffer:
        return self._driver.offer

    def check_parameters(self, implementation: str, parameters: Mapping[str, Any]) -> None:
        self._driver.check_parameters(implementation, parameters)

    async def apply(self, blueprint: Blueprint) -> None:
        await self._driver.apply(self._alter(blueprint))

    async def remove(self, segment: str) -> None:
        await self._driver.remove(segment)

    async def inventory(self) -> tuple[Item, ...]:
        return await self._driver.inventory()

    async def losses(self, blueprints: Sequence[Blueprint]) -> Mapping[str, tuple[Loss, ...]]:
        return await self._driver.losses([self._alter(blueprint) for blueprint in blueprints])

    async def measure(self, segment: str) -> Measurement:
        return await self._driver.measure(segment)

    async def probe(self, path: ProbePath) -> ProbeResult:
        return await self._driver.probe(path)
