"""Applying documents: what an operator hands in becomes what the node is administered to be, wholly or not at all.

Theory of operation
- Each document is read by its type; then the *resulting whole*, current documents with the change in them, is checked,
  here (`consistency`) and by the node (`check`, which may refuse what does not fit what is running). Any problem, also
  of a document that the change did not name, and nothing is applied.
- What a change leaves allocated that is given out no more is told with it (`drained`).
- The change is stored in one transaction with its audit. Then it is the present, and the node is told (`changed`).
- Changes are made one after the other. One that has begun is finished, also if its caller goes away.
- Where several processes share the store, what one of them stored is read by the others (`read`).
- A document without a password hash leaves the account's password as it is: `export` does not show it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import structlog

from broker.accounts.admin_port import AccountNotFound, Applied, Change, ChangeAction, Documents
from broker.accounts.documents import Authorship, DocumentBook, Edit, diffs, with_edits
from broker.accounts.secrets import Passwords
from broker.settings.administered import TYPES, AccountDoc, Document, plain
from broker.settings.consistency import has_operator, problems
from broker.settings.present import Administered, Key
from broker.settings.problems import Problem, key_of, read
from service_model.clock import Clock

T = TypeVar("T")
MAX_REASON = 1000

log = structlog.get_logger(__name__)


class Administration:
    """`open` before use. `present` is what the node is administered to be now."""

    def __init__(
        self,
        *,
        sp_id: str,
        book: DocumentBook,
        clock: Clock,
        passwords: Passwords,
        check: Callable[[Administered], Sequence[Problem]],
        drained: Callable[[Administered], Sequence[Problem]] = lambda whole: (),
        changed: Callable[[Administered], Awaitable[None]],
    ) -> None:
        self._sp_id = sp_id
        self._book = book
        self._clock = clock
        self._passwords = passwords
        self._check = check
        self._drained = drained
        self._changed = changed
        self._lock = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()
        self.present = Administered()

    async def open(self) -> Administered:
        """Load what is administered. `changed` is not called: the caller begins with what this returns."""
        self.present = await self._book.load()
        return self.present

    async def read(self) -> None:
        """Another process that shares the store has stored a change: it is the present here too."""
        async with self._lock:
            present = await self._book.load()
            if present != self.present:
                self.present = present
                log.info("administered elsewhere", documents=len(present.by_key))
                await self._changed(present)

    async def apply(self, documents: Documents, *, dry_run: bool, prune: bool, reason: str, actor: str) -> Applied:
        """See AdminPort."""
        return await self._finish(self._apply(documents, dry_run, prune, reason, actor))

    async def export(self, kinds: tuple[str, ...]) -> Documents:
        order = list(TYPES)
        found = sorted(self.present.by_key, key=lambda key: (order.index(key[0]), key[1]))
        return tuple(
            {
                field: value
                for field, value in plain(self.present.by_key[key].document).items()
                if field != "password_hash"
            }
            for key in found
            if not kinds or key[0] in kinds
        )

    async def set_password(self, account: str, password: str, *, actor: str) -> None:
        """See AdminPort. The hash is made in a thread."""
        self._person(account)
        hashed = await asyncio.to_thread(self._passwords.hash, password)
        await self._finish(self._set_hash(account, hashed, actor))

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` to its end even if the caller is cancelled meanwhile: it may have been stored."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _apply(self, documents: Documents, dry_run: bool, prune: bool, reason: str, actor: str) -> Applied:
        async with self._lock:
            given, wrong = self._read(documents)
            edits = self._edits(given, prune, wrong)
            whole = with_edits(self.present, edits, {})
            named = {key for key, _ in given} | {(p.kind, p.name) for p in wrong}
            broken = {(p.kind, p.name) for p in wrong}
            wrong += problems(whole, self._sp_id, broken)
            wrong += self._lockout(whole, given)
            if not wrong:
                wrong += self._check(whole)
            left = self._drained(whole) if not wrong else ()
            done = not wrong and not dry_run
            real = [e for e in edits if e.before is None or e.after != e.before.document]
            if done and real:
                await self._store(
                    real, Authorship(at=self._clock.now(), actor=actor, reason=reason[:MAX_REASON], action="apply")
                )
            return Applied(changes=_changes(edits, wrong, left, named), applied=done)

    def _read(self, documents: Documents) -> tuple[list[tuple[Key, Document]], list[Problem]]:
        """The documents that can be read, each with its key, and what is wrong with the others."""
        given: list[tuple[Key, Document]] = []
        wrong: list[Problem] = []
        seen: set[Key] = set()
        for data in documents:
            key = key_of(data)
            if all(key) and key in seen:
                wrong.append(Problem(*key, "name", f"a second {key[0]} {key[1]!r} among these documents"))
                continue
            seen.add(key)
            result = read(data)
            if isinstance(result, tuple):
                wrong.extend(result)
            else:
                given.append((key, self._with_password(result)))
        return given, wrong

    def _with_password(self, document: Document) -> Document:
        if isinstance(document, AccountDoc) and document.type == "person" and document.password_hash is None:
            known = self.present.find(AccountDoc, document.name)
            if known is not None and known.type == "person":
                return replace(document, password_hash=known.password_hash)
        return document

    def _edits(self, given: list[tuple[Key, Document]], prune: bool, wrong: Sequence[Problem]) -> list[Edit]:
        edits = [Edit(key, self.present.by_key.get(key), document) for key, document in given]
        if prune:
            named = {key for key, _ in given} | {(p.kind, p.name) for p in wrong}
            kinds = {kind for kind, _ in named}
            gone = [key for key in self.present.by_key if key[0] in kinds and key not in named]
            edits += [Edit(key, self.present.by_key[key], None) for key in sorted(gone)]
        return edits

    def _lockout(self, whole: Administered, given: list[tuple[Key, Document]]) -> list[Problem]:
        if has_operator(whole) or not has_operator(self.present):
            return []
        culprit = next((key for key, d in given if isinstance(d, AccountDoc)), ("account", ""))
        return [Problem(*culprit, "roles", "no operator in service would be left to administer this node")]

    async def _store(self, edits: Sequence[Edit], by: Authorship) -> None:
        versions: Mapping[Key, int] = await self._book.save(edits, by)
        self.present = with_edits(self.present, edits, versions)
        log.info("administered", actor=by.actor, action=by.action, reason=by.reason, documents=len(edits))
        await self._changed(self.present)

    def _person(self, name: str) -> AccountDoc:
        account = self.present.find(AccountDoc, name)
        if account is None or account.type != "person":
            raise AccountNotFound(name)
        return account

    async def _set_hash(self, name: str, hashed: str, actor: str) -> None:
        async with self._lock:
            account = self._person(name)
            key = ("account", name)
            edit = Edit(key, self.present.by_key[key], replace(account, password_hash=hashed))
            await self._store([edit], Authorship(at=self._clock.now(), actor=actor, reason="", action="set_password"))


def _changes(
    edits: Sequence[Edit], wrong: Sequence[Problem], left: Sequence[Problem], named: set[Key]
) -> tuple[Change, ...]:
    """One change for each document and each object removed, then for others that have problems because of them. `left`: what
    stays allocated."""
    by_key: dict[Key, list[str]] = {}
    for problem in wrong:
        by_key.setdefault((problem.kind, problem.name), []).append(problem.text)
    found = []
    for edit in edits:
        before = edit.before.document if edit.before else None
        found.append(
            Change(
                kind=edit.key[0],
                name=edit.key[1],
                action=_action(before, edit.after),
                diffs=diffs(before, edit.after),
                problems=tuple(by_key.pop(edit.key, ())),
                notices=tuple(p.text for p in left if (p.kind, p.name) == edit.key),
            )
        )
    for key, texts in by_key.items():
        action = ChangeAction.UNSPECIFIED if key in named else ChangeAction.UNCHANGED
        found.append(Change(kind=key[0], name=key[1], action=action, problems=tuple(texts)))
    return tuple(found)


def _action(before: Document | None, after: Document | None) -> ChangeAction:
    if after is None:
        return ChangeAction.REMOVED
    if before is None:
        return ChangeAction.CREATED
    return ChangeAction.UNCHANGED if before == after else ChangeAction.CHANGED
