"""The states of a service, of a newer version of it and of its segments, as tables. Everything else asks these; the docs are
drawn from them.

Theory of operation
- A service is what the customer sees. Its state changes only by an event of `TRANSITIONS`; any other is an error that
  names state and event.
- A newer version beside a live one has a table of its own (`NEWER`): nothing that happens to it is an event of the service.
- A segment is one part at one supplier. Its state is what we know of the supplier's side; a call in flight is a state
  (RESERVING, COMMITTING, RELEASING, TERMINATING), recorded before the call is made, so that after a crash the same call
  is made again with the same ref and version until it is answered.
- What is over, and of which a supplier has not confirmed for long that it is gone, is STUCK: still asked for, ever more
  rarely, until it has, or until an operator gives it up (ABANDONED).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from service_model.outcomes import ServiceState as S
from service_model.words import Word


class Event(Enum):
    """What happens to a service."""

    HELD = "held"
    REFUSE = "refuse"
    REPLACE = "replace"
    RESTORE = "restore"
    COMMIT = "commit"
    COMMITTED = "committed"
    ACTIVATED = "activated"
    DEGRADE = "degrade"
    RECOVER = "recover"
    FAIL = "fail"
    RELEASE = "release"
    EXPIRE = "expire"
    TERMINATE = "terminate"
    STICK = "stick"
    GONE = "gone"


TRANSITIONS: dict[tuple[S, Event], S] = {
    (S.RESERVING, Event.HELD): S.RESERVED,
    (S.RESERVING, Event.REFUSE): S.REFUSED,
    (S.RESERVING, Event.RESTORE): S.RESERVING,
    (S.RESERVING, Event.RELEASE): S.EXPIRED,
    (S.RESERVING, Event.TERMINATE): S.TERMINATING,
    (S.RESERVED, Event.REPLACE): S.RESERVING,
    (S.RESERVED, Event.COMMIT): S.COMMITTING,
    (S.RESERVED, Event.RELEASE): S.EXPIRED,
    (S.RESERVED, Event.EXPIRE): S.EXPIRED,
    (S.RESERVED, Event.TERMINATE): S.TERMINATING,
    (S.REFUSED, Event.REPLACE): S.RESERVING,
    (S.REFUSED, Event.TERMINATE): S.TERMINATING,
    (S.REFUSED, Event.STICK): S.STUCK,
    (S.EXPIRED, Event.REPLACE): S.RESERVING,
    (S.EXPIRED, Event.TERMINATE): S.TERMINATING,
    (S.EXPIRED, Event.STICK): S.STUCK,
    (S.COMMITTING, Event.COMMITTED): S.ACTIVATING,
    (S.COMMITTING, Event.FAIL): S.FAILED,
    (S.COMMITTING, Event.TERMINATE): S.TERMINATING,
    (S.ACTIVATING, Event.ACTIVATED): S.ACTIVE,
    (S.ACTIVATING, Event.FAIL): S.FAILED,
    (S.ACTIVATING, Event.TERMINATE): S.TERMINATING,
    (S.ACTIVE, Event.DEGRADE): S.DEGRADED,
    (S.ACTIVE, Event.TERMINATE): S.TERMINATING,
    (S.DEGRADED, Event.RECOVER): S.ACTIVE,
    (S.DEGRADED, Event.TERMINATE): S.TERMINATING,
    (S.FAILED, Event.TERMINATE): S.TERMINATING,
    (S.FAILED, Event.STICK): S.STUCK,
    (S.TERMINATING, Event.STICK): S.STUCK,
    (S.TERMINATING, Event.GONE): S.TERMINATED,
    (S.STUCK, Event.GONE): S.TERMINATED,
}


NEWER: dict[tuple[S, Event], S] = {
    (S.RESERVING, Event.HELD): S.RESERVED,
    (S.RESERVING, Event.REFUSE): S.REFUSED,
    (S.RESERVING, Event.RESTORE): S.RESERVING,
    (S.RESERVING, Event.RELEASE): S.EXPIRED,
    (S.RESERVED, Event.REPLACE): S.RESERVING,
    (S.RESERVED, Event.COMMIT): S.COMMITTING,
    (S.RESERVED, Event.RELEASE): S.EXPIRED,
    (S.RESERVED, Event.EXPIRE): S.EXPIRED,
    (S.REFUSED, Event.REPLACE): S.RESERVING,
    (S.EXPIRED, Event.REPLACE): S.RESERVING,
    (S.FAILED, Event.REPLACE): S.RESERVING,
    (S.COMMITTING, Event.COMMITTED): S.ACTIVATING,
    (S.COMMITTING, Event.FAIL): S.FAILED,
    (S.ACTIVATING, Event.ACTIVATED): S.ACTIVE,
}
"""Of a newer version beside a live one. ACTIVE, it takes the live one's place; it ends with the service at any time."""


