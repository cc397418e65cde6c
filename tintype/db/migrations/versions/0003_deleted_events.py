"""Events outlive their generation: the last one says that it was deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("fk_events_generation_id"), "events", type_="foreignkey")


def downgrade() -> None:
    events, generations = sa.table("events", sa.column("generation_id")), sa.table("generations", sa.column("id"))
    op.execute(sa.delete(events).where(events.c.generation_id.not_in(sa.select(generations.c.id))))
    op.create_foreign_key(
        op.f("fk_events_generation_id"), "events", "generations", ["generation_id"], ["id"], ondelete="CASCADE"
    )
