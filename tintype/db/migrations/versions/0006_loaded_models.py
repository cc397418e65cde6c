"""Which models a worker has loaded."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "workers", sa.Column("loaded", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("workers", "loaded")
