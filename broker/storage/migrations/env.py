"""Run by Alembic for every command: use the connection and metadata that `configuration` put there.

SQLite cannot alter most of a table, so revisions rebuild it (`render_as_batch`); its DDL is transactional because the
engine begins transactions itself.
"""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
