"""Programs for the kernel's traffic control that put on and take off a VLAN tag (IEEE 802.1Q).

Rules enforced here
- A program knows one VLAN id and one device: a tagged frame of another id, or an untagged one, is left to whoever is next.
- A frame whose tag cannot be put on is dropped: it never leaves untagged.

Fields: `struct __sk_buff` of `linux/bpf.h`.
"""

from __future__ import annotations

from socket import htons

from lower_sp_clients.vim.linux.bpf import (
    AND,
    CALL,
    IF_EQUAL,
    IF_NOT,
    LOAD_WORD,
    MOVE,
    VLAN_POP,
    VLAN_PUSH,
    Do,
    program,
    redirected,
)

_PRESENT, _TCI = 20, 24
"""Offsets in `struct __sk_buff`."""
_ID_BITS = 0xFFF
"""Of the tag's control information: the id (IEEE 802.1Q-2022, 9.6)."""
_TPID = 0x8100
_UNSPEC, _SHOT = -1, 2
"""Verdicts: the next filter decides; drop."""


def tagging(vlan: int, device: int) -> bytes:
    """What puts on a tag and sends by the device of this index."""
    steps = (
        Do(MOVE, 2, value=htons(_TPID)),
        Do(MOVE, 3, value=vlan),
        Do(CALL, value=VLAN_PUSH),
        Do(IF_NOT, 0, value=0),
        *redirected(device),
    )
    return program(steps, _SHOT)


def untagging(vlan: int, device: int) -> bytes:
    """What takes off the tag of frames of this VLAN and sends them by the device of this index."""
    steps = (
        Do(LOAD_WORD, 0, 1, offset=_PRESENT),
        Do(IF_EQUAL, 0, value=0),
        Do(LOAD_WORD, 0, 1, offset=_TCI),
        Do(AND, 0, value=_ID_BITS),
        Do(IF_NOT, 0, value=vlan),
        Do(CALL, value=VLAN_POP),
        Do(IF_NOT, 0, value=0),
        *redirected(device),
    )
    return program(steps, _UNSPEC)
