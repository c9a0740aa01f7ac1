"""A line to a PostgreSQL server that breaks when the server has answered a COMMIT, before the client hears of it. It counts how
often something goes to the server and back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PORT = ".s.PGSQL.5432"
"""Of a server's socket in its folder."""


class LostAnswer:
    """Listens in `folder` and passes everything on to the server whose socket is in `server`. Once it is `armed`, the next
    COMMIT reaches the server and its answer does not come back."""

    def __init__(self, folder: Path, server: Path) -> None:
        self.armed = threading.Event()
        self.lost = 0
        self.ways = 0
        """How often a server said that it is ready for what is next: so often something went there and came back."""
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / PORT))
        self._listener.listen()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server / PORT))
                self._sockets += (client, server)
                committing = threading.Event()
                threading.Thread(target=self._there, args=(client, server, committing), daemon=True).start()
                threading.Thread(target=self._back, args=(client, server, committing), daemon=True).start()

    def _there(self, client: socket.socket, server: socket.socket, committing: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT" in data and self.armed.is_set():
                    self.armed.clear()
                    committing.set()
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _back(self, client: socket.socket, server: socket.socket, committing: threading.Event) -> None:
        cut = b""
        with suppress(OSError):
            while data := server.recv(65536):
                if committing.is_set():
                    self.lost += 1
                    break
                kinds, cut = messages(cut + data)
                self.ways += kinds.count(b"Z")
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def messages(data: bytes) -> tuple[list[bytes], bytes]:
    """The kinds of a server's messages, and what is cut off at the end
    (https://www.postgresql.org/docs/15/protocol-message-formats.html)."""
    kinds = []
    while len(data) >= 5 and len(data) > (length := int.from_bytes(data[1:5])):
        kinds.append(data[:1])
        data = data[length + 1 :]
    return kinds, data


@contextmanager
def lost_answer(folder: Path, server: Path) -> Iterator[LostAnswer]:
    line = LostAnswer(folder, server)
    try:
        yield line
    finally:
        line.close()
