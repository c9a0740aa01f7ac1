"""Founding a node whole: its directory, and in its store the first operator. What fails leaves nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from broker.accounts.documents import Authorship, Edit
from broker.accounts.founding import Founded, found
from broker.accounts.secrets import STANDARD, Cost
from broker.settings.process import Database
from broker.storage.document_book import SqlDocumentBook, has_documents
from broker.storage.engine import Engine
from broker.storage.errors import StoreError
from broker.storage.migrations import migrate


class NotFounded(ValueError):
    """Something given cannot be; the message names it."""


async def found_node(
    directory: Path,
    *,
    sp_id: str,
    now: datetime,
    names: Sequence[str],
    operator: str,
    password: str,
    listen: str,
    listen_partners: str,
    store: Path | Database = Path("broker.db"),
    cost: Cost = STANDARD,
) -> Founded:
    """Make the node. A `store` that is a path is below the directory. The certificate is for `names`, the hosts it listens at,
    and this machine; `cost`: of the operator's password. Raises AlreadyFounded, NotFounded."""
    hosts = {address.rpartition(":")[0].strip("[]") for address in (listen, listen_partners)} - {"0.0.0.0", "::", ""}  # noqa: S104  those are no names
    subjects = sorted({*names, *hosts, "localhost", "127.0.0.1", "::1"})
    fresh = not directory.exists()  # noqa: ASYNC240  nothing else runs yet
    try:
        founded = found(
            directory,
            sp_id,
            now,
            [_name(s) for s in subjects],
            operator,
            password,
            cost,
            listen=listen,
            listen_partners=listen_partners,
            store=store.url if isinstance(store, Database) else str(store),
        )
    except ValueError as error:
        raise NotFounded(str(error)) from None
    try:
        engine = Engine.open(store if isinstance(store, Database) else directory / store, migrate=migrate)
        try:
            if await engine.read(has_documents):
                raise StoreError(f"{engine.name}: there is a node in this database already")
            account = founded.operator
            by = Authorship(at=now, actor=operator, reason="the node was founded", action="init")
            await SqlDocumentBook(engine).save([Edit(key=(account.kind, account.name), before=None, after=account)], by)
        finally:
            await engine.close()
    except StoreError as error:
        for file in founded.layout.files():
            file.unlink(missing_ok=True)
        if fresh:
            shutil.rmtree(directory, ignore_errors=True)
        raise NotFounded(str(error)) from None
    return founded


def _name(text: str) -> str | IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        return text
