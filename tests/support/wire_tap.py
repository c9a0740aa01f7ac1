"""What goes over a wire in a Linux domain, and the path headers (RFC 8300) in it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from lower_sp_clients.vim.linux.namespaces import socket_in
from lower_sp_clients.vim.linux.saps import HEADER_OVERHEAD
from service_model.path_headers import Mark

ALL_FRAMES, ETHERNET = 0x0003, 14


@contextmanager
def frames(namespace: str, device: str) -> Iterator[socket.socket]:
    """What comes to a device and leaves by it."""
    with socket_in(namespace, socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, ALL_FRAMES))
        sock.settimeout(0.2)
        yield sock


def heard(sock: socket.socket) -> list[bytes]:
    """All of it, until it is quiet."""
    found: list[bytes] = []
    while True:
        try:
            found.append(sock.recv(4096))
        except TimeoutError:
            return found


def marks(found: list[bytes], source: str, target: str) -> set[Mark | None]:
    """What packets from one IPv4 address to another bear in these frames. None: no header."""
    pair = ip_address(source).packed + ip_address(target).packed
    return {_mark(frame, frame.index(pair) - 12) for frame in found if pair in frame}


def _mark(frame: bytes, packet: int) -> Mark | None:
    """The header in front of the Ethernet header of the packet that begins there, and every field of it right."""
    begin = packet - ETHERNET - HEADER_OVERHEAD
    if begin < 0 or frame[begin + 12 : begin + 14] != b"\x89\x4f":
        return None
    base, types, path = struct.unpack_from("!HHI", frame, begin + ETHERNET)
    assert (base >> 14, base >> 6 & 0x3F, base & 0x3F) == (0, 63, 2), "version, TTL, length in words"
    assert types == 0x0203, "MD type 2, next protocol Ethernet"
    assert frame[begin : begin + 12] == frame[packet - ETHERNET : packet - 2], "the same addresses outside"
    return Mark(path >> 8, path & 0xFF)
