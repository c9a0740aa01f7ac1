"""Brokers and domains stacked in one process, without I/O: they sell to each other by plain calls.

Rules kept here
- A broker is the tasks of `broker.orders` and nothing else: what is planned, split, asked, pinned, planned again and
  released here is what a node does. A domain is `choose` over its own usage.
- Notes are those of the last `refresh`: an order is planned at every level with what was announced before it came. A note
  is derived again only where one below it changed, and when somebody asks for it.
- Each broker has a secret of its own, as nodes have: two brokers' words for one place are not the same.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from ipaddress import ip_network
from typing import Protocol

import broker.orders.comparing
import broker.orders.contending
import broker.orders.reserving  # noqa: F401  the tasks register themselves
from broker.decompose.derive import Findings, derive
from broker.decompose.lexicon import Lexicon, lexicon
from broker.decompose.plan import Infeasible, Plan, Snapshot
from broker.decompose.search import best
from broker.orders.accounting import answer
from broker.orders.catalogue import Catalogue, Listing
from broker.orders.delivering import fold
from broker.orders.path_ids import PathIds
from broker.orders.records import Order, Terms
from broker.orders.states import Event
from broker.orders.tasks import CallKind, Env, Pause, Question, abandon, advance
from capability_registry.abstraction import OPEN, Disclosure, abstracted
from capability_registry.note import CapabilityNote
from capability_registry.sharing import marked, minted
from lower_sp_clients.versions import Verdict, judge
from lower_sp_clients.vim import accounting
from lower_sp_clients.vim.announcing import note
from lower_sp_clients.vim.calendar import Calendar
from lower_sp_clients.vim.choosing import choose
from lower_sp_clients.vim.domain import Domain
from lower_sp_clients.vim.holds import Hold
from lower_sp_clients.vim.placing import Impossible, flavour_of
from service_model.constraints import PLACEMENT
from service_model.flows import PATHS
from service_model.outcomes import Reason, ReasonCode, Refused, Reserved, ServiceState
from service_model.qos import QOS
from service_model.spec import LAN_SITES, ServiceSpec
from service_model.window import ALWAYS
from service_model.words import Prefix

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
_ABOVE = "above"
HOPES = 0
"""How often an order is planned over what was announced before, where nothing else is said."""
CALLS = 1000
"""What an order may spend, at each level."""


class Seller(Protocol):
    """Whoever can be bought from."""

    sp_id: str

    def refresh(self) -> None:
        """From now on its note tells what it has now."""

    def note(self) -> CapabilityNote: ...

    def reserve(self, ref: str, version: int, spec: ServiceSpec) -> Reserved | Refused: ...

    def release(self, ref: str) -> None: ...


class Leaf:
    """A provider with a domain of its own and nothing else."""

    def __init__(self, domain: Domain) -> None:
        self.domain, self.calendar = domain, Calendar()
        self.sp_id = domain.sp_id
        self._holds: dict[str, Hold] = {}
        self._told, self._changes = 0, 1
        self.refresh()

    def refresh(self) -> None:
        if self._told != self._changes:
            self._told = self._changes
            made = note(self.domain, self.calendar.usage(ALWAYS), self._told, NOW, HOUR)
            self._note = marked(made, partial(minted, hashlib.sha256(self.sp_id.encode()).digest(), ""))

    def note(self) -> CapabilityNote:
        return self._note

    def reserve(self, ref: str, version: int, spec: ServiceSpec) -> Reserved | Refused:
        held = self._holds.get(ref)
        accounting.count(self.calendar, held, -1)
        try:
            choice = choose(self.domain, self.calendar.usage(ALWAYS), spec, f"{ref}/{version}")
        except Impossible as error:
            accounting.count(self.calendar, held, 1)
            return Refused(ref=ref, version=version, reasons=error.reasons)
        offers = {f.type: f for f in self.domain.functions}
        hold = Hold(
            ref=ref,
            version=version,
            state=ServiceState.RESERVED,
            created=NOW,
            updated=NOW,
            spec=spec,
            choice=choice.addressing,
            ways=tuple(way.id for way in choice.ways),
            hosts=choice.hosts,
            units={f.id: flavour_of(offers[f.type], f).units for f in spec.functions},
        )
        accounting.count(self.calendar, hold, 1)
        self._holds[ref] = hold
        self._changes += 1
        return Reserved(
            ref=ref,
            version=version,
            choice=choice.addressing,
            price=choice.price,
            remaining_s=3600,
            delay_us=choice.delay_us,
            path_delays_us=choice.delays_us,
        )

    def release(self, ref: str) -> None:
        if (held := self._holds.pop(ref, None)) is not None:
            accounting.count(self.calendar, held, -1)
            self._changes += 1


class Middle:
    """A provider that buys from `suppliers` (by alias) and has nothing itself. It lets its customers see `disclosure`.
    `sold_besides`: those of them that others sell too."""

    def __init__(
        self,
        sp_id: str,
        suppliers: Mapping[str, Seller],
        margin: Decimal = Decimal(1),
        disclosure: Disclosure = OPEN,
        hopes: int = HOPES,
        sold_besides: Collection[str] = (),
    ) -> None:
        self.sp_id, self.suppliers, self.hopes = sp_id, dict(suppliers), hopes
        self.terms = Terms(margin=margin, disclosure=disclosure)
        self._catalogue = Catalogue(sp_id, remembers=hopes > 0)
        self._catalogue.list(
            tuple(
                Listing(
                    alias=alias,
                    sp_id=seller.sp_id,
                    local=not isinstance(seller, Middle),
                    sold_besides=alias in sold_besides,
                )
                for alias, seller in sorted(suppliers.items())
            )
        )
        self._read: dict[str, CapabilityNote] = {}
        self._note: CapabilityNote | None = None
        self._findings = Findings()
        self._editions = 0
        self._orders: dict[str, Order] = {}
        self.crankbacks: Counter[str] = Counter()
        self.hoped: Counter[str] = Counter()
        """By ref, how often its order was planned again, and over what was announced before."""
        self._secret = hashlib.sha256(sp_id.encode()).digest()
        self._epoch = str(uuid.uuid5(uuid.NAMESPACE_OID, sp_id))
        self.refresh()

    def refresh(self) -> None:
        for alias, seller in self.suppliers.items():
            seller.refresh()
            if self._read.get(alias) is not seller.note():
                self._read[alias] = seller.note()
                self._catalogue.put(alias, seller.note())
                self._note = None

    @property
    def snapshot(self) -> Snapshot:
        return self._catalogue.snapshot

    def note(self) -> CapabilityNote:
        if self._note is None:
            self._editions += 1
            made = derive(
                self.snapshot, self.sp_id, self._editions, _ABOVE, NOW, HOUR, self.terms.margin, "EUR",
                f"of-{self.sp_id}", 300, (LAN_SITES, PATHS, PLACEMENT, QOS), self._findings,
            )  # fmt: skip
            self._note = abstracted(made, self.terms.disclosure, self._lexicon().words or {})
        return self._note

    def _lexicon(self) -> Lexicon:
        return lexicon(self.snapshot, self._secret, _ABOVE, self.terms.disclosure)

    def reserve(self, ref: str, version: int, spec: ServiceSpec) -> Reserved | Refused:
        known = self._orders.get(ref)
        verdict = judge(known.known() if known else None, version, spec.digest())
        if isinstance(verdict, Reason):
            return Refused(ref=ref, version=version, reasons=(verdict,))
        if verdict is not Verdict.REPEAT or known is None:
            known = self._run(self._begun(known, ref, version, spec))
        return answer(known, version, NOW)

    def _begun(self, known: Order | None, ref: str, version: int, spec: ServiceSpec) -> Order:
        fresh = Order(
            id=f"{self.sp_id}/{ref}",
            account=_ABOVE,
            ref=ref,
            version=version,
            state=ServiceState.RESERVING,
            created=NOW,
            updated=NOW,
            epoch=self._epoch,
            digest=spec.digest(),
            spec=spec,
            terms=self.terms,
            deadline=NOW + HOUR,
            call_budget=CALLS,
        )
        if known is None:
            return fresh
        held = known.state is ServiceState.RESERVED
        return replace(
            fresh,
            segments=tuple(replace(s, wanted=False) for s in known.segments),
            released_upto=known.released_upto,
            answers=known.answers,
            block=known.block,
            second_block=known.second_block,
            previous=replace(known, previous=None) if held else known.previous,
        )

    def release(self, ref: str) -> None:
        order = self._orders.pop(ref, None)
        if order is not None and order.state is ServiceState.RESERVED:
            self._run(replace(abandon(order), released_upto=order.version).on(Event.RELEASE))
            del self._orders[ref]

    def _run(self, order: Order) -> Order:
        words = self._lexicon()
        env = Env(
            now=NOW, snapshot=self.snapshot, allocate=_block, identify=PathIds().allocate,
            lexicon=lambda account, terms: words,
            hoped=partial(self._catalogue.hoped, self.snapshot), hopes=self.hopes,
        )  # fmt: skip
        while (pause := advance(order, env)).calls or pause.asks or _waits(pause):
            order = pause.order
            if pause.wake is not None:  # it waits for a label: nobody else moves meanwhile
                env = replace(env, now=pause.wake)
            if pause.asks is not None:
                env = replace(env, planned=(*env.planned, (pause.asks, _plan(pause.asks, env.over(pause.asks)))))
            for call in pause.calls:
                segment = order.segment(call.segment)
                assert segment is not None
                seller = self.suppliers[segment.alias]
                result = None
                if call.kind is CallKind.RESERVE:
                    result = seller.reserve(segment.ref, call.version, segment.spec)
                else:
                    assert call.kind is CallKind.RELEASE, "a reservation makes no other call"
                    seller.release(segment.ref)
                order = fold(order, call, result, NOW, NOW)
        self._orders[order.ref] = pause.order
        self.crankbacks[order.ref], self.hoped[order.ref] = pause.order.crankbacks, pause.order.hopes
        return pause.order


def _waits(pause: Pause) -> bool:
    """Whether it waits for a label; a hold that waits for its end is left as it is."""
    return pause.wake is not None and pause.order.state is ServiceState.RESERVING


def _plan(question: Question, snapshot: Snapshot) -> tuple[Plan, ...] | Infeasible:
    """As a node plans, but for the explanation of a refusal."""
    found = best(question.spec, snapshot, NOW, question.avoid)
    return (found,) if found else Infeasible(reasons=(Reason(code=ReasonCode.NO_PATH, message="no plan"),))


def _block(owner: str, sizes: Mapping[int, int], avoid: Sequence[Prefix] = ()) -> tuple[tuple[str, Prefix], ...]:
    return (("pool", ip_network(f"10.0.0.0/{32 - max(sizes.values())}")),)
