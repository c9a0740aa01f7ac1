"""What the engine and its writer have to know of the database below them."""

from __future__ import annotations

from typing import Any, Protocol

import sqlalchemy


class Backend(Protocol):
    """One kind of database, and for errors the `name` of the one that is open."""

    session: int
    """The server's number of the session that writes; 0 where there is no server."""

    @property
    def name(self) -> str: ...

    def in_transaction(self, driver: Any) -> bool:
        """Whether the driver's connection is within a transaction, a failed one included."""

    def is_fault(self, error: BaseException) -> bool:
        """Whether it is the disk's, the server's or the line's fault, and not the statement's."""

    def is_refused_write(self, error: BaseException) -> bool:
        """Whether a read function tried to write: its author's mistake."""

    def cause(self, error: BaseException) -> str:
        """One line for a person: the driver's words without SQL, parameters or links."""

    def committed(self, error: BaseException) -> bool:
        """Whether the writer's last transaction is in the database although its COMMIT raised `error`. Raises StoreError
        where that cannot be found out."""

    def recover(self, connection: sqlalchemy.Connection) -> bool:
        """End what is left of a failed transaction, on a new line where the old one is broken; whether it was."""

    def give_up(self) -> None:
        """The engine is closing: `committed` waits for nobody any more. From any thread."""

    def release(self) -> None:
        """Everything is closed: let others have the database."""
