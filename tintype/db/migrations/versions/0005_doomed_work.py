"""Work that goes on elsewhere and that nobody wants any more."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("generations", sa.Column("checkpoint_provider", sa.Text(), nullable=True))
    op.create_table(
        "doomed_work",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("generation_id", sa.UUID(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("doomed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("provider", "token", name=op.f("pk_doomed_work")),
    )
    op.create_index("ix_doomed_work_due_at", "doomed_work", ["due_at"], unique=False)


def downgrade() -> None:
    op.drop_table("doomed_work")
    op.drop_column("generations", "checkpoint_provider")
