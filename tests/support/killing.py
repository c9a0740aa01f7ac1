"""A tree of nodes, each a process of its own that dies at a point or has a mishap there, over lines on which anything may
happen.

As `trees` has them, over mutual TLS, each line through a proxy. A process that dies is started
again on its directory and its ports as soon as it is gone; one that ends otherwise than by SIGKILL is a failure. Where nodes have
stores that may be shared, each is two processes: one is asked, until it dies, then the other. Time passes faster than the
system's, for all nodes alike, while all of them are up.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from lower_sp_clients import wire
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.crashing import Effect, Mishap
from tests.support.customer import Customer
from tests.support.lives import (
    CHARGED_ONCE,
    GIVEN_BACK,
    KINDS,
    NOTHING_LEFT,
)
from tests.support.mortal_node import STARTED_S, Died, MortalNode
from tests.support.nodes import Nodes, RealNode
from tests.support.nursery import Nursery
from tests.support.postgres import Where
from tests.support.proxy import Keys, Proxy, Weather
from tests.support.served_manager import ServedManager
from tests.support.socket_lives import CALL_S, STEP_S, Life
from tests.support.trees import MANAGED, THREE_LEVELS, TWO_SELLERS, Tree

PATIENCE_S = 180.0
"""How long a life may take."""
LAPSING_S = 200.0
"""In a life that took less, by the nodes' clocks, no hold may have ended by itself: somebody was to give it back."""
PACE_S, HASTE_S = 0.5, 5.0
"""Every STEP_S all clocks are moved on by so many, or by so many where somebody waits for a time; where all nodes have
been up for a second."""
BEAT, BEATS = "write Replica.beat", 4
NOT_KNOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL)
FOUND = (Mishap.DIES_BEFORE, Mishap.DIES_AFTER, Mishap.FAILS, Mishap.FAILS_AFTER, Mishap.REPEATED)
"""What is tried here. What only takes time is tried on a simulated clock (`lives`), and through the proxy."""


@dataclass(frozen=True, order=True)
class Place:
    """A mishap at one effect: the `nth` (from 0) in a life that is `what`, at `node`."""

    node: str
    what: str
    nth: int
    mishap: Mishap

    def __str__(self) -> str:
        return f"{self.node}: {self.what} ({self.nth}) {self.mishap}"


def tree_of(kind: str) -> Tree:
    """Where a kind of life is lived."""
    if {"fail", "flap"} & {*KINDS[kind]}:
        return TWO_SELLERS
    return MANAGED if "reserve_sized" in KINDS[kind] else THREE_LEVELS


WEATHERED = tuple(kind for kind in KINDS if tree_of(kind) is THREE_LEVELS)


