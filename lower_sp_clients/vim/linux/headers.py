"""Service path headers (RFC 8300) on what leaves a segment and what enters it, in a namespace of their own before the SAP.

    service ─ veth ─ inside ═ header on ═> outside ─ SAP's device
                     inside <═ header off ═ outside

Rules enforced here
- A frame is carried whole behind the header (next protocol Ethernet), ARP and neighbour discovery too, between MAC addresses
  that are its own. There are no metadata: MD type 2 of no context headers (RFC 8300, 2.5).
- What enters with another path, another index or no header is dropped, and so is what no header can be put on.
- The network has its MTU and the device outside 22 bytes more: a header takes nothing of what a service may send.
- A frame leaves the service as it goes over the wire: what a sender left to be split later is split before (`plan.Wire.split`),
  since nobody splits what is behind a header.
"""

from __future__ import annotations

from socket import htons
from typing import Any

from lower_sp_clients.vim.linux import bpf
from lower_sp_clients.vim.linux.bpf import (
    ADD,
    ADJUST_HEAD,
    AND,
    CALL,
    COPY,
    IF_ABOVE,
    IF_NOT,
    LOAD_HALF,
    LOAD_WORD,
    MOVE,
    SET_HALF,
    STORE_HALF,
    Do,
    Kind,
    program,
    redirected,
)
from lower_sp_clients.vim.linux.naming import INSIDE, OUTSIDE
from lower_sp_clients.vim.linux.saps import HEADER_OVERHEAD
from service_model.path_headers import Mark

_ETHERNET = 14
"""Bytes of its header."""
_ETHERTYPE = 0x894F
"""NSH (RFC 8300, 11.1.1)."""
_TTL_AND_LENGTH = 63 << 6 | 2
"""Version 0, no OAM; a TTL of 63, which is where one begins; two words (RFC 8300, 2.2)."""
_NOT_TTL = 0xF03F
_TYPE_AND_NEXT = 0x0203
"""MD type 2; next protocol Ethernet (RFC 8300, 2.2)."""
_ASSIGNED = 0x0FFF
"""Four bits of these are not assigned, and ignored."""
_DROP = 1
_GENERIC = 1 << 1
"""XDP_FLAGS_SKB_MODE: any device can."""

_FRAME, _END, _WORD, _OWN = 2, 3, 4, 6
"""Registers: where the frame begins and ends, what is copied or compared, what the program was called with."""
_DATA, _DATA_END = 0, 4
"""Offsets in `struct xdp_md`."""
_KEPT = Do(COPY, _OWN, 1)
"""A call of a helper takes what the program was called with out of the first register."""


def putting_on(mark: Mark, device: int) -> bytes:
    """What puts on the header and sends by the device of this index."""
    addresses = tuple(
        step
        for offset in range(0, 12, 2)
        for step in (
            Do(LOAD_HALF, _WORD, _FRAME, HEADER_OVERHEAD + offset),
            Do(STORE_HALF, _FRAME, _WORD, offset),
        )
    )
    header = tuple(Do(SET_HALF, _FRAME, offset=12 + 2 * n, value=htons(word)) for n, word in enumerate(_words(mark)))
    return program((_KEPT, *_resized(-HEADER_OVERHEAD), *_bounded(), *addresses, *header, *redirected(device)), _DROP)


def taking_off(mark: Mark, device: int) -> bytes:
    """What takes off this header and sends by the device of this index."""
    masks = (0xFFFF, _NOT_TTL, _ASSIGNED, 0xFFFF, 0xFFFF)
    checks = tuple(
        step
        for n, (word, mask) in enumerate(zip(_words(mark), masks, strict=True))
        for step in (
            Do(LOAD_HALF, _WORD, _FRAME, 12 + 2 * n),
            Do(AND, _WORD, value=htons(mask)),
            Do(IF_NOT, _WORD, value=htons(word & mask)),
        )
    )
    return program((_KEPT, *_bounded(), *checks, *_resized(HEADER_OVERHEAD), *redirected(device)), _DROP)


def _words(mark: Mark) -> tuple[int, ...]:
    """The EtherType and the header, sixteen bits each."""
    return _ETHERTYPE, _TTL_AND_LENGTH, _TYPE_AND_NEXT, mark.id >> 8, (mark.id & 0xFF) << 8 | mark.index


def _resized(by: int) -> tuple[Do, ...]:
    """Let the frame begin so many bytes later."""
    return Do(COPY, 1, _OWN), Do(MOVE, 2, value=by), Do(CALL, value=ADJUST_HEAD), Do(IF_NOT, 0, value=0)


def _bounded() -> tuple[Do, ...]:
    """Both Ethernet headers and what is between them are there."""
    return (
        Do(LOAD_WORD, _FRAME, _OWN, _DATA),
        Do(LOAD_WORD, _END, _OWN, _DATA_END),
        Do(COPY, _WORD, _FRAME),
        Do(ADD, _WORD, value=HEADER_OVERHEAD + _ETHERNET),
        Do(IF_ABOVE, _WORD, _END),
    )


def join(ip: Any, leaving: Mark, entering: Mark) -> None:
    """Join the two devices of this namespace, which are there. Raises NetlinkError and OSError."""
    inside, outside = (ip.link_lookup(ifname=name)[0] for name in (INSIDE, OUTSIDE))
    receive(ip, inside, putting_on(leaving, outside))
    receive(ip, outside, taking_off(entering, inside))
    for device in (outside, inside):
        ip.link("set", index=device, state="up")


def receive(ip: Any, device: int, code: bytes) -> None:
    """Let a program have what the device receives. Raises NetlinkError and OSError."""
    with bpf.loaded(code, Kind.XDP) as descriptor:
        ip.link(
            "set", index=device, xdp={"attrs": [("IFLA_XDP_FD", descriptor), ("IFLA_XDP_FLAGS", _GENERIC)]}
        )  # fmt: skip
