"""A domain in memory behind the driver interface: no kernel, no clock, no sockets, and the same refusals.

Rules enforced here
- It refuses what real infrastructure would: unknown SAPs, labels that are in use, addresses that clash, implementations
  and parameters that it does not know (see `soundness`).
- A probe is answered by walking what is built (see `simulated_domain`), never by believing the blueprint.
- A fault is injected, used up by the next call of that operation, and may leave an `apply` half done.
- What it loses (`lose`) is gone until it is built again. While it is `away` it answers nothing, and keeps what it has.

Domains are joined SAP to SAP, so that chains through several of them can be proved; a customer is a domain of one
function with one port.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from lower_sp_clients.vim import implementations
from lower_sp_clients.vim.driver import (
    Blueprint,
    DriverError,
    DriverOffer,
    Item,
    Loss,
    Measurement,
    ProbePath,
    ProbeResult,
    SapPort,
)
from lower_sp_clients.vim.implementations import IMPLEMENTATIONS
from lower_sp_clients.vim.simulated_domain import Domain, Lost, Seen, Station, echo
from lower_sp_clients.vim.soundness import ENCAPSULATIONS, check_blueprint, label_in_use

Operation = Literal["apply", "remove", "inventory", "losses", "measure", "probe"]


class SimulatedDriver:
    """A domain with these SAPs. `offered` may be less than all implementations, `versions` less than both of IP."""

    def __init__(
        self,
        saps: Sequence[SapPort],
        *,
        offered: frozenset[str] = IMPLEMENTATIONS,
        versions: frozenset[int] = frozenset({4, 6}),
    ) -> None:
        self._saps = {sap.id: sap for sap in saps}
        self._offer = DriverOffer(
            implementations=offered,
            encapsulations=ENCAPSULATIONS,
            lan=True,
            probes=True,
            path_headers=frozenset(self._saps),
            versions=versions,
        )
        self._domain = Domain()
        self.away = False
        """Whether it cannot be reached."""
        self._faults: defaultdict[str, deque[tuple[Exception, bool]]] = defaultdict(deque)

    @property
    def offer(self) -> DriverOffer:
        return self._offer

    def check_parameters(self, implementation: str, parameters: Mapping[str, Any]) -> None:
        if implementation not in self._offer.implementations:
            raise ValueError(f"no implementation {implementation!r} in this domain")
        implementations.check_parameters(implementation, parameters)

    @property
    def saps(self) -> tuple[str, ...]:
        """The ids of its SAPs."""
        return tuple(self._saps)

    @property
    def segments(self) -> frozenset[str]:
        """Those of which anything is built."""
        return frozenset(self._domain.built)

    @property
    def seen(self) -> tuple[Seen, ...]:
        """What packets bore in its networks and where they left by its SAPs, the latest last."""
        return tuple(self._domain.seen)

    def blueprint(self, segment: str) -> Blueprint:
        """What is built of a segment. Raises DriverError."""
        return self._segment(segment)

    def join(self, sap: str, other: SimulatedDriver, other_sap: str) -> None:
        """Wire a SAP to one of another simulated domain. Raises DriverError for an unknown SAP, and for one that encapsulates
        in another way: no frame of the one would be one of the other."""
        for driver, name in ((self, sap), (other, other_sap)):
            if name not in driver._saps:
                raise DriverError(f"unknown SAP {name!r}")
        near, far = self._saps[sap].encapsulation, other._saps[other_sap].encapsulation
        if near != far:
            raise DriverError(f"SAP {sap!r} is {near}, and {other_sap!r} is {far}")
        self._domain.join(sap, other._domain, other_sap)

    def fail_next(self, operation: Operation, error: Exception, *, half_done: bool = False) -> None:
        """The next call of `operation` raises `error`; an `apply` that is `half_done` has built part of it by then."""
        self._faults[operation].append((error, half_done))

    def lose(self, segment: str, function: str = "") -> None:
        """A function goes by itself, or all of the segment. Raises DriverError for what is not there."""
        built = self._segment(segment)
        if function:
            self.station(segment, function)
            self._domain.built[segment] = replace(
                built, functions=tuple(f for f in built.functions if f.id != function)
            )
        else:
            self._domain.forget(segment)

    async def apply(self, blueprint: Blueprint) -> None:
        fault = self._fault("apply")
        if fault is not None and not fault[1]:
            raise fault[0]
        offer = self._offer
        check = self.check_parameters
        check_blueprint(blueprint, self._saps, offer.implementations, check, offer.versions, headed=offer.path_headers)
        for attachment in blueprint.attachments:
            held = self._domain.holder(attachment.sap, attachment.label)
            if held is not None and held[0] != blueprint.segment:
                raise label_in_use(attachment)
        if fault is not None:
            half = len(blueprint.functions) // 2
            self._domain.replace(replace(blueprint, functions=blueprint.functions[:half], attachments=()))
            raise fault[0]
        if self._domain.built.get(blueprint.segment) != blueprint:
            self._domain.replace(blueprint)

    async def remove(self, segment: str) -> None:
        self._fail("remove")
        self._domain.forget(segment)

    async def inventory(self) -> tuple[Item, ...]:
        self._fail("inventory")
        found = []
        for segment, blueprint in sorted(self._domain.built.items()):
            found += [Item(segment=segment, kind="network", name=network.id) for network in blueprint.networks]
            found += [Item(segment=segment, kind="function", name=function.id) for function in blueprint.functions]
            found += [
                Item(segment=segment, kind="attachment", name=f"{a.sap}:{a.label}", sap=a.sap, label=a.label)
                for a in blueprint.attachments
            ]
        return tuple(found)

    async def losses(self, blueprints: Sequence[Blueprint]) -> Mapping[str, tuple[Loss, ...]]:
        self._fail("losses")
        found = {blueprint.segment: self._lost(blueprint) for blueprint in blueprints}
        return {segment: lost for segment, lost in found.items() if lost}

    def _lost(self, blueprint: Blueprint) -> tuple[Loss, ...]:
        there = self._domain.built.get(blueprint.segment)
        if there is None:
            return (Loss(what="all of the segment"),)
        built = {function.id for function in there.functions}
        gone = [f.id for f in blueprint.functions if f.id not in built]
        return tuple(Loss(what=f"function {id!r} is gone", function=id) for id in gone)

    async def measure(self, segment: str) -> Measurement:
        self._fail("measure")
        self._segment(segment)
        return Measurement(
            ports=self._domain.port_counters(segment),
            values={name: float(count) for name, count in self._domain.values[segment].items()},
        )

    async def probe(self, path: ProbePath) -> ProbeResult:
        self._fail("probe")
        station = self.station(path.segment, path.function)
        port = next((p for p in station.function.ports if p.name == path.port), None)
        if port is None:
            raise DriverError(f"function {path.function!r} of segment {path.segment!r} has no port {path.port!r}")
        try:
            echo(station, port, path.target, path.size)
        except Lost as lost:
            return ProbeResult(ok=False, detail=str(lost))
        return ProbeResult(ok=True)

    def station(self, segment: str, function: str) -> Station:
        """A function where it is built, to send packets from. Raises DriverError."""
        found = next((f for f in self._segment(segment).functions if f.id == function), None)
        if found is None:
            raise DriverError(f"segment {segment!r} has no function {function!r}")
        return Station(self._domain, segment, found)

    def _segment(self, segment: str) -> Blueprint:
        if segment not in self._domain.built:
            raise DriverError(f"segment {segment!r} is not there")
        return self._domain.built[segment]

    def _fault(self, operation: Operation) -> tuple[Exception, bool] | None:
        if self.away:
            return DriverError("the domain cannot be reached"), False
        waiting = self._faults[operation]
        return waiting.popleft() if waiting else None

    def _fail(self, operation: Operation) -> None:
        fault = self._fault(operation)
        if fault is not None:
            raise fault[0]
