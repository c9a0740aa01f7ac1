"""Proofs with packets, sent from inside a namespace: echo, exact path MTU, TCP both ways, a firewall's verdict.

Rules enforced here
- Sizes are bytes of the IP packet, header included, so that they compare with an MTU.
- Everything is bounded in time; nothing is left running, nothing forks, no outside program is needed.
- IPv4 or IPv6 follows from the target.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from lower_sp_clients.vim.linux.namespaces import socket_in

Address = IPv4Address | IPv6Address

LEAST_ECHO = {4: 28, 6: 48}
"""The smallest echo: IP header and ICMP header (RFC 792; RFC 4443, 4.1)."""

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_PMTUDISC_DONT, _PMTUDISC_DO = 0, 2
_ECHO = {4: (8, 0), 6: (128, 129)}


@dataclass(frozen=True, slots=True)
class Echo:
    """Whether an echo came back, the round trip in seconds, and else why not."""

    ok: bool
    seconds: float | None = None
    detail: str = ""


class Verdict(StrEnum):
    """What becomes of a TCP connection."""

    OPEN = "open"
    REFUSED = "refused"
    DROPPED = "dropped"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class TcpEcho:
    """Whether every byte came back unchanged, and the client's address as the server saw it."""

    ok: bool
    detail: str = ""
    seen_client: Address | None = None


def ping(
    namespace: str,
    target: Address | str,
    *,
    size: int = 84,
    dont_fragment: bool = True,
    device: str | None = None,
    attempts: int = 3,
    wait: float = 0.4,
) -> Echo:
    """ICMP echo of `size` bytes, at most `attempts` × `wait` seconds.

    Raises NamespaceMissing, and ValueError for a size that no echo can have.
    """
    to = ip_address(target)
    if not LEAST_ECHO[to.version] <= size <= 65_535:
        raise ValueError(f"an echo to {to} of {size} bytes is not within {LEAST_ECHO[to.version]}-65535")
    with _echo_socket(namespace, to, dont_fragment=dont_fragment, device=device) as sock:
        payload = secrets.token_bytes(size - LEAST_ECHO[to.version])
        detail = "no answer"
        for attempt in range(attempts):
            started = time.monotonic()
            try:
                packet = _echo_request(to.version, attempt, payload)
                sock.sendto(packet, (str(to), 0))
                if _echo_came(sock, to, packet, started + wait):
                    return Echo(ok=True, seconds=time.monotonic() - started)
            except OSError as error:
                detail = os.strerror(error.errno) if error.errno else str(error)
                if error.errno == errno.EMSGSIZE:
                    return Echo(ok=False, detail=f"{size} bytes do not fit: {detail}")
    return Echo(ok=False, detail=detail)


def path_mtu(namespace: str, target: Address | str, upper: int = 9216) -> int | None:
    """The largest echo that returns unfragmented, exactly, up to `upper`; None if not even the smallest does."""
    to = ip_address(target)
    low, high = LEAST_ECHO[to.version], upper
    if not ping(namespace, to, size=low).ok:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if ping(namespace, to, size=middle, attempts=2, wait=0.25).ok:
            low = middle
        else:
            high = middle - 1
    return low


@contextmanager
def listening(namespace: str, address: Address | str, port: int) -> Iterator[socket.socket]:
    """A TCP listener in a namespace; connections wait in its backlog."""
    at = ip_address(address)
    with socket_in(namespace, _family(at), socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(at), port))
        sock.listen(8)
        yield sock


def tcp_verdict(namespace: str, target: Address | str, port: int, *, wait: float = 0.7) -> Verdict:
    """What becomes of a connection from the namespace within `wait` seconds."""
    to = ip_address(target)
    with socket_in(namespace, _family(to), socket.SOCK_STREAM) as sock:
        sock.settimeout(wait)
        try:
            sock.connect((str(to), port))
        except TimeoutError:
            return Verdict.DROPPED
        except ConnectionRefusedError:
            return Verdict.REFUSED
        except OSError:
            return Verdict.UNREACHABLE
        return Verdict.OPEN


def tcp_refused_or_dropped(namespace: str, target: Address | str, port: int, *, wait: float = 0.7) -> bool:
    """Whether no connection comes about."""
    return tcp_verdict(namespace, target, port, wait=wait) is not Verdict.OPEN


