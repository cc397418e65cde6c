"""The tables of generations: the row that is the truth, its events, and work elsewhere that is to end."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tintype.db.base import Base
from tintype.generations.states import ROLES, STATUSES

STATUS_LIST = ", ".join(f"'{status}'" for status in STATUSES)
ROLE_LIST = ", ".join(f"'{role}'" for role in ROLES)


class Generation(Base):
    """One request for pictures. Every write of a worker is fenced by `attempt`."""

    __tablename__ = "generations"
    __table_args__ = (
        CheckConstraint(f"status IN ({STATUS_LIST})", name="status"),
        CheckConstraint("(status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)", name="end"),
        Index("ix_generations_owner_id_id", "owner_id", text("id DESC")),
        Index("ix_generations_retry_of", "retry_of"),
        Index(
            "ix_generations_active",
            "status",
            "model",
            "priority",
            "id",
            postgresql_where=text("status IN ('queued', 'processing')"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[uuid.UUID]
    kind: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    style: Mapped[str | None] = mapped_column(Text)
    prompt: Mapped[str] = mapped_column(Text)
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB)
    priority: Mapped[int] = mapped_column(Integer)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    worker_id: Mapped[uuid.UUID | None]
    heartbeat_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    checkpoint: Mapped[str | None] = mapped_column(Text)
    checkpoint_provider: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    cost_usd: Mapped[float] = mapped_column(default=0.0)
    retry_of: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("generations.id", ondelete="SET NULL"))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


class GenerationInput(Base):
    """A picture that went into a generation; `made_by` is the generation that drew it, None for an upload.

    It names rows without holding them: what came of a picture must be found also when a link between is deleted.
    """

    __tablename__ = "generation_inputs"
    __table_args__ = (
        CheckConstraint(f"role IN ({ROLE_LIST})", name="role"),
        Index("ix_generation_inputs_media_id", "media_id"),
        Index("ix_generation_inputs_made_by", "made_by"),
    )

    generation_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    role: Mapped[str] = mapped_column(Text)
    media_id: Mapped[uuid.UUID]
    made_by: Mapped[uuid.UUID | None]


class Event(Base):
    """Something that happened to a generation; ids grow in commit order, so a reader goes on after the last it saw.

    It may name a generation that is gone: its last event, `deleted`, is for those who did not look when it went.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_generation_id_id", "generation_id", "id"),
        Index("ix_events_owner_id_id", "owner_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    generation_id: Mapped[uuid.UUID]
    owner_id: Mapped[uuid.UUID]
    type: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime]


class DoomedWork(Base):
    """Work at a provider's whose result nobody wants: it is ended when it is due, and then this row goes."""

    __tablename__ = "doomed_work"
    __table_args__ = (Index("ix_doomed_work_due_at", "due_at"),)

    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    token: Mapped[str] = mapped_column(Text, primary_key=True)
    generation_id: Mapped[uuid.UUID]
    tries: Mapped[int] = mapped_column(Integer, default=0)
    doomed_at: Mapped[datetime]
    due_at: Mapped[datetime]
