"""Following a service as it changes, until it is settled or the time is up.

Rules kept here
- The stream is opened before the service is asked for (its first message is a bookmark), so no change is missed. What it tells
  that is older than the answer is passed over.
- A stream that breaks is resumed behind its last token, a few times with growing pauses; then it is a Fault.
- On a terminal the tree of parts is drawn anew in place; elsewhere each change of the service or a part is one line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live

from broker.cli.connection import Connection
from broker.cli.exit_codes import Exit
from broker.cli.faults import Fault
from broker.cli.rendering import service_tree
from broker.cli.rendering.text import Text
from lower_sp_clients import wire
from service_model.outcomes import Event, NewerVersion, SegmentStatus, ServiceState, ServiceStatus
from spbroker.v1 import broker_service_pb2 as pb

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
SETTLED = frozenset(
    {
        ServiceState.ACTIVE,
        ServiceState.DEGRADED,
        ServiceState.FAILED,
        ServiceState.STUCK,
        ServiceState.REFUSED,
        ServiceState.EXPIRED,
        ServiceState.TERMINATED,
    }
)
"""States of an order that is being built which nothing but a new call, or trouble, will change."""

ENDED = frozenset({ServiceState.TERMINATED, ServiceState.REFUSED, ServiceState.EXPIRED})


def status_of(connection: Connection, ref: str) -> ServiceStatus:
    """Raises Fault: NOT_FOUND where the caller has no such service."""
    try:
        answer = connection.call("GetService", pb.GetServiceRequest(ref=ref))
    except Fault as fault:
        if fault.exit_code is Exit.NOT_FOUND:
            raise Fault(Exit.NOT_FOUND, f"you have no service {ref!r}", hint="see them: spbroker services") from None
        raise
    return wire.STATUS.decode(answer.service)


def uncommitted(status: ServiceStatus, states: Collection[ServiceState]) -> ServiceStatus | NewerVersion:
    """The version in one of these states that waits to be committed: the newer one beside a live one, or the service's own.
    Raises Fault where there is none."""
    for version in (status.newer, status):
        if version is not None and version.state in states:
            return version
    message = f"{status.ref} is {status.state.short}: nothing of it is held"
    raise Fault(Exit.REFUSED, message, hint=f"see it: spbroker show {status.ref}")


def events(connection: Connection, after: str = "", until: float | None = None) -> Iterator[Event]:
    """Events behind `after`, the first a bookmark, until the monotonic time `until`; then a Fault of kind TIMEOUT."""
    failures = 0
    while True:
        left = None if until is None else max(0.001, until - time.monotonic())
        try:
            for message in connection.stream("WatchServices", pb.WatchServicesRequest(after=after), left):
                failures, event = 0, wire.EVENT.decode(message.event)
                after = event.token
                yield event
        except Fault as fault:
            if until is not None and time.monotonic() >= until - 0.05:
                raise Fault(Exit.FAILED, "the time is up", kind="TIMEOUT") from None
            if fault.exit_code is not Exit.UNREACHABLE:
                raise
            if failures >= len(PAUSES_S):
                raise
        pause = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
        failures += 1
        time.sleep(pause if until is None else max(0.0, min(pause, until - time.monotonic())))


def changes(connection: Connection, ref: str, until: float | None = None) -> Iterator[ServiceStatus]:
    """The service as it is, then after each change of it."""
    stream = events(connection, until=until)
    next(stream)
    known = status_of(connection, ref)
    yield known
    yield from later(known, stream)


def later(known: ServiceStatus, stream: Iterable[Event]) -> Iterator[ServiceStatus]:
    """What became of a service after it was as `known`, each change once. A stream that was opened before it was asked for begins
    with what is older."""
    for event in stream:
        status = event.status
        if status is None or status.ref != known.ref or status == known or status.update_time < known.update_time:
            continue
        known = status
        yield known


def follow(
    connection: Connection, ref: str, view: View, is_over: Callable[[ServiceStatus], bool], until: float | None = None
) -> ServiceStatus:
    """Shows every change in `view` until `is_over`; the last status. Raises Fault: TIMEOUT when the time is up."""
    with view:
        for status in changes(connection, ref, until):
            view.update(status)
            if is_over(status):
                return status
    raise AssertionError("a stream of changes ends in a fault only")


class View(Protocol):
    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, status: ServiceStatus) -> None: ...


def view_on(console: Console, *, stays: bool) -> View:
    """A live tree on a terminal, lines elsewhere. `stays`: the last tree is left standing."""
    return LiveTree(console, stays) if console.is_terminal else Lines(console)


class LiveTree:
    def __init__(self, console: Console, stays: bool) -> None:
        self._live = Live(console=console, transient=not stays, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, status: ServiceStatus) -> None:
        self._live.update(service_tree(status), refresh=True)


class Lines:
    """`12:30:01  guarded-web-1  ACTIVATING` and `12:30:02  guarded-web-1/east  RESERVED → ACTIVE`, one per change."""

    def __init__(self, console: Console, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._console, self._now = console, now
        self._seen: dict[str, ServiceState] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def update(self, status: ServiceStatus) -> None:
        self._line(status.ref, status.state, status.reasons[0].message if status.reasons else "")
        self._parts(status.ref, status.segments)

    def _parts(self, above: str, segments: tuple[SegmentStatus, ...]) -> None:
        for part in segments:
            path = f"{above}/{part.alias}"
            self._line(path, part.state, part.reasons[0].message if part.reasons else "")
            self._parts(path, part.segments)

    def _line(self, path: str, state: ServiceState, why: str) -> None:
        before = self._seen.get(path)
        if before is state:
            return
        self._seen[path] = state
        came = f"{before.short} → {state.short}" if before else state.short
        text = f"{self._now().astimezone():%H:%M:%S}  {path}  {came}{f'  {why}' if why else ''}"
        self._console.print(Text(text), soft_wrap=True)
