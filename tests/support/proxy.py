"""A line between two brokers on which anything may happen: a proxy of TLS connections that knows where frames of HTTP/2 begin.

Rules kept here
- It stands between one customer and one supplier, on loopback, and has the keys of both: towards the customer it is the
  supplier, towards the supplier the customer.
- What befalls a request is decided when its message comes (RFC 9113, clause 6.1): the requests of one connection are told
  apart by their streams, so that one can overtake another, be lost alone, or lose its answer alone.
- Headers are compressed over the whole connection (RFC 7541) and stay in their order; messages may be held back or lost. A
  stream whose message is still under way is not told that its caller has given up: so a request comes late.
- Which requests and connections something befalls is a matter of their number on this line and of the seed (`Weather`), or
  is said by a test (`script`).
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

HOST = "127.0.0.1"
PREFACE = 24
DATA, RST_STREAM = 0x0, 0x3
INTERNAL_ERROR = (2).to_bytes(4, "big")


class Trouble(StrEnum):
    DELAY = "delay"
    """Everything that the customer sends comes so many seconds later."""
    OVERTAKEN = "overtaken"
    """This request comes so many seconds later: others overtake it, and its caller may have given up."""
    LOST = "request lost"
    MUTE = "answer lost"
    """The stream breaks when the answer comes."""
    RESET = "reset"
    ONE_WAY = "one way"
    """Requests arrive, answers do not, for so many seconds; then the connection breaks."""
    OTHER_WAY = "the other way"
    """Answers arrive, requests do not, for so many seconds; then the connection breaks."""
    LATE = "late"
    """The customer's side breaks at once; the supplier gets what was under way so many seconds later, then its side breaks."""
    DEAF = "half open"
    """The connection is accepted and nothing is answered for so many seconds; then it breaks."""


@dataclass(frozen=True)
class Fault:
    trouble: Trouble
    seconds: float = 0.0


@dataclass
class Weather:
    """What befalls a line: at most `left` faults, each at one of `rarely` requests, for up to `long_s` seconds."""

    rng: random.Random
    left: int = 0
    rarely: int = 4
    long_s: float = 3.0
    met: Counter[str] = field(default_factory=Counter)
    script: deque[Fault | None] = field(default_factory=deque)
    """What befalls the next requests instead."""

    def of_request(self) -> Fault | None:
        if self.script:
            return self._meets(self.script.popleft())
        return self._drawn(tuple(t for t in Trouble if t is not Trouble.DEAF))

    def of_connection(self) -> Fault | None:
        return None if self.script else self._drawn((Trouble.DEAF,))

    def _drawn(self, troubles: tuple[Trouble, ...]) -> Fault | None:
        if not self.left or self.rng.randrange(self.rarely):
            return None
        self.left -= 1
        return self._meets(Fault(self.rng.choice(troubles), self.rng.uniform(0.05, self.long_s)))

    def _meets(self, fault: Fault | None) -> Fault | None:
        if fault is not None:
            self.met[fault.trouble] += 1
        return fault


@dataclass(frozen=True)
class Keys:
    """Files of certificates and keys: what the supplier shows, what the customer shows, and whom the customer trusts."""

    supplier: tuple[Path, Path]
    customer: tuple[Path, Path]
    roots: Path


