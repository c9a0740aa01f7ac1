"""The tables. Times are UTC instants as ISO 8601 text of fixed width, so that they sort; documents are JSON of domain types."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


@lru_cache(64)
def _text(value: datetime) -> str:
    """All that is written in one transaction mostly happens at one instant."""
    return value.astimezone(UTC).isoformat(timespec="microseconds")


COUNTED = BigInteger().with_variant(Integer(), "sqlite")
"""What the store counts by itself. SQLite's only such type has 64 bits."""


class UtcText(TypeDecorator[datetime]):
    """A UTC instant to the microsecond as text."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return _text(value) if value is not None else None

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return datetime.fromisoformat(value) if value is not None else None


meta = Table(
    "meta", metadata, Column("key", String(40), primary_key=True), Column("value", String(200), nullable=False)
)

services = Table(
    "services",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("account", String(63), nullable=False),
    Column("ref", String(100), nullable=False),
    Column("state", String(20), nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", String(63), nullable=False),
    Column("reference", String(1000), nullable=False),
    Column("tags", String(2100), nullable=False),
    Column("created", UtcText, nullable=False),
    Column("updated", UtcText, nullable=False),
    UniqueConstraint("account", "ref"),
    Index("ix_services_state", "state"),
    Index("ix_services_account_created", "account", "created", "id"),
)

service_versions = Table(
    "service_versions",
    metadata,
    Column("service", String(36), ForeignKey("services.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("state", String(20), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("agreement", String(63), nullable=False),
    Column("agreement_version", Integer, nullable=False),
    Column("document", LargeBinary, nullable=False),
)

journal = Table(
    "journal",
    metadata,
    Column("seq", COUNTED, primary_key=True, autoincrement=True),
    Column("at", UtcText, nullable=False),
    Column("service", String(36), nullable=False),
    Column("segment", String(80), nullable=False),
    Column("what", String(40), nullable=False),
    Column("key", String(120), nullable=False),
    Column("detail", String(500), nullable=False),
    Index("ix_journal_service", "service"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", COUNTED, primary_key=True, autoincrement=True),
    Column("at", UtcText, nullable=False),
    Column("actor", String(63), nullable=False),
    Column("on_behalf_of", String(63), nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("before", String, nullable=False),
    Column("after", String, nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("trace", String(100), nullable=False),
    Index("ix_audit_subject", "subject"),
)

charges = Table(
    "charges",
    metadata,
    Column("seq", COUNTED, primary_key=True, autoincrement=True),
    Column("at", UtcText, nullable=False),
    Column("side", String(8), nullable=False),
    Column("partner", String(63), nullable=False),
    Column("service", String(36), nullable=False),
    Column("segment", String(80), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("once", String(40), nullable=False),
    Column("per_hour", String(40), nullable=False),
    Column("agreement", String(63), nullable=False),
    Column("agreement_version", Integer, nullable=False),
    Index("ix_charges_service", "service"),
)

allocations = Table(
    "allocations",
    metadata,
    Column("pool", String(140), primary_key=True),
    Column("value", String(50), primary_key=True),
    Column("owner", String(100), nullable=False),
    Column("epoch", String(36), nullable=False),
    Column("state", String(10), nullable=False),
    Column("until", UtcText),
    Index("ix_allocations_owner", "owner"),
)

events = Table(
    "events",
    metadata,
    Column("seq", COUNTED, primary_key=True, autoincrement=True),
    Column("at", UtcText, nullable=False),
    Column("account", String(63), nullable=False),
    Column("service", String(36), nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("ix_events_account_seq", "account", "seq"),
    sqlite_autoincrement=True,
)

holds = Table(
    "holds",
    metadata,
    Column("domain", String(63), primary_key=True),
    Column("ref", String(100), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("updated", UtcText, nullable=False),
    Column("document", LargeBinary, nullable=False),
)

quotes = Table(
    "quotes",
    metadata,
    Column("supplier", String(63), primary_key=True),
    Column("id", String(63), primary_key=True),
    Column("account", String(63), nullable=False),
    Column("until", UtcText, nullable=False),
    Column("document", LargeBinary, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("kind", String(20), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("valid_from", UtcText, nullable=False),
    Column("valid_until", UtcText),
    Column("author", String(63), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("document", LargeBinary, nullable=False),
)

supplier_promises = Table(
    "supplier_promises",
    metadata,
    Column("supplier", String(63), primary_key=True),
    Column("kept", Integer, nullable=False),
    Column("broken", Integer, nullable=False),
)

accepted_editions = Table(
    "accepted_editions",
    metadata,
    Column("supplier", String(63), primary_key=True),
    Column("sp_id", String(63), nullable=False),
    Column("edition", BigInteger, nullable=False),
)

note_editions = Table(
    "note_editions",
    metadata,
    Column("audience", String(63), primary_key=True),
    Column("edition", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
)

replicas = Table(
    "replicas", metadata, Column("id", String(36), primary_key=True), Column("until", UtcText, nullable=False)
)
"""The processes that work on this store, each for as long as its lease lasts."""

claims = Table(
    "claims",
    metadata,
    Column("what", String(36), primary_key=True),
    Column("owner", String(36), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("open", Boolean, nullable=False),
    Index("ix_claims_open_owner", "open", "owner"),
)
"""By order (its id), the replica that works on it; `open`: until it is over."""

changes = Table(
    "changes",
    metadata,
    Column("seq", COUNTED, primary_key=True, autoincrement=True),
    Column("at", UtcText, nullable=False),
    Column("by", String(36), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("key", String(200), nullable=False),
    sqlite_autoincrement=True,
)
"""What was changed, for the other replicas to read anew; not kept for long."""
