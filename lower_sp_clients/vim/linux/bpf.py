"""Programs for the kernel's traffic control that put on and take off a VLAN tag, assembled by hand and loaded by `bpf(2)`.

Rules enforced here
- A program knows one VLAN id and one device: a tagged frame of another id, or an untagged one, is left to whoever is next.
- A frame whose tag cannot be put on is dropped: it never leaves untagged.
- The verifier's refusal and a right that is missing are one OSError with the kernel's word for it.

Instructions: RFC 9669, 3. Fields and helpers: `struct __sk_buff` and `enum bpf_func_id` of `linux/bpf.h`, which never change.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from socket import htons

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_PROG_LOAD = 5
_SCHED_CLS = 3

_VLAN_PRESENT, _VLAN_TCI = 20, 24
"""Offsets in `struct __sk_buff`."""
_ID_BITS = 0xFFF
"""Of the tag's control information: the id (IEEE 802.1Q-2022, 9.6)."""
_TPID = 0x8100

_VLAN_PUSH, _VLAN_POP, _REDIRECT = 18, 19, 23
"""Helpers."""
_UNSPEC, _SHOT = -1, 2
"""Verdicts: the next filter decides; drop."""

_LOAD_WORD, _MOVE, _AND, _IF_EQUAL, _IF_NOT, _CALL, _EXIT = 0x61, 0xB7, 0x57, 0x15, 0x55, 0x85, 0x95


def _do(op: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", op, to | of << 4, offset, value)


def tagging(vlan: int, device: int) -> bytes:
    """What puts on a tag and sends by the device of this index."""
    return b"".join(
        (
            _do(_MOVE, 2, value=htons(_TPID)),
            _do(_MOVE, 3, value=vlan),
            _do(_CALL, value=_VLAN_PUSH),
            _do(_IF_EQUAL, 0, offset=2, value=0),
            _do(_MOVE, 0, value=_SHOT),
            _do(_EXIT),
            _do(_MOVE, 1, value=device),
            _do(_MOVE, 2, value=0),
            _do(_CALL, value=_REDIRECT),
            _do(_EXIT),
        )
    )


def untagging(vlan: int, device: int) -> bytes:
    """What takes off the tag of frames of this VLAN and sends them by the device of this index."""
    return b"".join(
        (
            _do(_LOAD_WORD, 0, 1, offset=_VLAN_PRESENT),
            _do(_IF_EQUAL, 0, offset=9, value=0),
            _do(_LOAD_WORD, 0, 1, offset=_VLAN_TCI),
            _do(_AND, 0, value=_ID_BITS),
            _do(_IF_NOT, 0, offset=6, value=vlan),
            _do(_CALL, value=_VLAN_POP),
            _do(_IF_NOT, 0, offset=4, value=0),
            _do(_MOVE, 1, value=device),
            _do(_MOVE, 2, value=0),
            _do(_CALL, value=_REDIRECT),
            _do(_EXIT),
            _do(_MOVE, 0, value=_UNSPEC),
            _do(_EXIT),
        )
    )


@contextmanager
def loaded(program: bytes) -> Iterator[int]:
    """A file descriptor of the program, for as long as it takes to attach it. Raises OSError."""
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(0, f"no call number of bpf(2) is known for {platform.machine()}")
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    asked = ctypes.create_string_buffer(
        struct.pack("=IIQQ", _SCHED_CLS, len(program) // 8, ctypes.addressof(code), ctypes.addressof(licence)), 128
    )
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, _PROG_LOAD, asked, len(asked))
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    try:
        yield descriptor
    finally:
        os.close(descriptor)
