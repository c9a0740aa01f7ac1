"""the quotes that stand

Revision: 9d2a61f40c85, after 7c2e9a50d1f6
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "9d2a61f40c85"
down_revision = "7c2e9a50d1f6"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quotes",
        sa.Column("supplier", sa.String(length=63), nullable=False),
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("account", sa.String(length=63), nullable=False),
        sa.Column("until", sa.String(length=32), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("supplier", "id", name=op.f("pk_quotes")),
    )


def downgrade() -> None:
    op.drop_table("quotes")
