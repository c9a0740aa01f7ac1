"""A supplier in memory that keeps the contract of `lower_sp_clients.supplier`, for one account.

What a test may do besides: publish a note, let a call fail, hold a call back, look at the contexts that came in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from address_planner.labels import ANY_LABEL, LabelSet
from lower_sp_clients.supplier import EVERYTHING, Context, Interest, ServiceNotFound, SignedNote
from service_model.clock import Clock
from service_model.healing import HealPhase
from service_model.money import FREE, Price
from service_model.outcomes import (
    AddressingChoice,
    Alternative,
    Bindings,
    Committed,
    Event,
    Healing,
    NewerVersion,
    Nogood,
    Reason,
    ReasonCode,
    Refused,
    Reserved,
    ServiceState,
    ServiceStatus,
)
from service_model.quotes import Qualification, Quote, unqualified
from service_model.spec import ServiceSpec

HOLD_S = 300.0
MAX_BANDWIDTH_BPS = 10_000_000_000


@dataclass
class _Version:
    digest: str
    answer: Reserved | Refused
    expires: datetime
    released: bool = False
    committed: Bindings | None = None


@dataclass
class _Order:
    status: ServiceStatus
    versions: dict[int, _Version] = field(default_factory=dict)
    tombstone: int = 0
    terminated: bool = False


class FakeSupplier:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._orders: dict[str, _Order] = {}
        self._events: list[Event] = []
        self.may_heal = True
        self._notes: list[SignedNote] = []
        self._changed = asyncio.Condition()
        self.failures: dict[str, list[Exception]] = {}
        """Method -> what its next calls raise."""
        self.unknown_types: frozenset[str] = frozenset()
        """Function types that it refuses."""
        self.gate: asyncio.Event | None = None
        """While set and not open, reserve waits in its middle."""
        self.price = FREE
        self.quotes: dict[str, Price] = {}
        self.contexts: list[tuple[str, Context]] = []

    def knows(self, ref: str) -> bool:
        return ref in self._orders

    async def publish(self, note: SignedNote) -> None:
        async with self._changed:
            self._notes.append(note)
            self._changed.notify_all()

    async def notes(self) -> AsyncIterator[SignedNote]:
        shown = 0
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: len(self._notes) > shown)  # noqa: B023  awaited here
                note, shown = self._notes[-1], len(self._notes)
            yield note

    async def qualify(self, spec: ServiceSpec, ctx: Context) -> Qualification:
        self._enter("qualify", ctx)
        if (wrong := self._wrong(spec)) is not None:
            return unqualified(wrong)
        return Qualification(feasible=True, price=self.price, delay_us=4200)

    async def quote(self, spec: ServiceSpec, ctx: Context) -> Quote | Qualification:
        self._enter("quote", ctx)
        if (wrong := self._wrong(spec)) is not None:
            return unqualified(wrong)
        id = f"q{len(self.quotes) + 1}"
        self.quotes[id] = self.price
        return Quote(id=id, price=self.price, delay_us=4200, remaining_s=HOLD_S)

    async def reserve(self, ref: str, version: int, spec: ServiceSpec, ctx: Context) -> Reserved | Refused:
        self._enter("reserve", ctx)
        if self.gate is not None:
            await self.gate.wait()
        order = self._orders.get(ref)
        if order is not None and (known := order.versions.get(version)) is not None and not known.released:
            return self._again(known, spec)
        if order is not None and version <= order.tombstone:
            return _refused(ref, version, ReasonCode.VERSION_RELEASED, "this version was released")
        if (wrong := self._wrong(spec)) is not None:
            return Refused(ref=ref, version=version, reasons=(wrong,))
        if ctx.quote and ctx.quote not in self.quotes:
            return _refused(ref, version, ReasonCode.QUOTE_NOT_VALID, f"there is no quote {ctx.quote!r}", "quote")
        labels = {end.id: _label(end.labels or ANY_LABEL, end.suggested_label) for end in spec.ends}
        choice = AddressingChoice(labels=labels)
        price = self.quotes.get(ctx.quote, self.price)
        answer = Reserved(ref=ref, version=version, choice=choice, price=price, remaining_s=HOLD_S)
        expires = self._clock.now() + timedelta(seconds=HOLD_S)
        order = order or _Order(self._fresh_status(ref, version, spec))
        self._orders[ref] = order
        for other in order.versions.values():  # a higher version replaces a hold
            other.released = other.released or other.committed is None
        order.versions[version] = _Version(spec.digest(), answer, expires)
        if (
            order.status.state is ServiceState.ACTIVE and version > order.status.version
        ):  # it stands beside what is live
            newer = NewerVersion(version=version, state=ServiceState.RESERVED, price=price, remaining_s=HOLD_S)
            order.status = replace(order.status, newer=newer)
            return answer
        order.status = replace(order.status, version=version, choice=answer.choice, remaining_s=HOLD_S)
        await self._to(order, ServiceState.RESERVED)
        return answer

    def _wrong(self, spec: ServiceSpec) -> Reason | None:
        for function in spec.functions:
            if str(function.type) in self.unknown_types:
                message = f"nobody offers type {function.type}"
                return Reason(code=ReasonCode.UNKNOWN_FUNCTION_TYPE, message=message, subject=function.id)
        if spec.bandwidth_bps > MAX_BANDWIDTH_BPS:
            nearest = Alternative(gives=(ReasonCode.BANDWIDTH,), price=self.price, delay_us=4200)
            message = "there is not so much"
            return Reason(
                code=ReasonCode.BANDWIDTH, message=message, subject="bandwidth_bps", nogood=Nogood(alternative=nearest)
            )
        return None

    def _again(self, known: _Version, spec: ServiceSpec) -> Reserved | Refused:
        if known.digest != spec.digest():
            return _refused(known.answer.ref, known.answer.version, ReasonCode.KEY_REUSED, "came with another body")
        if isinstance(known.answer, Refused):
            return known.answer
        return replace(known.answer, remaining_s=(known.expires - self._clock.now()).total_seconds())

    async def extend(self, ref: str, version: int, seconds: float, ctx: Context) -> Reserved | Refused:
        self._enter("extend", ctx)
        held = self._held(ref, version)
        if held is None or isinstance(held.answer, Refused):
            return _refused(ref, version, ReasonCode.NOT_HELD, "there is no such hold")
        granted = min(seconds, HOLD_S)
        held.expires = self._clock.now() + timedelta(seconds=granted)
        return replace(held.answer, remaining_s=granted)

    async def commit(self, ref: str, version: int, bindings: Bindings, ctx: Context) -> Committed | Refused:
        self._enter("commit", ctx)
        held = self._held(ref, version)
        if held is None:
            return _refused(ref, version, ReasonCode.NOT_HELD, "there is no such hold")
        if held.committed is None:
            if held.expires <= self._clock.now():
                return _refused(ref, version, ReasonCode.HOLD_EXPIRED, "the hold ran out")
            held.committed = bindings
            order = self._orders[ref]
            order.status = replace(order.status, version=version, newer=None, binding=bindings, remaining_s=0.0)
            await self._to(order, ServiceState.ACTIVE)
        return Committed(ref=ref, version=version)

    async def release(self, ref: str, version: int, ctx: Context) -> None:
        self._enter("release", ctx)
        order = self._orders.get(ref)
        if order is None:
            order = self._orders[ref] = _Order(self._fresh_status(ref, version, None))
        order.tombstone = max(order.tombstone, version)
        held = order.versions.get(version)
        if held is not None and held.committed is None and not held.released:
            held.released = True
            if (newer := order.status.newer) is not None:  # what is live stays
                gone = replace(newer, state=ServiceState.EXPIRED, remaining_s=0.0)
                order.status = replace(order.status, newer=gone)
            else:
                await self._to(order, ServiceState.EXPIRED)

    async def terminate(self, ref: str, ctx: Context) -> None:
        self._enter("terminate", ctx)
        order = self._orders.setdefault(ref, _Order(self._fresh_status(ref, 0, None)))
        if not order.terminated:
            order.terminated, order.tombstone = True, 1 << 31
            for version in order.versions.values():
                version.released = True
            await self._to(order, ServiceState.TERMINATED)

    async def heal(self, ref: str, ctx: Context) -> None:
        """What is degraded is whole again, once `may_heal`."""
        self._enter("heal", ctx)
        if ref not in self._orders:
            raise ServiceNotFound(ref)
        order = self._orders[ref]
        if (healing := order.status.healing) is None:
            return
        if self.may_heal:
            order.status = replace(order.status, healing=None, reasons=())
            await self._to(order, ServiceState.ACTIVE)
        else:
            order.status = replace(order.status, healing=replace(healing, phase=HealPhase.GIVEN_UP))
            await self._to(order, ServiceState.DEGRADED)

    async def degrade(self, ref: str, healing: Healing) -> None:
        """A part of a live service is lost."""
        order = self._orders[ref]
        order.status = replace(order.status, healing=healing)
        await self._to(order, ServiceState.DEGRADED)

    async def status(self, ref: str, ctx: Context) -> ServiceStatus:
        self._enter("status", ctx)
        if ref not in self._orders:
            raise ServiceNotFound(ref)
        return self._orders[ref].status

    async def services(self, ctx: Context) -> AsyncIterator[ServiceStatus]:
        self._enter("services", ctx)
        for order in tuple(self._orders.values()):
            yield order.status

    async def watch(self, after: str, interest: Interest = EVERYTHING) -> AsyncIterator[Event]:
        position = int(after) if after else len(self._events)
        yield Event(token=str(position))
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: len(self._events) > position)  # noqa: B023  awaited here
                event = self._events[position]
            position += 1
            if event.status is not None and (told := interest.of(event.status)) is not None:
                yield replace(event, status=told)

    def _enter(self, method: str, ctx: Context) -> None:
        self.contexts.append((method, ctx))
        if self.failures.get(method):
            raise self.failures[method].pop(0)

    def _held(self, ref: str, version: int) -> _Version | None:
        order = self._orders.get(ref)
        held = order.versions.get(version) if order else None
        return None if held is None or held.released else held

    def _fresh_status(self, ref: str, version: int, spec: ServiceSpec | None) -> ServiceStatus:
        now = self._clock.now()
        return ServiceStatus(
            ref=ref,
            version=version,
            state=ServiceState.RESERVING,
            name=spec.name if spec else "",
            reference=spec.reference if spec else "",
            tags=spec.tags if spec else (),
            create_time=now,
            update_time=now,
        )

    async def _to(self, order: _Order, state: ServiceState) -> None:
        order.status = replace(order.status, state=state, update_time=self._clock.now())
        async with self._changed:
            self._events.append(Event(token=str(len(self._events) + 1), status=order.status))
            self._changed.notify_all()


def _refused(ref: str, version: int, code: ReasonCode, message: str, subject: str = "") -> Refused:
    return Refused(ref=ref, version=version, reasons=(Reason(code=code, message=message, subject=subject),))


def _label(allowed: LabelSet, suggested: int | None) -> int:
    return suggested if suggested is not None and suggested in allowed else allowed.nth(0)
