"""What the store says when it cannot.

    StoreError          the store failed; nothing of this transaction was applied
    ├── StoreBusy       too many transactions are waiting; this one was not accepted, it may be sent again
    └── StoreClosed     the store was closed before this transaction was accepted

An exception that a transaction function raises itself is not in this tree: it reaches its caller as it is. To whoever asked
for what was to be stored, all of them are NotRecorded.
"""

from __future__ import annotations

from lower_sp_clients.supplier import NotRecorded


class StoreError(NotRecorded):
    """The message names the database and the cause."""


class NewerSchema(Exception):
    """The database was migrated by a release that is newer than this program."""

    def __init__(self, revision: str) -> None:
        self.plain = f"the database is of a newer release (its revision {revision} is not known here): run that release"
        """Without what only a database that is a file has besides."""
        super().__init__(f"{self.plain}, or restore a backup that this one made (spbroker restore)")


class StoreBusy(StoreError):
    """The queue is full: shed load."""


class StoreClosed(StoreError):
    """The engine is closing or closed."""
