"""Does the migrated schema equal the tables that the code declares?"""

from __future__ import annotations

from typing import Any

import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext


def differences(connection: sqlalchemy.Connection, metadata: sqlalchemy.MetaData) -> list[Any]:
    """Alembic's list of what would have to change for the database to equal `metadata`; empty when they agree."""
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True, "render_as_batch": True}
    )
    return list(compare_metadata(context, metadata))
