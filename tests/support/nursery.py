"""Makes nodes that die (`mortal`) by fork: `python -m tests.support.nursery`, with a socket to who wants them as its stdin.

Rules kept here
- It has imported everything that a node needs, which is most of what a node takes to start, and does nothing with it: no thread,
  no loop, nothing of gRPC has begun in it. So a fork of it is as good as a process of its own.
- It alone waits for its nodes and sends them signals, and so never means another process that has got the number of one.
- Nobody outlives who wanted them: where the socket ends, all are killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.support import mortal

ROOT = Path(__file__).resolve().parents[2]
LINE, REQUEST = 1 << 22, 1 << 16
"""Bytes of what a node says at once, and of what it is made of."""
ALONE = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy begins no threads."""


@dataclass(frozen=True)
class Born:
    """A process that the nursery made."""

    number: int
    said: asyncio.StreamReader
    asked: asyncio.StreamWriter
    code: asyncio.Future[int]
    """How it ended: the negative of the signal that it died of, or what it exited with."""


@dataclass
class Nursery:
    """Use it as a context."""

    born: list[Born] = field(default_factory=list)

    async def __aenter__(self) -> Nursery:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join((str(ROOT), str(ROOT / "proto")))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.nursery",
            cwd=ROOT, env={**os.environ, **ALONE, "PYTHONPATH": path}, stdin=theirs.fileno(), stdout=PIPE,
        )  # fmt: skip
        theirs.close()
        self._hearing = asyncio.create_task(self._hear())
        return self

    async def __aexit__(self, *_: object) -> None:
        """All are gone then."""
        self._requests.close()
        await self._hearing
        await self._process.wait()
        for born in self.born:
            born.asked.close()

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            number, code = json.loads(line)
            self.born[number].code.set_result(code)

    async def bear(self, arguments: Sequence[str], log: IO[bytes]) -> Born:
        """A node with these arguments of `mortal`; what it logs goes to `log`."""
        ours, theirs = socket.socketpair()
        said, asked = await asyncio.open_connection(sock=ours, limit=LINE)
        born = Born(len(self.born), said, asked, asyncio.get_running_loop().create_future())
        self.born.append(born)
        self._send(["bear", born.number, *arguments], theirs.fileno(), log.fileno())
        theirs.close()
        return born

    def kill(self, born: Born) -> None:
        """Nothing where it has ended."""
        self._send(["kill", born.number])

    def _send(self, what: Sequence[Any], *descriptors: int) -> None:
        socket.send_fds(self._requests, [json.dumps(what).encode()], descriptors)


class Births:
    """The nursery's own side: it bears and kills as it is told, and tells who ended."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._living: dict[int, int] = {}
        """Numbers, by the number of the process."""

    def go_on(self) -> None:
        wakes, woken = socket.socketpair()
        for each in (wakes, woken):
            each.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes.fileno())
        selector = selectors.DefaultSelector()
        selector.register(self._requests, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                woken.recv(REQUEST)
                self._bury(os.WNOHANG)
            if self._requests in ready and not self._does():
                return

    def end(self) -> None:
        signal.set_wakeup_fd(-1)
        for process in self._living:
            os.kill(process, signal.SIGKILL)
        self._bury(0)

    def _does(self) -> bool:
        """What it is told next; False where nothing more comes."""
        message, descriptors, _, _ = socket.recv_fds(self._requests, REQUEST, 2)
        if not message:
            return False
        match json.loads(message):
            case ["bear", number, *arguments]:
                self._bear(number, arguments, *descriptors)
            case ["kill", number]:
                for process in [process for process, its in self._living.items() if its == number]:
                    os.kill(process, signal.SIGKILL)
        return True

    def _bear(self, number: int, arguments: Sequence[str], line: int, log: int) -> None:
        process = os.fork()
        if process:
            self._living[process] = number
            os.close(line)
            os.close(log)
            return
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for old, new in ((line, 0), (line, 1), (log, 2)):
            os.dup2(old, new)
        os.closerange(3, max(line, log) + 1)
        code = 0
        try:
            mortal.main(*arguments)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        os._exit(code)

    def _bury(self, how: int) -> None:
        while self._living:
            process, status = os.waitpid(-1, how)
            if not process:
                return
            print(json.dumps([self._living.pop(process), os.waitstatus_to_exitcode(status)]), flush=True)


if __name__ == "__main__":
    births = Births(socket.socket(fileno=sys.stdin.fileno()))
    try:
        births.go_on()
    finally:
        births.end()
