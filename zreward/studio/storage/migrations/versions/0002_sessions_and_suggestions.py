"""sessions that end when they are ended; examples that annotators suggest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "signed_in",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("ends", sa.DateTime(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    with op.batch_alter_table("signed_in", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_signed_in_user_id"), ["user_id"], unique=False)
    # What is an example already stays one.
    with op.batch_alter_table("examples", schema=None) as batch_op:
        batch_op.add_column(sa.Column("accepted", sa.Boolean(), server_default=sa.true(), nullable=False))


def downgrade() -> None:
    op.execute("DELETE FROM examples WHERE NOT accepted")
    with op.batch_alter_table("examples", schema=None) as batch_op:
        batch_op.drop_column("accepted")
    op.drop_table("signed_in")
