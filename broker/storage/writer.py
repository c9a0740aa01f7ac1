"""The one thread that writes, with group commit.

Rules kept here
- All functions that wait are run in one transaction, in the order in which they came, and committed once. A caller gets
  its answer only after that commit is on disk.
- A function that raises undoes only its own work, and only its caller sees the exception: each function of a batch runs in its
  own savepoint. One that is alone needs none: the transaction is its own.
- A batch of nothing but scripts is first run as one, without savepoints. Where anything of it is wrong all of it is undone, and
  each is run again like a function: a script is a list of statements, and leaves nothing behind but what they wrote.
- When the transaction itself is lost (COMMIT fails, or the database or a function ended it) nothing of the batch is applied
  and every caller of the batch is told so with a `StoreError`. Where the answer to COMMIT was lost, the database is asked.
- A caller that gives up does not disturb the others. Its function is skipped if it has not begun; otherwise it counts.
- At most `max_waiting` functions wait; the next one is refused with `StoreBusy`.

A function gets a `Connection` inside a transaction that is not its own: it must not commit, roll back, or return an
open result. It runs once, unless it is a script. Constraints must be immediate: a deferred one fails at COMMIT, for everybody.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy

from broker.storage.backend import Backend
from broker.storage.errors import StoreBusy, StoreClosed, StoreError
from broker.storage.statements import Script

Work = Callable[[sqlalchemy.Connection], Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A function, and the future that its caller awaits on its own loop."""

    work: Work
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True, slots=True)
class Outcome:
    job: Job
    value: Any = None
    error: BaseException | None = None


class TransactionLost(Exception):
    """The batch's transaction no longer exists; `__cause__` says why."""


