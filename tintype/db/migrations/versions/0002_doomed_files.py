"""Files that are to be deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "doomed_files",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", "due_at", name=op.f("pk_doomed_files")),
    )
    op.create_index("ix_doomed_files_due_at", "doomed_files", ["due_at"], unique=False)


def downgrade() -> None:
    op.drop_table("doomed_files")
