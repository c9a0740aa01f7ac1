"""what each supplier made of what it announced

Revision: 3b5f0c1d7a42, after 68e16c13ace7
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "3b5f0c1d7a42"
down_revision = "68e16c13ace7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "supplier_promises",
        sa.Column("supplier", sa.String(length=63), nullable=False),
        sa.Column("kept", sa.Integer(), nullable=False),
        sa.Column("broken", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("supplier", name=op.f("pk_supplier_promises")),
    )


def downgrade() -> None:
    op.drop_table("supplier_promises")
