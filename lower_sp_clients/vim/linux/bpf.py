"""Programs for the kernel: assembled by hand, loaded by `bpf(2)`.

Rules enforced here
- A program is what it does and what it does otherwise: a check that fails jumps there, so no distance is counted by hand.
- The verifier's refusal and a right that is missing are one OSError with the kernel's word for it.

Instructions: RFC 9669, 3. Helpers and types of programs: `enum bpf_func_id` and `enum bpf_prog_type` of `linux/bpf.h`, which
never change.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_PROG_LOAD = 5

LOAD_WORD, LOAD_HALF, STORE_HALF, SET_HALF = 0x61, 0x69, 0x6B, 0x6A
COPY, MOVE, ADD, AND = 0xBF, 0xB7, 0x07, 0x57
IF_EQUAL, IF_NOT, IF_ABOVE = 0x15, 0x55, 0x2D
CALL, EXIT = 0x85, 0x95

VLAN_PUSH, VLAN_POP, REDIRECT, ADJUST_HEAD = 18, 19, 23, 44
"""Helpers."""


class Kind(IntEnum):
    """What a program is for: a filter of traffic control, or what a device receives before anybody else sees it (XDP)."""

    FILTER = 3
    XDP = 6


@dataclass(frozen=True, slots=True)
class Do:
    """One instruction: registers `to` and `of`, the offset of a load or store, a value. A jump goes to what is done otherwise."""

    op: int
    to: int = 0
    of: int = 0
    offset: int = 0
    value: int = 0


def program(steps: Sequence[Do], otherwise: int) -> bytes:
    """The steps, and a program's end with the verdict `otherwise`, where each jump of them goes."""
    code = [*steps, Do(MOVE, 0, value=otherwise), Do(EXIT)]
    jumps = {
        index: len(steps) - index - 1 for index, step in enumerate(steps) if step.op in (IF_EQUAL, IF_NOT, IF_ABOVE)
    }
    return b"".join(
        struct.pack("=BBhi", step.op, step.to | step.of << 4, jumps.get(index, step.offset), step.value)
        for index, step in enumerate(code)
    )


def redirected(device: int) -> tuple[Do, ...]:
    """Send by the device of this index, and end."""
    return Do(MOVE, 1, value=device), Do(MOVE, 2, value=0), Do(CALL, value=REDIRECT), Do(EXIT)


@contextmanager
def loaded(code: bytes, kind: Kind) -> Iterator[int]:
    """A file descriptor of the program, for as long as it takes to attach it. Raises OSError."""
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(0, f"no call number of bpf(2) is known for {platform.machine()}")
    text = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    asked = ctypes.create_string_buffer(
        struct.pack("=IIQQ", kind, len(code) // 8, ctypes.addressof(text), ctypes.addressof(licence)), 128
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
