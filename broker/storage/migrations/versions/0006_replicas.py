"""who works on what, where several processes share a store

Revision: e4b7d90c2f16, after 9d2a61f40c85
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "e4b7d90c2f16"
down_revision = "9d2a61f40c85"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("until", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replicas")),
    )
    op.create_table(
        "claims",
        sa.Column("what", sa.String(length=36), nullable=False),
        sa.Column("owner", sa.String(length=36), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("what", name=op.f("pk_claims")),
    )
    with op.batch_alter_table("claims", schema=None) as batch_op:
        batch_op.create_index("ix_claims_open_owner", ["open", "owner"], unique=False)
    op.create_table(
        "changes",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("by", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_changes")),
        sqlite_autoincrement=True,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "ALTER TABLE allocations ADD CONSTRAINT ex_allocations_prefixes "
            "EXCLUDE USING gist ((value::inet) inet_ops WITH &&) WHERE (pool LIKE 'prefixes/%')"
        )
        op.execute(
            "CREATE FUNCTION spbroker_changed() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_notify('spbroker', ''); RETURN NULL; END $$"
        )
        op.execute(
            "CREATE TRIGGER changed AFTER INSERT ON changes FOR EACH STATEMENT EXECUTE FUNCTION spbroker_changed()"
        )
        for table in ("journal", "audit", "charges", "events"):
            op.alter_column(table, "seq", type_=sa.BigInteger(), existing_type=sa.Integer())


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE allocations DROP CONSTRAINT ex_allocations_prefixes")
        op.execute("DROP TRIGGER changed ON changes")
        op.execute("DROP FUNCTION spbroker_changed()")
    op.drop_table("changes")
    with op.batch_alter_table("claims", schema=None) as batch_op:
        batch_op.drop_index("ix_claims_open_owner")
    op.drop_table("claims")
    op.drop_table("replicas")
