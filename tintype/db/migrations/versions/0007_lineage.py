"""Which pictures went into a generation, and what is known of the people in them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "generation_inputs",
        sa.Column("generation_id", sa.UUID(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("media_id", sa.UUID(), nullable=False),
        sa.Column("made_by", sa.UUID(), nullable=True),
        sa.CheckConstraint(
            "role IN ('source', 'mask', 'control', 'style', 'reference')", name=op.f("ck_generation_inputs_role")
        ),
        sa.PrimaryKeyConstraint("generation_id", "position", name=op.f("pk_generation_inputs")),
    )
    op.create_index("ix_generation_inputs_media_id", "generation_inputs", ["media_id"], unique=False)
    op.create_index("ix_generation_inputs_made_by", "generation_inputs", ["made_by"], unique=False)
    op.add_column("media", sa.Column("shows_person", sa.Boolean(), nullable=True))
    op.add_column("media", sa.Column("person_in_lineage", sa.Boolean(), nullable=True))
    op.add_column("media", sa.Column("is_foreign", sa.Boolean(), nullable=True))
    # Until now a picture was uploaded, or made from words alone; only the built-in model draws no people.
    op.execute(
        "UPDATE media SET person_in_lineage = false,"
        " is_foreign = NOT (source = 'generated' AND settings ->> 'model' IS NOT DISTINCT FROM 'sketch'),"
        " shows_person = CASE WHEN source = 'generated' AND settings ->> 'model' = 'sketch' THEN false END"
    )
    op.alter_column("media", "person_in_lineage", nullable=False)
    op.alter_column("media", "is_foreign", nullable=False)


def downgrade() -> None:
    for column in ("is_foreign", "person_in_lineage", "shows_person"):
        op.drop_column("media", column)
    op.drop_table("generation_inputs")
