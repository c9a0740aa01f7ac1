"""The Linux domain behind the driver interface.

Rules enforced here
- What changes the kernel is done by one worker thread, one piece after the other, and to its end: a cancelled caller
  does not let the next change in beside it. Reading and probing do not wait for it.
- `apply` leaves a segment alone that is complete and unchanged, so that its traffic is not interrupted. One that this process
  has built, and that is still complete, is changed in place (`change`); anything else is taken away and built anew. What
  fails half-way is taken away again.
- `remove` deletes what the inventory finds, whatever blueprint had made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog
from pyroute2 import IPRoute

from lower_sp_clients.vim import implementations
from lower_sp_clients.vim.driver import (
    Blueprint,
    DriverError,
    DriverOffer,
    Item,
    Loss,
    Measurement,
    PortCounters,
    ProbePath,
    ProbeResult,
    SapPort,
)
from lower_sp_clients.vim.linux import ability, build, change, namespaces, naming, packets, survey, trunks
from lower_sp_clients.vim.linux.naming import NamespaceName, PortAlias
from lower_sp_clients.vim.linux.plan import SegmentPlan, plan
from lower_sp_clients.vim.linux.ruleset import Nft
from lower_sp_clients.vim.linux.saps import bears_headers, borders_of
from lower_sp_clients.vim.soundness import check_blueprint

log = structlog.get_logger()

Result = TypeVar("Result")


class LinuxDriver:
    """A domain of namespaces. `saps` with their settings (see `saps`); the domain's name is part of every tag."""

    def __init__(self, domain: str, saps: Sequence[SapPort], *, nft: str = "nft") -> None:
        """Raises ValueError for settings, DriverError when this machine lets it build nothing."""
        naming.check_domain(domain)
        self._domain = domain
        self._saps = {sap.id: sap for sap in saps}
        self._borders = borders_of(self._saps)
        self._nft = Nft(nft)
        headed = frozenset(sap.id for sap in saps if bears_headers(sap))
        self._offer = ability.detect(self._nft, headed)
        self._built: dict[str, SegmentPlan] = {}
        """What this process built last of each segment: only to change it in place, and never believed unseen."""
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"linux-{domain}")

    @property
    def offer(self) -> DriverOffer:
        return self._offer

    def check_parameters(self, implementation: str, parameters: Mapping[str, Any]) -> None:
        if implementation not in self._offer.implementations:
            raise ValueError(f"no implementation {implementation!r} in domain {self._domain!r}")
        implementations.check_parameters(implementation, parameters)

    def close(self) -> None:
        """End the worker thread, after what it is doing."""
        self._worker.shutdown()

    async def apply(self, blueprint: Blueprint) -> None:
        offer = self._offer
        check = self.check_parameters
        check_blueprint(blueprint, self._saps, offer.implementations, check, offer.versions, headed=offer.path_headers)
        wanted = plan(self._domain, blueprint, self._borders)
        await self._change(lambda: self._apply(wanted))

    async def remove(self, segment: str) -> None:
        await self._change(lambda: self._remove(segment))

    async def inventory(self) -> tuple[Item, ...]:
        return await _read(lambda: survey.items(self._domain, self._borders.values()))

    async def losses(self, blueprints: Sequence[Blueprint]) -> Mapping[str, tuple[Loss, ...]]:
        plans = [plan(self._domain, blueprint, self._borders) for blueprint in blueprints]
        return await _read(lambda: survey.losses(self._domain, plans, self._nft))

    async def measure(self, segment: str) -> Measurement:
        return await _read(lambda: self._measure(segment))

    async def probe(self, path: ProbePath) -> ProbeResult:
        return await _read(lambda: self._probe(path))

    async def _change(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._worker, _translated, work)

    @property
    def _border_namespaces(self) -> frozenset[str]:
        return frozenset(border.namespace for border in self._borders.values())

    def _apply(self, wanted: SegmentPlan) -> None:
        if survey.is_complete(self._domain, wanted, self._nft):
            self._built[wanted.segment] = wanted
            return
        former = self._built.pop(wanted.segment, None)
        if former is not None and self._changed(former, wanted):
            return
        self._remove(wanted.segment)
        try:
            build.build(self._domain, wanted, self._nft)
            self._complete(wanted)
        except BaseException:
            with suppress(Exception):  # the first failure is the one to tell; what remains is in the inventory
                self._remove(wanted.segment)
            raise

    def _changed(self, former: SegmentPlan, wanted: SegmentPlan) -> bool:
        """Whether it could be changed in place; if not, it is to be built anew."""
        if not change.can(former, wanted) or not survey.is_complete(self._domain, former, self._nft):
            return False
        try:
            change.change(former, wanted, self._nft)
            self._complete(wanted)
        except (DriverError, *build.KERNEL_ERRORS) as error:
            log.warning("not changed in place", domain=self._domain, segment=wanted.segment, error=str(error))
            return False
        return True

    def _complete(self, plan: SegmentPlan) -> None:
        for namespace, mark in survey.marks(plan, self._nft).items():
            build.mark_complete(namespace, mark)
        self._built[plan.segment] = plan

    def _remove(self, segment: str) -> None:
        self._built.pop(segment, None)
        trunks.remove(self._domain, segment, survey.trunks_of(self._borders.values()))
        for border in sorted(self._border_namespaces):
            doomed = [
                index for _, owner, index in survey.border_devices(self._domain, border, [segment]) if owner == segment
            ]
            if doomed:
                namespaces.run_in(border, partial(_delete, tuple(doomed)))
        for name in survey.service_namespaces(self._domain):
            if name.segment == segment:
                build.remove_devices(str(name))
                namespaces.delete(str(name))

    def _functions(self, segment: str) -> list[NamespaceName]:
        services = [name for name in survey.service_namespaces(self._domain) if name.segment == segment]
        if not services:
            raise DriverError(f"segment {segment!r} is not there")
        return [name for name in services if name.kind == naming.FUNCTION]

    def _measure(self, segment: str) -> Measurement:
        ports: list[PortCounters] = []
        values: dict[str, float] = {}
        for name in self._functions(segment):
            ports += survey.read_ports(name)
            values |= survey.read_values(name, self._nft)
        return Measurement(ports=tuple(ports), values=values)

    def _probe(self, path: ProbePath) -> ProbeResult:
        name = next((name for name in self._functions(path.segment) if name.id == path.function), None)
        if name is None:
            raise DriverError(f"segment {path.segment!r} has no function {path.function!r}")
        device = namespaces.run_in(str(name), lambda: _device_of(path.port))
        if device is None:
            raise DriverError(f"function {path.function!r} of segment {path.segment!r} has no port {path.port!r}")
        echo = packets.ping(str(name), path.target, size=path.size, device=device)
        return ProbeResult(ok=echo.ok, detail=echo.detail)


def _delete(indices: tuple[int, ...]) -> None:
    with IPRoute() as ip:
        for index in indices:
            build.delete_device(ip, index)


def _device_of(port: str) -> str | None:
    with IPRoute() as ip:
        for link in ip.get_links():
            alias = PortAlias.parse(link.get("ifalias") or "")
            if alias is not None and alias.port == port:
                return str(link.get("ifname"))
    return None


async def _read(work: Callable[[], Result]) -> Result:
    return await asyncio.to_thread(_translated, work)


def _translated(work: Callable[[], Result]) -> Result:
    """A kernel error that escaped becomes the interface's own."""
    try:
        return work()
    except DriverError:
        raise
    except build.KERNEL_ERRORS as error:
        raise DriverError(f"the kernel refused: {error}") from error