class Writer:
    """Owns `connection` from `start` until its thread has ended."""

    def __init__(self, connection: sqlalchemy.Connection, backend: Backend, max_waiting: int) -> None:
        self.commits = 0
        self.transactions = 0
        self._connection = connection
        self._driver: Any = connection.connection.dbapi_connection
        self._backend = backend
        self._name = backend.name
        self._max_waiting = max_waiting
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closing = False
        self._in_function = False
        self._submitting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        sqlalchemy.event.listen(connection, "commit", self._refuse_early_commit)

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue `job`; from any thread. Raises `StoreBusy` or `StoreClosed`."""
        with self._submitting:
            if self._closing:
                raise StoreClosed(f"{self._name}: the store is closed")
            if (waiting := self._waiting.qsize()) >= self._max_waiting:
                raise StoreBusy(f"{self._name}: {waiting} transactions are waiting")
            self._waiting.put(job)

    def drain(self) -> None:
        """Accept nothing more, finish what waits, end the thread. Blocks; may be called again."""
        with self._submitting:
            if not self._closing:
                self._closing = True
                self._waiting.put(None)  # behind all that was accepted
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            batch = [self._waiting.get()]
            batch += (self._waiting.get() for _ in range(self._waiting.qsize()))  # nobody else takes from it
            closing = batch[-1] is None
            jobs = [job for job in batch if job is not None and not job.future.cancelled()]
            if jobs:
                deliver(self._transact(jobs))

    def _transact(self, jobs: list[Job]) -> list[Outcome]:
        """Run a batch in one transaction; whatever happens, there is one outcome per job."""
        outcomes: list[Outcome] = []
        try:
            transaction = self._begin()
            whole = Script.of([job.work for job in jobs]) if len(jobs) > 1 else None
            if whole is not None and not self._goes(whole):
                whole = None
                transaction.rollback()
                transaction = self._begin()
            for job in jobs:
                outcomes.append(
                    Outcome(job) if whole is not None else self._run_one(job, transaction, alone=len(jobs) == 1)
                )
            applied = sum(outcome.error is None for outcome in outcomes)
            if applied:
                self._commit(transaction)
                self.commits += 1
                self.transactions += applied
            else:
                transaction.rollback()
        except Exception as error:
            return self._undo(jobs, outcomes, error)
        return outcomes

    def _begin(self) -> sqlalchemy.RootTransaction:
        try:
            transaction = self._connection.begin()
        except Exception:
            if not self._backend.recover(self._connection):
                raise
            transaction = self._connection.begin()  # on a new line
        self._driver = self._connection.connection.dbapi_connection
        return transaction

    def _commit(self, transaction: sqlalchemy.RootTransaction) -> None:
        try:
            transaction.commit()
        except Exception as error:
            if not self._backend.committed(error):
                raise
            self._backend.recover(self._connection)

    def _goes(self, whole: Script) -> bool:
        """Whether nothing of it is wrong. Raises what is the database's fault."""
        try:
            whole(self._connection)
        except Exception as error:
            if self._backend.is_fault(error):
                raise
            return False
        return True

    def _run_one(self, job: Job, transaction: sqlalchemy.RootTransaction, alone: bool) -> Outcome:
        execute = self._driver.execute if not alone else _nothing
        execute("SAVEPOINT one")
        error: BaseException | None = None
        value: Any = None
        self._in_function = True
        try:
            value = job.work(self._connection)
            if isinstance(value, sqlalchemy.Result):
                value.close()
                raise TypeError("a transaction function returned an open result; return its rows")
        except BaseException as raised:
            error = raised
        finally:
            self._in_function = False
        connection = self._connection
        if (
            not self._backend.in_transaction(self._driver)
            or connection.get_transaction() is not transaction
            or not transaction.is_active
            or connection.get_nested_transaction() is not None
        ):
            raise TransactionLost("a function ended the transaction that it shares, or the database did") from error
        if error is None:
            execute("RELEASE one")
            return Outcome(job, value=value)
        execute("ROLLBACK TO one")
        execute("RELEASE one")
        return Outcome(job, error=self._translate(error))

    def _undo(self, jobs: list[Job], outcomes: list[Outcome], error: Exception) -> list[Outcome]:
        """Roll back what is left of the transaction. Functions that had raised keep their own exception."""
        try:
            self._backend.recover(self._connection)
        except Exception as second:
            error.add_note(f"the rollback failed too: {self._backend.cause(second)}")
        reason = self._backend.cause(error.__cause__ or error)
        if error.__cause__ is not None and not self._backend.is_fault(error.__cause__):
            reason = f"{error}: {reason}"
        failed = {id(outcome.job): outcome for outcome in outcomes if outcome.error is not None}
        return [failed.get(id(job)) or Outcome(job, error=self._failure(reason, error)) for job in jobs]

    def _failure(self, reason: str, error: BaseException) -> StoreError:
        failure = StoreError(f"{self._name}: the transaction was not applied: {reason}")
        failure.__cause__ = error
        return failure

    def _translate(self, error: BaseException) -> BaseException:
        if self._backend.is_fault(error):
            return self._failure(self._backend.cause(error), error)
        if isinstance(error, StopIteration):  # a future cannot carry it
            replacement = RuntimeError("a transaction function raised StopIteration")
            replacement.__cause__ = error
            return replacement
        return error

    def _refuse_early_commit(self, _connection: sqlalchemy.Connection) -> None:
        if self._in_function:
            raise TransactionLost("a transaction function must not commit")


def _nothing(_statement: str) -> None:
    """In place of a savepoint, where there is nobody to be spared."""


def deliver(outcomes: list[Outcome]) -> None:
    """Wake each loop once for all its callers. A loop that has been closed has no callers left."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome.job.loop, []).append(outcome)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(resolve, mine)
        except RuntimeError:
            if not loop.is_closed():
                raise


def resolve(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.job.future
        if future.done():  # cancelled meanwhile
            continue
        if outcome.error is None:
            future.set_result(outcome.value)
        else:
            future.set_exception(outcome.error)
