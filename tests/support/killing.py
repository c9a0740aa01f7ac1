"""Three levels of nodes, each a process of its own that dies at a point or has a mishap there; and the lives of orders over them.

top over middle over leaf, as `topologies` has them, over mutual TLS. A process that dies is started again on its directory and
its ports as soon as it is gone; one that ends otherwise than by SIGKILL is a failure. While nothing happens by itself, time
passes faster for all nodes alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from lower_sp_clients import wire
from service_model.outcomes import Committed, Refused, Reserved, ServiceState
from spbroker.v1 import broker_service_pb2 as pb
from tests.support.crashing import Effect, Mishap
from tests.support.customer import Customer
from tests.support.lives import KINDS
from tests.support.nodes import Nodes, RealNode
from tests.support.topologies import LEVELS, chain, customer_of, three_levels

ROOT = Path(__file__).resolve().parents[2]
SELLERS = {"wholesale": "middle", "lower": "leaf"}
"""By the alias under which they are bought from."""
PATIENCE_S, STARTED_S = 120.0, 60.0
"""How long a life may take, and a process until it serves."""
CALL_S = 10.0
VERSIONS = 40
STEP_S, PACE_S = 0.1, 0.5
"""Each so many seconds all clocks are moved on by so many, where all nodes have been up for a second."""
NOT_KNOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL)
FOUND = (Mishap.DIES_BEFORE, Mishap.DIES_AFTER, Mishap.FAILS, Mishap.FAILS_AFTER, Mishap.REPEATED)
"""What is tried here. What only takes time is tried on a simulated clock (`lives`), and through the proxy."""


class Died(Exception):
    """The process is gone: what it was asked has no answer."""


@dataclass(frozen=True, order=True)
class Place:
    """A mishap at one effect: the `nth` (from 0) in a life that is `what`, at `node`."""

    node: str
    what: str
    nth: int
    mishap: Mishap

    def __str__(self) -> str:
        return f"{self.node}: {self.what} ({self.nth}) {self.mishap}"


@dataclass
class MortalNode:
    """The harness's side of a process (`mortal`)."""

    node: RealNode
    log: Path
    process: asyncio.subprocess.Process | None = None
    deaths: int = 0
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self, ahead: float) -> None:
        command = ["-m", "tests.support.mortal", str(self.node.directory)]
        arguments = [str(self.node.people), str(self.node.partners), str(ahead)]
        path = os.pathsep.join((str(ROOT), str(ROOT / "proto")))
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *command, *arguments, cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, limit=1 << 22,
            )  # fmt: skip
        async with asyncio.timeout(STARTED_S):
            assert await self._answer() == "serving"

    async def _answer(self) -> Any:
        assert self.process is not None
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise Died
        return json.loads(line)

    async def ask(self, name: str, **given: Any) -> Any:
        """Raises Died."""
        async with self._asking:
            assert self.process is not None
            assert self.process.stdin is not None
            try:
                self.process.stdin.write(json.dumps([name, given]).encode() + b"\n")
                await self.process.stdin.drain()
            except ConnectionError:
                raise Died from None
            return await self._answer()

    async def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


