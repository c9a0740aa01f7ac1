"""What answers questions over all notes as a process of its own, on its standard streams: `main` is the planner.

Rules kept here
- It has what it was told of every supplier, and nothing else; it is told of changes before each question (`Told`).
- A frame is its length in four bytes and a pickle. Both ends are the same program, and nobody else has the pipes.
- It ends when its input ends, so it never outlives the node that began it; a Ctrl-C is for that node.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, BinaryIO

from broker.decompose.ordered import Ordered
from broker.decompose.plan import Avoid, Infeasible, Plan, Rejected, Snapshot, SupplierView
from broker.decompose.search import plan, rejected
from capability_registry import payload
from capability_registry.note import NOTE, CapabilityNote
from service_model.spec import ServiceSpec

HEAD = struct.Struct("!I")
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_NO_NOTE = CapabilityNote(sp_id="none", edition=1, audience="none", not_before=_LONG_AGO, expires=_LONG_AGO)


@dataclass(frozen=True, slots=True)
class Heard:
    """A supplier as it is now, its note as JSON; no JSON where the note is the one told before."""

    view: SupplierView
    note: bytes | None

    @classmethod
    def of(cls, view: SupplierView, before: SupplierView | None) -> Heard:
        same = before is not None and before.note is view.note
        return cls(replace(view, note=_NO_NOTE), None if same else payload.write(view.note))


@dataclass(frozen=True, slots=True)
class Told:
    """What changed: suppliers that are new or other than before, and aliases of those that are no more. `hoped`: in the
    snapshot that also tells what was announced before."""

    heard: tuple[Heard, ...]
    gone: tuple[str, ...] = ()
    hoped: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """`head`: the snapshot without its suppliers, who are those told of. `better`: what would be better than the best plan,
    but for a class of constraints, instead of so many plans."""

    spec: ServiceSpec
    head: Snapshot
    now: datetime
    avoid: Avoid
    alternatives: int = 1
    better: bool = False
    why: bool = True

    def answered(self, snapshot: Snapshot) -> Answer:
        if self.better:
            return rejected(self.spec, snapshot, self.now, self.avoid)
        return plan(self.spec, snapshot, self.now, self.avoid, self.alternatives, why=self.why)


Answer = tuple[Plan, ...] | Infeasible | tuple[Rejected, ...]


def frame(message: object) -> bytes:
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEAD.pack(len(body)) + body


@dataclass(frozen=True, slots=True)
class Answered:
    """`answer` to a question; or why there is none, for who asked, who logs it."""

    answer: object = None
    fault: Exception | None = None


class Worker:
    """What the process knows: suppliers as they are, and as is hoped. All but `Told` is a question, and answered."""

    def __init__(self) -> None:
        self._known = {False: Ordered(), True: Ordered()}
        self._snapshots: dict[bool, Snapshot] = {}

    def take(self, message: object) -> Answered | None:
        if isinstance(message, Told):
            self._hear(message)
            return None
        try:
            return Answered(self.answer(message))
        except Exception as fault:
            return Answered(fault=fault)

    def snapshot(self, head: Snapshot) -> Snapshot:
        """The snapshot of a head: of the suppliers as they were told of, the same object as long as they stay."""
        known = self._snapshots.get(head.hoped)
        if known is None or known.number != head.number:
            known = self._snapshots[head.hoped] = replace(head, suppliers=self._known[head.hoped].all())
        return known

    def answer(self, question: object) -> object:
        assert isinstance(question, Question)
        return question.answered(self.snapshot(question.head))

    def _hear(self, told: Told) -> None:
        views = self._known[told.hoped]
        for heard in told.heard:
            note = views[heard.view.alias].note if heard.note is None else NOTE.validate_json(heard.note)
            views.put(replace(heard.view, note=note))
        for alias in told.gone:
            views.remove(alias)
        self._snapshots.pop(told.hoped, None)


def serve(source: BinaryIO, sink: BinaryIO, worker: Worker) -> None:
    while len(head := source.read(HEAD.size)) == HEAD.size:
        message: Any = pickle.loads(source.read(*HEAD.unpack(head)))  # noqa: S301 (from our own program)
        if (answer := worker.take(message)) is not None:
            sink.write(frame(answer))
            sink.flush()


def run(worker: Worker) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever anybody prints is no answer
    serve(sys.stdin.buffer, answers, worker)


def main() -> None:
    run(Worker())
