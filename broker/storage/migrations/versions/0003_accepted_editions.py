"""the highest edition that was accepted from each supplier

Revision: 7c2e9a50d1f6, after 3b5f0c1d7a42
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "7c2e9a50d1f6"
down_revision = "3b5f0c1d7a42"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accepted_editions",
        sa.Column("supplier", sa.String(length=63), nullable=False),
        sa.Column("sp_id", sa.String(length=63), nullable=False),
        sa.Column("edition", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("supplier", name=op.f("pk_accepted_editions")),
    )


def downgrade() -> None:
    op.drop_table("accepted_editions")