class IllegalTransition(Exception):
    """An event that the state does not allow: a bug here, never the caller's fault."""

    def __init__(self, state: S, event: Event) -> None:
        super().__init__(f"a service that is {state.short} cannot {event.value}")


def after(state: S, event: Event, table: Mapping[tuple[S, Event], S] = TRANSITIONS) -> S:
    """The state after `event`. Raises IllegalTransition."""
    try:
        return table[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None


class SegmentState(Word):
    """What is known of a segment at its supplier."""

    PLANNED = "SEGMENT_STATE_PLANNED"
    RESERVING = "SEGMENT_STATE_RESERVING"
    HELD = "SEGMENT_STATE_HELD"
    REFUSED = "SEGMENT_STATE_REFUSED"
    RELEASING = "SEGMENT_STATE_RELEASING"
    RELEASED = "SEGMENT_STATE_RELEASED"
    COMMITTING = "SEGMENT_STATE_COMMITTING"
    COMMITTED = "SEGMENT_STATE_COMMITTED"
    ACTIVE = "SEGMENT_STATE_ACTIVE"
    DEGRADED = "SEGMENT_STATE_DEGRADED"
    FAILED = "SEGMENT_STATE_FAILED"
    TERMINATING = "SEGMENT_STATE_TERMINATING"
    LEAVING = "SEGMENT_STATE_LEAVING"
    TERMINATED = "SEGMENT_STATE_TERMINATED"
    ABANDONED = "SEGMENT_STATE_ABANDONED"


NOTHING_LEFT = frozenset({SegmentState.PLANNED, SegmentState.REFUSED, SegmentState.RELEASED, SegmentState.TERMINATED})
"""The supplier has nothing of it."""

GONE = NOTHING_LEFT | {SegmentState.ABANDONED}
"""The supplier is asked nothing of it any more: it has nothing, or an operator has given it up."""

IN_FLIGHT = frozenset(
    {SegmentState.RESERVING, SegmentState.RELEASING, SegmentState.COMMITTING, SegmentState.TERMINATING}
)

AS_SERVICE: dict[SegmentState, S] = {
    SegmentState.PLANNED: S.RESERVING,
    SegmentState.RESERVING: S.RESERVING,
    SegmentState.HELD: S.RESERVED,
    SegmentState.REFUSED: S.REFUSED,
    SegmentState.RELEASING: S.TERMINATING,
    SegmentState.RELEASED: S.TERMINATED,
    SegmentState.COMMITTING: S.COMMITTING,
    SegmentState.COMMITTED: S.ACTIVATING,
    SegmentState.ACTIVE: S.ACTIVE,
    SegmentState.DEGRADED: S.DEGRADED,
    SegmentState.FAILED: S.FAILED,
    SegmentState.TERMINATING: S.TERMINATING,
    SegmentState.LEAVING: S.TERMINATING,
    SegmentState.TERMINATED: S.TERMINATED,
    SegmentState.ABANDONED: S.STUCK,
}
"""How a segment's state reads to the service's owner."""


def mermaid(table: Mapping[tuple[S, Event], S] = TRANSITIONS) -> str:
    """A table as a state diagram (Mermaid), for docs/architecture.md."""
    lines = ["stateDiagram-v2", "    [*] --> RESERVING: reserve"]
    lines += [f"    {a.short} --> {b.short}: {event.value}" for (a, event), b in table.items()]
    return "\n".join(lines) + "\n"
