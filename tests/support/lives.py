"""Orders from reservation to their end over three levels, whatever happens to the brokers meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

from sqlalchemy import select

from address_planner.labels import LabelSet
from broker.storage import tables
from lower_sp_clients.supplier import OutcomeUnknown
from lower_sp_clients.vim.accounting import TAKES
from service_model.outcomes import Committed, Refused, Reserved, ServiceState
from service_model.spec import ServiceSpec
from tests.support.crashing import CrashingDriver, CrashingStore, Points, calls
from tests.support.orders import CONFIRM, CTX
from tests.support.stack import POOL, Node, Site, Sp, Stack, chain

_UNI = LabelSet(((1, 99),))
_C = Sp("c", (Site("s3", ("shaper",), uni=_UNI),))
TOP = Sp("a", (Site("s1", ("firewall",), uni=_UNI), Sp("b", (Site("s2", ("meter",)), _C))), (POOL,))
SPEC = chain("s1.uni", "b.c.s3.uni", "firewall", "meter", "shaper", lan=True)
MODIFIED = chain("s1.uni", "b.c.s3.uni", "firewall", "meter", "meter", "shaper", lan=True, bandwidth_bps=10**7)
"""The same with one more function and ten times the bandwidth: every domain has other than before."""
METHODS = ("reserve", "extend", "commit", "release", "terminate", "status")
TURNS = 60
"""Of the loop, in which everybody does what can be done at a moment."""
VERSIONS = 60
"""How often a customer asks again who is refused."""


class Lives:
    """Orders of customers who ask again until there is an answer. `orders`: by ref whether it is delivered and then terminated;
    else it is released. `modified`: what is delivered becomes MODIFIED before it is terminated. `points`: of each node, what
    may befall it in its next life. `down_s`: how long one that died is away."""

    def __init__(
        self,
        directory: Path,
        orders: dict[str, bool],
        points: Callable[[str], Points],
        down_s: Callable[[], float] = lambda: 3.0,
        draw: str = "",
        modified: bool = False,
    ) -> None:
        self.modified = modified
        self.orders, self._next, self._down_s = orders, points, down_s
        self.stack = Stack(TOP, directory, draw=draw)
        self.points = {name: points(name) for name in self.stack.nodes}
        self.versions = dict.fromkeys(orders, 0)
        self._returns: dict[str, float] = {}
        for name, node in self.stack.nodes.items():
            self._watch(name, node)

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
            lives = [asyncio.create_task(self._life(ref, committed)) for ref, committed in self.orders.items()]
            try:
                await self._pass(lives)
            finally:
                for life in lives:
                    life.cancel()
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
                if not busy:
                    return
            for _ in range(TURNS):
                await asyncio.sleep(0)
            self.stack.clock.advance(0.1)

    async def _dies_or_returns(self, name: str) -> None:
        now = self.stack.clock.now().timestamp()
        if name not in self._returns:
            self._returns[name] = now + self._down_s()
            await self.stack.stop(name)
        elif now >= self._returns[name]:
            del self._returns[name]
            self.points[name] = self._next(name)
            await self.stack.start(name)
            for known, node in reversed(self.stack.nodes.items()):
                if not node.down.is_set():
                    self.stack.announce(known)
            self.points[name].counts = True

    async def _life(self, ref: str, committed: bool) -> None:
        answer = await self._held(ref, SPEC)
        if not committed:
            await self._asked(lambda: self.stack.customer().release(ref, answer.version, CTX))
            return
        await self._committed(ref, answer)
        if self.modified:
            await self._committed(ref, await self._held(ref, MODIFIED))
        await self._asked(lambda: self.stack.customer().terminate(ref, CTX))

    async def _held(self, ref: str, spec: ServiceSpec) -> Reserved:
        """Asked for in ever higher versions, until it is held."""
        answer: object = None
        while not isinstance(answer, Reserved):
            assert not isinstance(answer, Refused) or self.versions[ref] < VERSIONS, answer.reasons
            if answer is not None:
                await self.stack.clock.sleep(1)
            self.versions[ref] += 1
            version = self.versions[ref]
            answer = await self._asked(lambda v=version: self.stack.customer().reserve(ref, v, spec, CTX))  # type: ignore[misc]
        return answer

    async def _committed(self, ref: str, held: Reserved) -> None:
        told = await self._asked(lambda: self.stack.customer().commit(ref, held.version, CONFIRM, CTX))
        assert told == Committed(ref=ref, version=held.version), told
        await self._delivered(ref, held)

    async def _asked(self, call: Callable[[], Awaitable[object]]) -> object:
        """Until there is an answer."""
        while True:
            try:
                if not self.stack.nodes["a"].down.is_set():
                    return await call()
            except OutcomeUnknown:
                pass
            await self.stack.clock.sleep(1)

    async def _delivered(self, ref: str, held: Reserved) -> None:
        """Until it is active while everybody is there. Then each domain has one segment of each such order, and what its
        customer was told is what is there."""
        while True:
            await self.stack.clock.sleep(0.2)
            if any(n.down.is_set() for n in self.stack.nodes.values()) or self.points["a"].died.is_set():
                continue
            status = self.stack.broker("a").status("alice", ref)
            assert status.state in (ServiceState.ACTIVATING, ServiceState.ACTIVE, ServiceState.COMMITTING), status
            if status.state is ServiceState.ACTIVE and status.version == held.version:
                assert (status.choice, status.price) == (held.choice, held.price)
                below = Counter(self._built("a", "alice", ref))
                assert below == Counter({(vim.domain.name, ServiceState.ACTIVE): 1 for vim in self.stack.vims()}), below
                return

    def _built(self, name: str, account: str, ref: str) -> Iterator[tuple[str, ServiceState]]:
        """The domains that a service comes down to, and what each says of its part; an id of nobody's would be missing."""
        node = self.stack.nodes[name]
        (order,) = (o for o in node.broker.orders() if (o.account, o.ref) == (account, ref))
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
            assert rows or not any(self.orders.values()), "what is delivered is charged"
            twice = {tuple(row): n for row, n in Counter(map(tuple, rows)).items() if n > 1}
            assert not twice, (name, twice)
