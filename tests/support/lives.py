"""Orders from reservation to their end over three levels, whatever happens to the brokers meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

from sqlalchemy import select

from address_planner.labels import LabelSet
from broker.orders.decisions import ManagerTerms
from broker.orders.records import Order, Segment
from broker.storage import tables
from broker.storage.errors import StoreError
from lower_sp_clients.supplier import OutcomeUnknown
from lower_sp_clients.vim.accounting import TAKES
from lower_sp_clients.vim.driver import Blueprint
from lower_sp_clients.vim.simulated import SimulatedDriver
from service_model.flavours import Flavour
from service_model.healing import HealPhase, HealPolicy
from service_model.managing import (
    Answer,
    DecisionOutcome,
    FunctionFlavour,
    ManagerTask,
    Question,
    ScaleQuestion,
    Scaling,
)
from service_model.money import Price
from service_model.outcomes import Committed, ReasonCode, Refused, Reserved, ServiceState, ServiceStatus
from service_model.spec import ServiceSpec
from tests.support.crashing import METHODS, CrashingDriver, CrashingStore, Points, calls
from tests.support.orders import CONFIRM, CTX
from tests.support.scripted_manager import AskedAtPoints, ScriptedManager
from tests.support.sites import POOL, Either, Site, Sp, chain
from tests.support.stack import Node, Stack

_UNI = LabelSet(((1, 99),))
_C = Sp("c", (Site("s3", ("shaper",), uni=_UNI),))
METERS = (
    Flavour(name="s", price=Price(per_hour=Decimal("0.1"))),
    Flavour(name="l", units=2, price=Price(per_hour=Decimal("0.2"))),
)
_EITHER = Either((Site("s2", ("meter",), flavours=METERS), Site("s4", ("meter",), flavours=METERS)))
TOP = Sp("a", (Site("s1", ("firewall",), uni=_UNI), Sp("b", (_EITHER, _C))), (POOL,))
SPEC = chain("s1.uni", "b.c.s3.uni", "firewall", "meter", "shaper", lan=True)
ASKING = chain("s1.uni", "b.c.s3.uni", "firewall", "meter", "shaper", lan=True, healing=HealPolicy.ASK)
MODIFIED = chain("s1.uni", "b.c.s3.uni", "firewall", "meter", "meter", "shaper", lan=True, bandwidth_bps=10**7)
"""The same with one more function and ten times the bandwidth: every domain has other than before."""
SIZED = chain("s1.uni", "b.c.s3.uni", "firewall", "meter", "shaper", lan=True, managers=("mine",))
"""Its meter is large where a manager says so."""
KINDS: dict[str, tuple[str, ...]] = {
    "terminated": ("reserve", "commit", "deliver", "terminate"),
    "released": ("reserve", "release"),
    "extended": ("reserve", "wait", "extend", "wait", "commit", "deliver", "terminate"),
    "ended early": ("reserve", "commit", "terminate"),
    "modified": ("reserve", "commit", "deliver", "modify", "commit", "deliver", "terminate"),
    "scheduled": ("reserve_ahead", "commit", "deliver", "run_out"),
    "built again": ("reserve", "commit", "deliver", "lose", "deliver", "terminate"),
    "healed": ("reserve", "commit", "deliver", "fail", "deliver", "terminate"),
    "flapping": ("reserve", "commit", "deliver", "flap", "deliver", "terminate"),
    "healed when asked": ("reserve_asking", "commit", "deliver", "fail", "wish", "deliver", "terminate"),
    "sized": ("reserve_sized", "commit", "deliver", "modify_sized", "commit", "deliver", "terminate"),
}
"""What a customer does, step by step: methods of Lives, and of those over sockets. A kind of life that is named here is tried
at every point that it goes through."""
BY_THE_CLOCK = frozenset({"scheduled", "built again", "flapping"})
"""Kinds of life of which something is done at its time."""
WAITS_S, LONGER_S, A_WHILE_S = 180.0, 280.0, 50.0
"""So long a customer waits, twice, which is longer than a hold; and has it held so long instead, or nearly."""
BEGINS, ENDS = timedelta(seconds=20), timedelta(seconds=900)
"""A scheduled life is to begin so long after it is asked for, and to end."""
NOTHING_LEFT = "in the end nothing is held, allocated, built or under way at any level"
CHARGED_ONCE = "nothing is charged twice, and what is delivered is charged"
ONE_TRUTH = "what the customer is told of a live service is what it was promised"
ONE_SIZE = "what size a function is at the bottom is what was recorded at the top of its manager's answer"
ONE_PART = "each domain has built exactly one part of it, and knows it as active"
GIVEN_BACK = "what is not wanted any more is given back, and does not wait for its hold to end"
KEPT = "a hold that has not ended is committed when its customer says so"
_LIVE = frozenset({ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.COMMITTING})
_STANDS = _LIVE | {ServiceState.DEGRADED}
TURNS = 60
"""Of the loop, in which everybody does what can be done at a moment."""
VERSIONS = 60
"""How often a customer asks again who is refused."""


def large_meters(question: Question) -> Answer:
    assert isinstance(question, ScaleQuestion)
    functions = dict.fromkeys(offer.function for offer in question.offers if offer.flavour.name == "l")
    return Scaling(flavours=tuple(FunctionFlavour(function=f, flavour="l") for f in functions))


class Late(Exception):
    """The hold ended before its customer came to commit it."""


class Lives:
    """Orders of customers who ask again until there is an answer. `orders`: by ref which of KINDS its life is. `points`: of
    each node, what may befall it in its next life. `down_s`: how long one that died is away; `late_s`: how long a call takes
    that comes late."""

    def __init__(
        self,
        directory: Path,
        orders: dict[str, str],
        points: Callable[[str], Points],
        down_s: Callable[[], float] = lambda: 3.0,
        late_s: Callable[[], float] = lambda: 45.0,
        draw: str = "",
    ) -> None:
        self.orders, self._next, self._down_s, self._late_s = orders, points, down_s, late_s
        self.held: dict[str, Reserved] = {}
        self.scheduled: dict[str, ServiceSpec] = {}
        self.checked: Counter[str] = Counter()
        """How often each invariant was."""
        self.sized: set[str] = set()
        """Orders whose manager says what size a function is."""
        self.delivered: set[str] = set()
        """Orders that came so far."""
        self.failed: dict[str, str] = {}
        """By order, the ref of the segment that was lost."""
        self.lost: dict[str, tuple[SimulatedDriver, Blueprint]] = {}
        """By order, of what was lost and is to be built again, all that there was of it, and where."""
        self.ends: dict[str, float] = {}
        """Until when each is held, as its customer was told: seconds of the clock."""
        self.stack = Stack(TOP, directory, draw=draw)
        self._breaks = asyncio.Event()
        self.points = {name: self._life_of(name) for name in self.stack.nodes}
        self._former: list[Points] = []
        self.versions = dict.fromkeys(orders, 0)
        self._returns: dict[str, float] = {}
        self._ticks: dict[str, asyncio.Task[None]] = {}
        for name, node in self.stack.nodes.items():
            self._watch(name, node)
        top = self.stack.nodes["a"]
        manager = ManagerTerms(document="doc", decides=(ManagerTask.SCALE,))
        top.terms = replace(top.terms, managers={"mine": manager})
        top.managers["doc"] = AskedAtPoints(ScriptedManager(large_meters), lambda: self.points["a"])

    def _life_of(self, name: str) -> Points:
        points = self._next(name)
        points.later = lambda: self.stack.clock.sleep(self._late_s())
        points.breaks = lambda: self._breaks
        return points

    def _watch(self, name: str, node: Node) -> None:
        def points() -> Points:
            return self.points[name]

        node.store = lambda engine: CrashingStore.over(engine, points)
        node.building = lambda site, driver: CrashingDriver(driver, site, points)

    async def lived(self) -> None:
        async with self.stack as stack:
            for name, node in stack.nodes.items():
                for alias, line in node.lines.items():
                    line.always = {m: calls(alias, m, lambda name=name: self.points[name]) for m in METHODS}  # type: ignore[misc]
                self.points[name].counts = True
            lives = [asyncio.create_task(self._life(ref, kind)) for ref, kind in self.orders.items()]
            try:
                await self._pass(lives)
            finally:
                for task in (*lives, *self._ticks.values(), *(t for p in self._every_life() for t in p.under_way)):
                    task.cancel()
            await self._charged_once()

    async def _pass(self, lives: list[asyncio.Task[None]]) -> None:
        """Time passes until all lives are over and nothing is left; a broker that dies comes back."""
        busy: list[str] = []
        for turn in count():
            if turn > 6000:
                raise AssertionError(f"it goes on for ever: {busy} {self.stack.states()}")
            for name, points in self.points.items():
                if points.died.is_set():
                    await self._dies_or_returns(name)
            if all(life.done() for life in lives) and not self._returns:
                for life in lives:
                    life.result()
                busy = await self.stack.busy()
                self.checked[NOTHING_LEFT] += not busy
                busy += [f"{len(p.under_way)} calls are under way" for p in self._every_life() if p.under_way]
                if not busy:
                    return
            for _ in range(TURNS):
                await asyncio.sleep(0)
            self.stack.clock.advance(self._step())
            if not BY_THE_CLOCK.isdisjoint(self.orders.values()):
                self._tick()

    def _tick(self) -> None:
        """What domains do by the clock, each for itself; one whose broker dies while it does waits for ever."""
        for name, node in self.stack.nodes.items():
            former = self._ticks.get(name)
            if not node.down.is_set() and (former is None or former.done()):
                self._ticks[name] = asyncio.create_task(self._ticked(node))

    async def _ticked(self, node: Node) -> None:
        for vim in node.vims.values():
            with suppress(StoreError):  # the next time
                await vim.tick()

    def _step(self) -> float:
        """To the next moment at which anything happens."""
        clock = self.stack.clock
        returning = min(self._returns.values(), default=math.inf) - self._now()
        return max(0.01, min(clock.quiet_s(), returning, 10.0))

    async def _dies_or_returns(self, name: str) -> None:
        now = self._now()
        if name not in self._returns:
            self._returns[name] = now + self._down_s()
            self._breaks.set()
            self._breaks = asyncio.Event()
            if (ticking := self._ticks.pop(name, None)) is not None:
                ticking.cancel()
            await self.stack.stop(name)
        elif now >= self._returns[name]:
            del self._returns[name]
            self._former.append(self.points[name])
            self.points[name] = self._life_of(name)
            await self.stack.start(name)
            for known, node in reversed(self.stack.nodes.items()):
                if not node.down.is_set():
                    self.stack.announce(known)
            self.points[name].counts = True

    def _every_life(self) -> Iterator[Points]:
        yield from (*self._former, *self.points.values())

    async def _life(self, ref: str, kind: str) -> None:
        for step in KINDS[kind]:
            try:
                await getattr(self, step)(ref)
            except Late:
                return

    def _now(self) -> float:
        return self.stack.clock.now().timestamp()

    async def reserve_ahead(self, ref: str) -> None:
        now = self.stack.clock.now()
        self.scheduled[ref] = replace(SPEC, start_time=now + BEGINS, end_time=now + ENDS)
        await self.reserve(ref, self.scheduled[ref])

    async def run_out(self, ref: str) -> None:
        """Until it is over, which is not before its time and not long after."""
        end = self.scheduled[ref].end_time
        assert end is not None
        while True:
            await self.stack.clock.sleep(1)
            if self.stack.nodes["a"].down.is_set():
                continue
            over = self.stack.broker("a").status("alice", ref).state in (
                ServiceState.TERMINATING,
                ServiceState.TERMINATED,
            )
            assert over or self._now() < end.timestamp() + 120, "it goes on after its end"
            if over:
                assert self._now() >= end.timestamp(), "it was ended before its time"
                return

    async def reserve_asking(self, ref: str) -> None:
        """What is lost of it is healed when its customer says so."""
        await self.reserve(ref, ASKING)

    async def wish(self, ref: str) -> None:
        """When it is told that it waits for that."""
        while True:
            await self.stack.clock.sleep(0.2)
            if self.stack.nodes["a"].down.is_set() or self.points["a"].died.is_set():
                continue
            told = self.stack.broker("a").status("alice", ref).healing
            if told is not None and told.phase is HealPhase.WAITING:
                await self._asked(lambda: self.stack.customer().heal(ref, CTX))
                return

    async def reserve_sized(self, ref: str) -> None:
        """A manager says what size its meter is, if it is heard."""
        self.sized.add(ref)
        await self.reserve(ref, SIZED)

    async def modify_sized(self, ref: str) -> None:
        """With ten times the bandwidth: the manager is asked again."""
        await self.reserve(ref, replace(SIZED, bandwidth_bps=10**7))

    async def modify(self, ref: str) -> None:
        await self.reserve(ref, MODIFIED)

    async def reserve(self, ref: str, spec: ServiceSpec = SPEC) -> None:
        """Until it is held; who is refused asks with the next version."""
        answer: object = None
        while not isinstance(answer, Reserved):
            assert not isinstance(answer, Refused) or self.versions[ref] < VERSIONS, answer.reasons
            if answer is not None:
                await self.stack.clock.sleep(1)
            self.versions[ref] += 1
            version = self.versions[ref]
            answer = await self._asked(lambda v=version: self.stack.customer().reserve(ref, v, spec, CTX))  # type: ignore[misc]
        self.held[ref] = answer
        self.ends[ref] = self._now() + answer.remaining_s

    async def wait(self, ref: str) -> None:
        """As customers do before they make up their minds."""
        await self.stack.clock.sleep(WAITS_S)

    async def extend(self, ref: str) -> None:
        """Until it is held so long. Who is refused keeps what it had."""
        version, granted_s = self.versions[ref], 0.0
        while granted_s < LONGER_S - A_WHILE_S:
            answer = await self._asked(lambda: self.stack.customer().extend(ref, version, LONGER_S, CTX))
            if isinstance(answer, Refused):
                return
            assert isinstance(answer, Reserved), answer
            assert (answer.choice, answer.price) == (self.held[ref].choice, self.held[ref].price)
            granted_s = answer.remaining_s
            self.ends[ref] = self._now() + granted_s

    async def release(self, ref: str) -> None:
        await self._asked(lambda: self.stack.customer().release(ref, self.versions[ref], CTX))

    async def commit(self, ref: str) -> None:
        """Raises Late where the hold is over by then, which is told so and leaves nothing."""
        version = self.versions[ref]
        told = await self._asked(lambda: self.stack.customer().commit(ref, version, CONFIRM, CTX))
        if isinstance(told, Refused) and self._now() >= self.ends[ref]:
            assert told.reasons[0].code is ReasonCode.HOLD_EXPIRED, told
            raise Late
        self.checked[KEPT] += 1
        assert told == Committed(ref=ref, version=version), told

    async def terminate(self, ref: str) -> None:
        await self._asked(lambda: self.stack.customer().terminate(ref, CTX))

    async def _asked(self, call: Callable[[], Awaitable[object]]) -> object:
        """Until there is an answer."""
        while True:
            try:
                if not self.stack.nodes["a"].down.is_set():
                    return await call()
            except (OutcomeUnknown, StoreError):
                pass  # INTERNAL at the gate: not known either
            await self.stack.clock.sleep(1)

    async def deliver(self, ref: str) -> None:
        """Until it is active while everybody is there. Then each domain has one segment of each such order, and what its
        customer was told is what is there."""
        while True:
            await self.stack.clock.sleep(0.2)
            if any(n.down.is_set() for n in self.stack.nodes.values()) or self.points["a"].died.is_set():
                continue
            status = self.stack.broker("a").status("alice", ref)
            may_break = ref in self.failed or ref in self.lost
            assert status.state in _LIVE or (status.state is ServiceState.DEGRADED and may_break), status
            await self._wants_it_healed(status)
            if status.state is ServiceState.ACTIVE and status.version == self.versions[ref] and self._whole(ref):
                assert (status.choice, status.price) == (self.held[ref].choice, self.held[ref].price)
                below = Counter(self._built("a", "alice", ref))
                self.checked[ONE_TRUTH] += 1
                self.checked[ONE_PART] += 1
                middle = next((name for name in ("s4", "s2") if (name, ServiceState.ACTIVE) in below), "")
                assert below == Counter({(name, ServiceState.ACTIVE): 1 for name in ("s1", "s3", middle)}), below
                self.delivered.add(ref)
                if ref in self.sized:
                    self.checked[ONE_SIZE] += 1
                    assert self._size_below(ref) == self._size_chosen(ref)
                return

    def _size_chosen(self, ref: str) -> str | None:
        """As the top's customer reads it; None: by default."""
        (decision,) = self.stack.broker("a").status("alice", ref).decisions
        assert decision.outcome in (DecisionOutcome.CHOSEN, DecisionOutcome.FALLBACK), decision
        return "l" if decision.outcome is DecisionOutcome.CHOSEN else None

    def _size_below(self, ref: str) -> str | None:
        """Of the meter in b's domain."""
        order, node = self._order("a", "alice", ref), self.stack.nodes["b"]
        (theirs,) = (s.ref for s in order.segments if s.wanted and s.alias == "b")
        mine = {s.ref for s in self._order("b", "a", theirs).segments if s.wanted}
        holds = [h for vim in node.vims.values() for h in vim.holds() if h.ref in mine and h.state in TAKES]
        ((flavour, units),) = ((f.flavour, h.units[f.id]) for h in holds if h.spec for f in h.spec.functions)
        assert units == (2 if flavour == "l" else 1)
        return flavour

    async def lose(self, ref: str) -> None:
        """b's domain loses the function that it has of it: it finds that out, and builds it again."""
        theirs = await self._middle(ref)
        driver = self.stack.nodes["b"].drivers[theirs.alias]
        self.lost[ref] = driver, driver.blueprint(theirs.ref)
        driver.lose(theirs.ref, self.lost[ref][1].functions[0].id)

    async def flap(self, ref: str) -> None:
        """b's domain loses the function that it has of it, and builds it again, until that is bought elsewhere."""
        first = await self._middle(ref)
        self.failed[ref] = first.ref
        driver = self.stack.nodes["b"].drivers[first.alias]
        whole = driver.blueprint(first.ref)
        while (await self._middle(ref)).ref == first.ref:
            if first.ref in driver.segments and driver.blueprint(first.ref) == whole:
                driver.lose(first.ref, whole.functions[0].id)
            await self._wants_it_healed(self.stack.broker("a").status("alice", ref))

    async def _wants_it_healed(self, told: ServiceStatus) -> None:
        """Also when that was tried in vain as often as it is."""
        if told.healing is not None and told.healing.phase is HealPhase.GIVEN_UP:
            await self._asked(lambda: self.stack.customer().heal(told.ref, CTX))

    async def fail(self, ref: str) -> None:
        """What b's domain has built of it is lost, and it says so."""
        lost = await self._middle(ref)
        self.failed[ref] = lost.ref
        await self.stack.line("b", lost.alias).fails(lost.ref)

    async def _middle(self, ref: str) -> Segment:
        """The part of it that b's domain has, once a and b are there."""
        while True:
            await self.stack.clock.sleep(0.2)
            if self.stack.nodes["a"].down.is_set() or self.stack.nodes["b"].down.is_set():
                continue
            a, b = self._order("a", "alice", ref), None
            theirs = next((s.ref for s in a.segments if s.wanted and s.alias == "b"), None)
            if theirs is not None and any(o.ref == theirs for o in self.stack.broker("b").orders()):
                b = self._order("b", "a", theirs)
            lost = (
                next((s for s in b.segments if s.wanted and s.alias in ("s2", "s4")), None) if b is not None else None
            )
            if lost is not None:
                return lost

    def _whole(self, ref: str) -> bool:
        """Whether nothing of it is what failed, all of what was lost is there again, and nothing is being changed for that."""
        if self._order("a", "alice", ref).being_healed:
            return False
        if ref in self.lost:
            driver, built = self.lost[ref]
            held = next(h for vim in self.stack.nodes["b"].vims.values() for h in vim.holds() if h.ref == built.segment)
            there = built.segment in driver.segments and driver.blueprint(built.segment) == built
            if held.state is not ServiceState.ACTIVE or not there:
                return False
        orders = self.stack.broker("b").orders()
        return ref not in self.failed or not any(
            s.wanted and s.ref == self.failed[ref] for o in orders if o.state in _STANDS for s in o.segments
        )

    def _order(self, name: str, account: str, ref: str) -> Order:
        (order,) = (o for o in self.stack.broker(name).orders() if (o.account, o.ref) == (account, ref))
        return order

    def _built(self, name: str, account: str, ref: str) -> Iterator[tuple[str, ServiceState]]:
        """The domains that a service comes down to, and what each says of its part; an id of nobody's would be missing."""
        node, order = self.stack.nodes[name], self._order(name, account, ref)
        for segment in order.segments:
            if segment.alias in node.vims:
                holds = [h for h in node.vims[segment.alias].holds() if h.ref == segment.ref and h.state in TAKES]
                yield from ((segment.alias, hold.state) for hold in holds)
            else:
                yield from self._built(segment.alias, name, segment.ref)

    async def _charged_once(self) -> None:
        c = tables.charges.c
        for name, node in self.stack.nodes.items():
            rows = await node.engine.read(
                lambda connection: connection.execute(select(c.side, c.service, c.segment, c.kind, c.per_hour)).all()
            )
            assert rows or not self.delivered, "what is delivered is charged"
            twice = {tuple(row): n for row, n in Counter(map(tuple, rows)).items() if n > 1}
            self.checked[CHARGED_ONCE] += 1
            assert not twice, (name, twice)
