"""Videos: how long and how fast they are, their storyboards, and the picture one ends with."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("media", sa.Column("frames", sa.Integer(), nullable=True))
    op.add_column("media", sa.Column("fps", sa.Float(), nullable=True))
    for name in ("codec", "storyboard_key", "storyboard_sha256"):
        op.add_column("media", sa.Column(name, sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_media_video"), "media", "num_nulls(frames, fps, codec, storyboard_key, storyboard_sha256) IN (0, 5)"
    )
    _allow_roles("'source', 'mask', 'control', 'style', 'reference', 'last'")


def downgrade() -> None:
    op.execute("DELETE FROM generation_inputs WHERE role = 'last'")
    _allow_roles("'source', 'mask', 'control', 'style', 'reference'")
    op.drop_constraint(op.f("ck_media_video"), "media")
    for name in ("storyboard_sha256", "storyboard_key", "codec", "fps", "frames"):
        op.drop_column("media", name)


def _allow_roles(roles: str) -> None:
    op.drop_constraint(op.f("ck_generation_inputs_role"), "generation_inputs")
    op.create_check_constraint(op.f("ck_generation_inputs_role"), "generation_inputs", f"role IN ({roles})")
