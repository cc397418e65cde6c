"""Statements that a person agreed to the use of their pictures."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "consents",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("owner_id", sa.UUID(), nullable=False),
        sa.Column("stated_by", sa.Text(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consents")),
    )
    op.create_index("ix_consents_owner_id_id", "consents", ["owner_id", sa.literal_column("id DESC")], unique=False)
    op.create_table(
        "consent_media",
        sa.Column("consent_id", sa.UUID(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("media_id", sa.UUID(), nullable=False),
        sa.ForeignKeyConstraint(
            ["consent_id"], ["consents.id"], name=op.f("fk_consent_media_consent_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("consent_id", "position", name=op.f("pk_consent_media")),
    )
    op.create_index("ix_consent_media_media_id", "consent_media", ["media_id"], unique=False)


def downgrade() -> None:
    op.drop_table("consent_media")
    op.drop_table("consents")
