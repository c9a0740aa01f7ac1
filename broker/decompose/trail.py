"""The moves that led to a label of a search, from the label back."""

from __future__ import annotations

from typing import Protocol, Self

from broker.decompose.layered import Move


class Trail(Protocol):
    """A label: the move that it came by, and the label that it came from."""

    @property
    def move(self) -> Move | None: ...

    @property
    def parent(self) -> Self | None: ...


def entered(label: Trail, move: Move, tail: int) -> bool:
    """Whether the line, which began at SAP `tail`, has entered the SAP that the move enters."""
    at = label
    while at.move is not None and at.parent is not None and at.move.layer == move.layer:
        if at.move.entry == move.entry:
            return True
        at = at.parent
    return tail == move.entry


def moves_of(label: Trail) -> tuple[Move, ...]:
    moves: list[Move] = []
    at: Trail | None = label
    while at is not None and at.move is not None:
        moves.append(at.move)
        at = at.parent
    return tuple(reversed(moves))