class Proxy:
    """`start`, then `endpoint` stands for the supplier's at `upstream` (a port), until `close`."""

    def __init__(self, upstream: int, keys: Keys, weather: Weather) -> None:
        self.upstream, self.weather = upstream, weather
        self._facing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._facing.load_cert_chain(*keys.supplier)
        self._onward = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._onward.check_hostname = False
        self._onward.load_verify_locations(keys.roots)
        self._onward.load_cert_chain(*keys.customer)
        for context in (self._facing, self._onward):
            context.set_alpn_protocols(["h2"])
        self._server: asyncio.Server | None = None
        self._lines: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        """Each with its customer's side."""

    @property
    def endpoint(self) -> str:
        assert self._server is not None, "the proxy is closed"
        return f"{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, HOST, 0, ssl=self._facing)
        return self

    def lead_to(self, upstream: int) -> None:
        """Whoever connects from now on is led there; whoever is connected has to do so again."""
        self.upstream = upstream
        for near in self._lines.values():
            near.transport.abort()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._lines):
            task.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines[task] = writer
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # one of the two went away
        finally:
            writer.transport.abort()
            del self._lines[task]

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self.weather.of_connection()
        if fault is not None:
            await asyncio.sleep(fault.seconds)
            return
        onward = await asyncio.open_connection(HOST, self.upstream, ssl=self._onward)
        try:
            await _Line(self.weather.of_request, (reader, writer), onward).carried()
        finally:
            onward[1].transport.abort()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Line:
    """One connection of each side."""

    def __init__(self, judge: Callable[[], Fault | None], near: Ends, far: Ends) -> None:
        self._judge = judge
        self._near, self._far = near, far
        self._known: set[int] = set()
        self._held: dict[int, list[bytes]] = {}
        """By stream that is overtaken: what came of it since."""
        self._lost: set[int] = set()
        self._mute: set[int] = set()
        self._up, self._down = True, True
        """Whether frames pass towards the supplier, and towards the customer."""
        self._over = asyncio.Event()

    async def carried(self) -> None:
        """Until one side is gone or the connection is to break."""
        ways = [asyncio.create_task(self._towards_supplier()), asyncio.create_task(self._towards_customer())]
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait((*ways, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*ways, over):
                task.cancel()
            await asyncio.gather(*ways, over, return_exceptions=True)

    async def _towards_supplier(self) -> None:
        self._far[1].write(await self._near[0].readexactly(PREFACE))
        while True:
            kind, stream, frame = await _frame(self._near[0])
            if kind == DATA and stream not in self._known:
                self._known.add(stream)
                await self._befalls(self._judge(), stream, frame)
            if not self._up or (stream in self._lost and kind == DATA):
                continue
            if stream in self._held:
                if kind != RST_STREAM:
                    self._held[stream].append(frame)
                continue
            self._far[1].write(frame)
            await self._far[1].drain()

    async def _towards_customer(self) -> None:
        while True:
            kind, stream, frame = await _frame(self._far[0])
            if not self._down:
                continue
            if stream in self._mute and kind == DATA:
                self._mute.discard(stream)
                self._lost_answer(stream)
                continue
            self._near[1].write(frame)
            await self._near[1].drain()

    def _lost_answer(self, stream: int) -> None:
        head = len(INTERNAL_ERROR).to_bytes(3, "big") + bytes((RST_STREAM, 0)) + stream.to_bytes(4, "big")
        self._near[1].write(head + INTERNAL_ERROR)

    async def _befalls(self, fault: Fault | None, stream: int, frame: bytes) -> None:
        if fault is None:
            return
        loop = asyncio.get_running_loop()
        match fault.trouble:
            case Trouble.DELAY:
                await asyncio.sleep(fault.seconds)
            case Trouble.OVERTAKEN:
                self._held[stream] = []
                loop.call_later(fault.seconds, self._sends_on, stream)
            case Trouble.LOST:
                self._lost.add(stream)
            case Trouble.MUTE:
                self._mute.add(stream)
            case Trouble.RESET:
                self._over.set()
                await asyncio.sleep(fault.seconds + 1)
            case Trouble.ONE_WAY:
                self._down = False
                loop.call_later(fault.seconds, self._over.set)
            case Trouble.OTHER_WAY:
                self._up = False
                loop.call_later(fault.seconds, self._over.set)
            case Trouble.LATE:
                self._held[stream], self._down = [frame], False
                loop.call_later(0.1, self._near[1].transport.abort)  # the rest of the message is here by then
                loop.call_later(fault.seconds, self._sends_on, stream)
                loop.call_later(fault.seconds + 0.5, self._over.set)
                await self._until_gone(stream)

    async def _until_gone(self, stream: int) -> None:
        """What still comes of a message whose sender goes away; then nothing more, until the line is over."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                kind, of, frame = await _frame(self._near[0])
                if of == stream and kind != RST_STREAM:
                    self._held[stream].append(frame)
        await self._over.wait()

    def _sends_on(self, stream: int) -> None:
        for frame in self._held.pop(stream, ()):
            self._far[1].write(frame)


async def _frame(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    """Type, stream and the whole of the next frame (RFC 9113, clause 4.1)."""
    head = await reader.readexactly(9)
    body = await reader.readexactly(int.from_bytes(head[:3], "big"))
    return head[3], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, head + body
