"""One address in front of several processes, as an operator's balancer of connections is: it looks into nothing that passes."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.support.nodes import HOST


class Balancer:
    """Gives each new connection to the next of `ports` at which somebody listens; all of it goes there until it ends."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self._next = 0
        self._pipes: set[asyncio.Task[None]] = set()

    async def open(self, port: int) -> Balancer:
        self._server = await asyncio.start_server(self._passed_on, HOST, port)
        return self

    async def close(self) -> None:
        self._server.close()
        for pipe in tuple(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _passed_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in self.ports:
            self._next += 1
            try:
                there = await asyncio.open_connection(HOST, self.ports[self._next % len(self.ports)])
            except OSError:
                continue
            for source, sink in ((reader, there[1]), (there[0], writer)):
                pipe = asyncio.create_task(_pipe(source, sink))
                self._pipes.add(pipe)
                pipe.add_done_callback(self._pipes.discard)
            return
        writer.close()


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()
