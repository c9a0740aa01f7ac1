"""A steady stream of packets between two namespaces, each of which is known by its number: what is lost is counted."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from lower_sp_clients.vim.linux.namespaces import socket_in

PAUSE_S = 0.001
PORT = 9009
IN_A_ROW = 100
"""So many that came one after another show that packets flow."""
_SETTLES_S = 0.5
"""How long what is on its way may take."""
_SO_RCVBUFFORCE = 33
"""Of Linux; Python's module does not name it."""
_BUFFER_BYTES = 1 << 22
"""What came while the receiver waits for a processor is not lost."""


class Stream:
    """UDP from one namespace to an address in another, one packet a millisecond, as long as the context lasts."""

    def __init__(self, sender: str, receiver: str, target: str) -> None:
        self._target = target
        self._out = socket_in(sender, socket.AF_INET, socket.SOCK_DGRAM)
        self._in = socket_in(receiver, socket.AF_INET, socket.SOCK_DGRAM)
        self._in.bind((target, PORT))
        self._in.settimeout(0.05)
        self._in.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._over, self._sent_all = threading.Event(), threading.Event()
        self.sent = 0
        self.came: set[int] = set()
        self._newest, self._in_a_row = -1, 0
        self._threads = (threading.Thread(target=self._send), threading.Thread(target=self._receive))

    @property
    def lost(self) -> int:
        return self.sent - len(self.came)

    @property
    def longest_gap(self) -> int:
        """The most packets lost in a row: about so many milliseconds."""
        longest = run = 0
        for number in range(self.sent):
            run = 0 if number in self.came else run + 1
            longest = max(longest, run)
        return longest

    def goes_on(self, packets: int = 300) -> None:
        """Until so many more have been sent."""
        until = self.sent + packets
        while self.sent < until:
            time.sleep(PAUSE_S)

    def flows(self, patience_s: float = 60.0) -> None:
        """Until so many in a row have come that were sent from now on; AssertionError where they do not."""
        start, ends = self.sent, time.monotonic() + patience_s
        while self._newest < start + IN_A_ROW or self._in_a_row < IN_A_ROW:
            assert time.monotonic() < ends, (
                f"{self.sent - start} sent in {patience_s:g} s, and no {IN_A_ROW} in a row came"
            )
            time.sleep(PAUSE_S)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._out.close()
        self._in.close()

    def _send(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):  # no way there at this moment: as lost as on the way
                self._out.sendto(self.sent.to_bytes(8, "big"), (self._target, PORT))
            self.sent += 1
            time.sleep(PAUSE_S)
        time.sleep(_SETTLES_S)
        self._sent_all.set()

    def _receive(self) -> None:
        while not self._sent_all.is_set():
            try:
                number = int.from_bytes(self._in.recv(64), "big")
            except TimeoutError:
                continue
            self.came.add(number)
            self._in_a_row = self._in_a_row + 1 if number == self._newest + 1 else 1
            self._newest = number