def tcp_echo(
    server: str, client: str, address: Address | str, *, port: int = 7007, size: int = 1 << 20, wait: float = 10.0
) -> TcpEcho:
    """Send `size` bytes from namespace `client` to `address` in namespace `server` and compare what comes back."""
    at = ip_address(address)
    with listening(server, at, port) as listener, socket_in(client, _family(at), socket.SOCK_STREAM) as sock:
        listener.settimeout(wait)
        sock.settimeout(wait)
        seen: list[Address] = []
        echoing = threading.Thread(target=_echo_one, args=(listener, wait, seen), daemon=True)
        echoing.start()
        try:
            sock.connect((str(at), port))
            result = _exchange(sock, size, wait)
        except OSError as error:
            result = TcpEcho(ok=False, detail=str(error) or type(error).__name__)
        finally:
            listener.settimeout(0)
            _wake(listener)
            sock.close()
            echoing.join(wait)
        return TcpEcho(ok=result.ok, detail=result.detail, seen_client=seen[0] if seen else None)


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


@contextmanager
def _echo_socket(namespace: str, to: Address, *, dont_fragment: bool, device: str | None) -> Iterator[socket.socket]:
    four = to.version == 4
    protocol = socket.IPPROTO_ICMP if four else socket.IPPROTO_ICMPV6
    discover = _PMTUDISC_DO if dont_fragment else _PMTUDISC_DONT
    with socket_in(namespace, _family(to), socket.SOCK_RAW, protocol) as sock:
        level = socket.IPPROTO_IP if four else socket.IPPROTO_IPV6
        sock.setsockopt(level, _IP_MTU_DISCOVER if four else _IPV6_MTU_DISCOVER, discover)
        sock.setsockopt(level, _IP_RECVERR if four else _IPV6_RECVERR, 1)  # ICMP errors are told, not waited out
        if device is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        sock.setblocking(False)
        yield sock


def _echo_request(version: int, sequence: int, payload: bytes) -> bytes:
    identifier = secrets.randbelow(1 << 16)
    kind = _ECHO[version][0]
    header = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence)
    if version == 6:  # the kernel fills in the checksum, which covers addresses that it chooses
        return header + payload
    return struct.pack("!BBHHH", kind, 0, _checksum(header + payload), identifier, sequence) + payload


def _checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def _echo_came(sock: socket.socket, to: Address, request: bytes, deadline: float) -> bool:
    """Wait for the reply to `request`: same identifier, sequence and payload."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        if not poller.poll(left * 1000):
            return False
        packet, sender = sock.recvfrom(65_535)
        icmp = packet[(packet[0] & 0xF) * 4 :] if to.version == 4 else packet
        if (
            ip_address(sender[0].partition("%")[0]) == to
            and icmp[0] == _ECHO[to.version][1]
            and icmp[4:] == request[4:]
        ):
            return True
    return False


def _echo_one(listener: socket.socket, wait: float, seen: list[Address]) -> None:
    """Accept one connection and send back what comes."""
    try:
        connection, peer = listener.accept()
        with connection:
            connection.settimeout(wait)
            seen.append(ip_address(peer[0]))
            while data := connection.recv(1 << 16):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the client sees that bytes are missing, and tells


def _wake(listener: socket.socket) -> None:
    try:
        listener.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was not waiting


def _exchange(sock: socket.socket, size: int, wait: float) -> TcpEcho:
    deadline = time.monotonic() + wait
    block = secrets.token_bytes(1 << 16)
    sent, received = hashlib.sha256(), hashlib.sha256()
    to_send, to_receive = size, size
    sock.setblocking(False)
    poller = select.poll()
    while to_receive > 0:
        poller.register(sock, select.POLLIN | (select.POLLOUT if to_send else 0))
        left = deadline - time.monotonic()
        ready = poller.poll(left * 1000) if left > 0 else []
        if not ready:
            return TcpEcho(ok=False, detail=f"{to_receive} of {size} bytes had not come back after {wait} s")
        if ready[0][1] & select.POLLOUT:
            count = sock.send(block[: min(to_send, len(block))])
            sent.update(block[:count])
            to_send -= count
        if ready[0][1] & (select.POLLIN | select.POLLHUP | select.POLLERR):
            data = sock.recv(1 << 16)
            if not data:
                return TcpEcho(ok=False, detail=f"closed {to_receive} bytes early")
            received.update(data)
            to_receive -= len(data)
    return TcpEcho(ok=sent.digest() == received.digest(), detail="")