class Federation:
    """Use it as a context. `lived` lets a customer's order live with a mishap somewhere, or without; `failed` is what is wrong
    with it, if anything is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.nodes: dict[str, MortalNode] = {}
        self._ahead = 0.0
        self._lives = 0
        self._keepers: list[asyncio.Task[None]] = []
        self._up = {level: asyncio.Event() for level in LEVELS}
        self._up_since = 0.0
        self.broken: str = ""
        self.versions = 0
        self._held: Reserved | None = None
        self._customer: Customer | None = None

    @property
    def ann(self) -> Customer:
        assert self._customer is not None, "nobody has logged in"
        return self._customer

    async def __aenter__(self) -> Federation:
        nodes = await three_levels(Nodes(self._folder))
        await nodes.close()
        for level in LEVELS:
            self.nodes[level] = MortalNode(nodes[level], self._folder / f"{level}.log")
        try:
            await asyncio.gather(*(node.start(0.0) for node in self.nodes.values()))
            for event in self._up.values():
                event.set()
            self._keepers = [asyncio.create_task(self._keep(level)) for level in LEVELS]
            self._keepers.append(asyncio.create_task(self._hurry()))
            self._customer = await customer_of(nodes["top"], "ann")
            await self._announced()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._keepers:
            task.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(node.kill() for node in self.nodes.values()))
        if self._customer is not None:
            await self._customer.close()

    async def _announced(self) -> None:
        """Until a plain order can be had: notes have come up from the leaf."""
        async with asyncio.timeout(STARTED_S):
            while True:
                request = pb.QualifyServiceRequest(spec=wire.SPEC.encode(chain()))
                answer = await self._asked(lambda r=request: self.ann._call("QualifyService", r, CALL_S))  # type: ignore[misc]
                if answer.qualification.feasible:
                    return
                await asyncio.sleep(STEP_S)

    # the processes

    async def _keep(self, level: str) -> None:
        """Start it again whenever it dies."""
        node = self.nodes[level]
        while True:
            assert node.process is not None
            code = await node.process.wait()
            self._up[level].clear()
            if code != -signal.SIGKILL:
                self.broken = f"{level} ended with {code}: {node.log.read_text()[-2000:]}"
                return
            node.deaths += 1
            try:
                await node.start(self._ahead)
            except (Died, TimeoutError):
                self.broken = f"{level} cannot be started again: {node.log.read_text()[-2000:]}"
                return
            self._up_since = asyncio.get_running_loop().time()
            self._up[level].set()

    async def _hurry(self) -> None:
        while True:
            await asyncio.sleep(STEP_S)
            rested = asyncio.get_running_loop().time() - self._up_since > 1.0
            if rested and all(event.is_set() for event in self._up.values()):
                self._ahead += PACE_S
                with suppress(Died):
                    await asyncio.gather(*(node.ask("ahead", seconds=self._ahead) for node in self.nodes.values()))

    async def _everybody(self, name: str, **given: Any) -> dict[str, Any]:
        """What every node says, once all are up."""
        while True:
            await self._all_up()
            try:
                return {level: await node.ask(name, **given) for level, node in self.nodes.items()}
            except Died:
                await asyncio.sleep(STEP_S)

    async def _all_up(self) -> None:
        for event in self._up.values():
            await event.wait()

    # a life

    async def lived(self, kind: str, place: Place | None = None) -> tuple[dict[str, list[str]], bool]:
        """The effects that each node went through, and whether the mishap came. Raises AssertionError for what is wrong."""
        self._lives += 1
        self.versions, self._held = 0, None
        ref = f"{kind.replace(' ', '-')}-{self._lives}"
        deaths = sum(node.deaths for node in self.nodes.values())
        await self._everybody("arm")
        if place is not None:
            await self.nodes[place.node].ask("arm", what=place.what, nth=place.nth, mishap=place.mishap.value)
        try:
            async with asyncio.timeout(PATIENCE_S):
                for step in KINDS[kind]:
                    await getattr(self, step)(ref)
                await self._ended()
        except TimeoutError:
            raise AssertionError(f"it goes on for ever: {self.broken or await self._left()}") from None
        seen = await self._everybody("seen")
        doubled = await self._everybody("doubled")
        assert not any(doubled.values()), f"charged twice: {doubled}"
        assert not self.broken, self.broken
        if "deliver" in KINDS[kind]:
            assert await self.nodes["top"].ask("charged", account="ann", ref=ref) > 0, "what is delivered is charged"
        if place is None:
            return seen, False
        came = (
            sum(node.deaths for node in self.nodes.values()) > deaths
            if place.mishap.deadly
            else await self.nodes[place.node].ask("came")
        )
        await self._everybody("arm")
        return seen, came

    async def _left(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(5):
                return await self._everybody("left")
        except TimeoutError:
            return {level: "away" for level, event in self._up.items() if not event.is_set()}

    async def _ended(self) -> None:
        """Until nothing is left anywhere."""
        while not self.broken and any((await self._everybody("left")).values()):  # noqa: ASYNC110  three processes
            await asyncio.sleep(STEP_S)

    async def _asked(self, call: Callable[[], Awaitable[Any]]) -> Any:
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

    async def reserve(self, ref: str) -> None:
        answer: object = None
        while not isinstance(answer, Reserved):
            assert not isinstance(answer, Refused) or self.versions < VERSIONS, answer.reasons
            if answer is not None:
                await self._all_up()
                await asyncio.sleep(0.5)
            self.versions += 1
            answer = await self._asked(lambda: self.ann.reserve(ref, chain(), self.versions, CALL_S))
        self._held = answer

    async def extend(self, ref: str) -> None:
        request = pb.ExtendReservationRequest(ref=ref, version=self.versions, seconds=250)
        await self._asked(lambda: self.ann._call("ExtendReservation", request, CALL_S))

    async def release(self, ref: str) -> None:
        request = pb.ReleaseReservationRequest(ref=ref, version=self.versions)
        await self._asked(lambda: self.ann._call("ReleaseReservation", request, CALL_S))

    async def commit(self, ref: str) -> None:
        told = await self._asked(lambda: self.ann.commit(ref, self.versions, CALL_S))
        assert told == Committed(ref=ref, version=self.versions), told

    async def terminate(self, ref: str) -> None:
        await self._asked(lambda: self.ann.terminate(ref, CALL_S))

    async def deliver(self, ref: str) -> None:
        """Until it is active; then what its customer is told is what is there, at every level."""
        assert self._held is not None
        while True:
            status = await self._asked(lambda: self.ann.status(ref))
            if status.state is ServiceState.ACTIVE:
                break
            assert status.state in (ServiceState.COMMITTING, ServiceState.ACTIVATING), status
            await asyncio.sleep(STEP_S)
        assert (status.choice, status.price) == (self._held.choice, self._held.price)
        while True:  # a node may die just now
            await self._all_up()
            with suppress(Died):
                built = await self._built("top", "ann", ref)
                assert built == ["leaf/field", "middle/metro"], built
                return
            await asyncio.sleep(STEP_S)

    async def _built(self, level: str, account: str, ref: str) -> list[str]:
        """The domains that have exactly one live part of it, and have built that."""
        order, found = await self.nodes[level].ask("order", account=account, ref=ref), []
        for part in order["parts"]:
            if part["own"]:
                assert part["states"] == ["ACTIVE"], (level, part)
                assert part["built"], (level, part)
                found.append(f"{level}/{part['alias']}")
            else:
                found += await self._built(SELLERS[part["alias"]], level, part["ref"])
        return sorted(found)


def places(seen: dict[str, list[str]]) -> list[Place]:
    """Every mishap at every effect of a life."""
    found = []
    for node, effects in seen.items():
        for what in sorted(set(effects)):
            meets = [m for m in Effect.of(what).meets() if m in FOUND]
            found += [Place(node, what, nth, mishap) for nth in range(effects.count(what)) for mishap in meets]
    return found
