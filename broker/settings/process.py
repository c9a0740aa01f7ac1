"""What a process needs to start, and nothing else: `node.yml`, written by `spbroker init`.

Rules kept here
- An environment variable `SPBROKER_<FIELD>` replaces the field of the file; an empty one counts as not set.
- An unknown field is an error. Everything wrong is told at once, with file, line and field, or the variable.
- Paths are relative to the file.
- The store is a file of SQLite, or a database of PostgreSQL by its URL, which may have a password in it: it is shown nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from service_model.spec import STRICT
from service_model.words import Name
from service_model.yaml_faults import document_errors
from service_model.yaml_lines import Document, DocumentError, DocumentRefused, load_document
from service_model.yaml_lines import Path as FieldPath

ENVIRONMENT = "SPBROKER_"
NODE_FILE = "node.yml"

Listen = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:]+):\d{1,5}$", max_length=300)]
"""`host:port`, an IPv6 address in brackets."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database of PostgreSQL: `postgresql://USER[:PASSWORD]@HOST[:PORT]/NAME[?OPTION=VALUE&…]`, as libpq reads it."""

    url: str = field(repr=False)

    def __post_init__(self) -> None:
        try:
            if not urlsplit(self.url).path.strip("/"):
                raise ValueError("the URL of a PostgreSQL database ends in /NAME")
            _ = urlsplit(self.url).port
        except ValueError as error:
            raise ValueError(str(error)) from None

    def __str__(self) -> str:
        """Without user, password and options."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return f"postgresql://{host}{parts.path}"

    def without_password(self, text: str) -> str:
        """`text`, in which the password may stand, with stars in its place."""
        password = urlsplit(self.url).password
        for secret in (password, unquote(password)) if password else ():
            text = text.replace(secret, "***")
        return text


SCHEMES = ("postgresql://", "postgres://")


def store_of(given: str) -> Path | Database:
    """The store that is written so. Raises ValueError for a URL that names no database."""
    return Database(given) if given.startswith(SCHEMES) else Path(given)


def _store(given: Any) -> Any:
    return store_of(given) if isinstance(given, str) else given


def _listed(value: object) -> object:
    """In the environment names have commas between them."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[Name, ...], Field(max_length=32), BeforeValidator(_listed)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    sp_id: Name
    listen: Listen | None = None
    """Where people connect; none: nowhere."""
    listen_partners: Listen | None = None
    """Where other SPs connect, with certificates."""
    store: Annotated[Path | Database, BeforeValidator(_store)] = Path("broker.db")
    """A file of SQLite, or the URL of a PostgreSQL database."""
    drain_s: Annotated[float, Field(ge=0, le=300)] = 5.0
    """How long running calls may take to finish when the process is told to stop."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    note_rest_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """How long a change of our capability notes may wait that takes nothing away."""
    note_share: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """Which part of an announced amount may be gone for so long."""
    caution: Annotated[float, Field(ge=0, le=100)] = 0.5
    """By which part dearer a supplier counts, when plans are compared, that keeps nothing of what it announces."""
    hopes: Annotated[int, Field(ge=0, le=4)] = 2
    """How often an order that nothing announced will do for is asked for where it could have been had lately; 0: never."""
    stuck_after_s: Annotated[float, Field(ge=60, le=30 * 86400)] = 14_400.0
    """How long a supplier may leave unconfirmed that its part of what is over is gone, until the service is STUCK."""
    plugins: Names = ()
    """Plugins whose tasks are in the schedules of every service, by the names of their entry points."""
    manager_plugins: Names = ()
    """Plugins whose tasks are in those of services alone that name a manager which is one of them."""

    beginning: Annotated[int, Field(ge=1, le=10_000)] = 32
    """How many calls that begin something (reserve, quote, qualify) run at once at most; fewer while the node is late."""
    late_s: Annotated[float, Field(ge=0, le=10)] = 0.03
    """How late the node's work may be, in seconds, until fewer begin; 0: as many as `beginning` says in any case."""
    waiting: Annotated[int, Field(ge=0, le=100_000)] = 256
    """How many more of these wait for a moment; the others are told when to come back."""
    finishing: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """How many other calls run at once."""
    streams: Annotated[int, Field(ge=1, le=100_000)] = 100
    """How many streams (of events, of notes) an account has at once."""
    watcher_behind: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """How many events a watcher may be behind, until it is cut off; it resumes behind the last that it read."""

    lease_s: Annotated[float, Field(ge=2, le=300)] = 10.0
    """After how long the other processes on the same PostgreSQL take over what this one works on, when it is silent."""


_PROCESS: TypeAdapter[Process] = TypeAdapter(Process)


def load_process(file: Path, environment: Mapping[str, str]) -> Process:
    """The settings in `file` and `environment`. Raises DocumentRefused."""
    try:
        document = load_document(file.read_bytes(), str(file))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; `spbroker init` makes it"
        raise DocumentRefused((DocumentError(str(file), 1, "", reason),)) from None
    except DocumentError as error:
        raise DocumentRefused((error,)) from None
    if not isinstance(document.data, dict):
        raise DocumentRefused((document.error((), "a mapping of fields belongs here"),))
    given = {f.name: environment.get(ENVIRONMENT + f.name.upper(), "") for f in fields(Process)}
    replaced = {name: value for name, value in given.items() if value}
    try:
        process = _PROCESS.validate_python({**document.data, **replaced})
    except ValidationError as error:
        raise DocumentRefused(tuple(_named(e, replaced) for e in _errors(error, document, replaced))) from None
    return process if isinstance(process.store, Database) else replace(process, store=file.parent / process.store)


def _errors(error: ValidationError, document: Document, replaced: Mapping[str, str]) -> tuple[DocumentError, ...]:
    """Errors of fields that only the environment has stand at line 1."""
    positions: dict[FieldPath, tuple[int, int]] = {(name,): (1, 1) for name in replaced}
    positions.update(document.positions)
    return document_errors(error, Document(document.file, document.data, positions, document.written))


def _named(error: DocumentError, replaced: Mapping[str, str]) -> DocumentError:
    name = error.field.partition(".")[0]
    if name not in replaced:
        return error
    return DocumentError(f"environment variable {ENVIRONMENT}{name.upper()}", 1, name, error.reason)