class Federation:
    """Use it as a context. `stores`: databases, for nodes of two processes each. `lived` lets a customer's order live with a
    mishap somewhere, or without; `weathered` lets several while lines break and processes are killed. What is wrong is an
    AssertionError."""

    def __init__(self, folder: Path, tree: Tree = THREE_LEVELS, stores: Where | None = None) -> None:
        self._folder, self.tree, self._stores = folder, tree, stores
        self.nodes: dict[str, MortalNode] = {}
        """Those that are asked."""
        self._standing_by: dict[str, MortalNode] = {}
        self.lines: dict[str, Proxy] = {}
        """By the name of the supplier."""
        self.ahead = 0.0
        self.pace_s = PACE_S
        self._lives = self.deaths = 0
        self._keepers: list[asyncio.Task[None]] = []
        self._up = {level: asyncio.Event() for level in tree.nodes}
        self._up_since = 0.0
        self.broken: str = ""
        self.checked: Counter[str] = Counter()
        """How often each invariant was."""
        self._customers: list[Customer] = []
        """Ann, at each process of the top."""
        self._closing = AsyncExitStack()
        self._lapsed: set[str] = set()

    @property
    def ann(self) -> Customer:
        return next(ann for ann in self._customers if ann.node is self.nodes[self.top].node)

    async def __aenter__(self) -> Federation:
        try:
            nodes = await self.tree.made(Nodes(self._folder, where=self._stores), self._through)
            if self.tree.managed is not None:
                manager = ServedManager(nodes[self.top].layout.credential("ca")[0].read_bytes())
                await self.tree.managed(nodes, await self._closing.enter_async_context(manager))
            await nodes.close()
            nursery = await self._closing.enter_async_context(Nursery())
            for level in self.tree.nodes:
                log = self._folder / f"{level}.log"
                self.nodes[level] = MortalNode(nursery, nodes[level], log)
                if self._stores is not None:
                    twin = RealNode(nodes[level].directory, nodes[level].clock)
                    self._standing_by[level] = MortalNode(nursery, twin, log.with_suffix(".twin.log"))
            await asyncio.gather(*(node.start(0.0) for node in self.nodes.values()))
            await asyncio.gather(*(node.start(0.0) for node in self._standing_by.values()))
            for event in self._up.values():
                event.set()
            every = (*self.nodes.items(), *self._standing_by.items())
            self._keepers = [asyncio.create_task(self._keep(level, node)) for level, node in every]
            self._keepers.append(asyncio.create_task(self._hurry()))
            tops = (known.get(self.top) for known in (self.nodes, self._standing_by))
            self._customers = [Customer(top.node, "ann") for top in tops if top is not None]
            await self.asked(self.ann.log_in)
            await self._announced()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._keepers:
            task.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self._closing.aclose()
        for ann in self._customers:
            await ann.close()
        for line in self.lines.values():
            await line.close()

    async def _through(self, customer: RealNode, supplier: RealNode) -> str:
        own, theirs = customer.layout, supplier.layout
        keys = Keys(theirs.credential("server"), own.credential("client"), theirs.credential("ca")[0])
        fair = Weather(random.Random())
        line = await Proxy(supplier.partners, keys, fair).start()
        self.lines[supplier.settings.sp_id] = line
        return line.endpoint

    async def _announced(self) -> None:
        """Until a plain order can be had: notes have come up from the leaf."""
        async with asyncio.timeout(STARTED_S):
            while True:
                request = pb.QualifyServiceRequest(spec=wire.SPEC.encode(self.tree.spec))
                answer = await self.asked(lambda r=request: self.ann._call("QualifyService", r, CALL_S))  # type: ignore[misc]
                if answer.qualification.feasible:
                    return
                await asyncio.sleep(STEP_S)

    # the processes

    async def _keep(self, level: str, node: MortalNode) -> None:
        """Start it again whenever it dies; the other process of the node, if there is one, is asked from then on."""
        while True:
            code = await node.ended()
            if code != -signal.SIGKILL:
                self.broken = f"{level} ended with {code}: {node.log.read_text()[-2000:]}"
                return
            self.deaths += 1
            if node is self.nodes[level]:
                self._up[level].clear()
                if level in self._standing_by:
                    self._changes_over(level)
                    self._is_up(level)
            try:
                await node.start(self.ahead)
            except (Died, TimeoutError):
                self.broken = f"{level} cannot be started again: {node.log.read_text()[-2000:]}"
                return
            self._is_up(level)

    def _changes_over(self, level: str) -> None:
        """The other process is asked from now on."""
        self.nodes[level], self._standing_by[level] = self._standing_by[level], self.nodes[level]
        if level in self.lines:
            self.lines[level].lead_to(self.nodes[level].node.partners)

    async def _asks_leaders(self) -> None:
        """Until those are asked that work on their own domains, which work on orders too."""
        for level, other in self._standing_by.items():
            while not await self._leads(self.nodes[level]):
                if await self._leads(other):
                    self._changes_over(level)
                    break
                await asyncio.sleep(STEP_S)
                other = self._standing_by[level]

    @staticmethod
    async def _leads(node: MortalNode) -> bool:
        with suppress(Died):
            return bool(await node.ask("leads"))
        return False

    def _is_up(self, level: str) -> None:
        self._up_since = asyncio.get_running_loop().time()
        self._up[level].set()

    async def _hurry(self) -> None:
        while True:
            await asyncio.sleep(STEP_S)
            rested = asyncio.get_running_loop().time() - self._up_since > 1.0
            if rested and all(event.is_set() for event in self._up.values()):
                self.ahead += self.pace_s
                with suppress(Died):
                    every = (*self.nodes.values(), *self._standing_by.values())
                    await asyncio.gather(*(node.ask("ahead", seconds=self.ahead) for node in every))

    async def everybody(self, name: str, **given: Any) -> dict[str, Any]:
        """What every node says, once all are up."""
        while True:
            await self.all_up()
            try:
                return {level: await node.ask(name, **given) for level, node in self.nodes.items()}
            except Died:
                await asyncio.sleep(STEP_S)

    @property
    def top(self) -> str:
        return self.tree.nodes[0]

    def hurries(self, very: bool) -> None:
        self.pace_s = HASTE_S if very else PACE_S

    def now(self) -> float:
        """Seconds, as the nodes' clocks go."""
        return asyncio.get_running_loop().time() + self.ahead

    def time(self) -> datetime:
        """What the nodes' clocks say."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    async def all_up(self) -> None:
        for event in self._up.values():
            await event.wait()

    # lives

    async def lived(self, kind: str, place: Place | None = None) -> tuple[dict[str, list[str]], bool]:
        """The effects that each node went through, and whether the mishap came."""
        await self._asks_leaders()
        deaths = self.deaths
        await self.everybody("arm")
        if place is not None:
            await self.nodes[place.node].ask("arm", what=place.what, nth=place.nth, mishap=place.mishap.value)
        await self._all_live((kind,))
        seen = await self.everybody("seen")
        if place is None:
            return seen, False
        if place.mishap.deadly:
            return seen, self.deaths > deaths
        return seen, await self.nodes[place.node].ask("came")

    async def weathered(self, seed: int) -> Counter[str]:
        """What befell lines and processes while some orders lived: drawn from `seed`."""
        await self._asks_leaders()
        await self.everybody("arm")
        rng = random.Random(f"weather/{seed}")
        for level, line in self.lines.items():
            line.weather = Weather(random.Random(f"weather/{seed}/{level}"), left=rng.randint(1, 5))
        kinds = [rng.choice(WEATHERED) for _ in range(rng.randint(1, 3))]
        killed = rng.choice((*self.tree.nodes, "", "", ""))
        killing = asyncio.create_task(self._killed(killed, rng.uniform(0.05, 1.5))) if killed else None
        await self._all_live(kinds)
        if killing is not None:
            await killing
        met = Counter({"killed": 1} if killed else {})
        for line in self.lines.values():
            met.update(line.weather.met)
        return met

    async def _killed(self, level: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.nodes[level].kill()

    async def _all_live(self, kinds: Sequence[str]) -> None:
        """One order of each kind at the same time, until nothing is left of any."""
        lives, begun = [], self.now()
        for kind in kinds:
            self._lives += 1
            lives.append(Life(self, f"{kind.replace(' ', '-')}-{self._lives}"))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*(life.lived(kind) for life, kind in zip(lives, kinds, strict=True)))
                await self._ended()
        except TimeoutError:
            raise AssertionError(f"it goes on for ever: {self.broken or await self._left()}") from None
        doubled = await self.everybody("doubled")
        self.checked.update((NOTHING_LEFT, CHARGED_ONCE))
        assert not any(doubled.values()), f"charged twice: {doubled}"
        lapsed = {hold for holds in (await self.everybody("lapsed")).values() for hold in holds}
        if self.now() - begun < LAPSING_S:
            self.checked[GIVEN_BACK] += 1
            assert lapsed <= self._lapsed, f"nobody gave back {lapsed - self._lapsed}"
        self._lapsed = lapsed
        assert not self.broken, self.broken

    async def _left(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(5):
                return await self.everybody("left")
        except TimeoutError:
            return {level: "away" for level, event in self._up.items() if not event.is_set()}

    async def _ended(self) -> None:
        """Until nothing is left anywhere."""
        while not self.broken and any((await self.everybody("left")).values()):  # noqa: ASYNC110  three processes
            await asyncio.sleep(STEP_S)

    async def asked(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Until there is an answer."""
        while not self.broken:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                    with suppress(grpc.aio.AioRpcError):
                        await self.ann.log_in()
                elif error.code() not in NOT_KNOWN:
                    raise
            await asyncio.sleep(STEP_S)
        raise AssertionError(self.broken)


def places(seen: dict[str, list[str]]) -> list[Place]:
    """Every mishap at every effect of a life; of those that only time brings, at the first of them."""
    found = []
    for node, effects in seen.items():
        for what in sorted(set(effects)):
            meets = [m for m in Effect.of(what).meets() if m in FOUND]
            often = min(effects.count(what), BEATS if what == BEAT else len(effects))
            found += [Place(node, what, nth, mishap) for nth in range(often) for mishap in meets]
    return found
