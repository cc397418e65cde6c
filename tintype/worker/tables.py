"""The table of workers: who is there and what they serve."""

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tintype.db.base import Base


class Worker(Base):
    """One worker process; gone when `seen_at` is old. Of the `models` it serves, it could start on `loaded` at once."""

    __tablename__ = "workers"
    __table_args__ = (
        CheckConstraint("state IN ('ready', 'draining')", name="state"),
        Index("ix_workers_seen_at", "seen_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(Integer)
    version: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    models: Mapped[list[str]] = mapped_column(JSONB)
    loaded: Mapped[list[str]] = mapped_column(JSONB, server_default="[]")
    devices: Mapped[list[str]] = mapped_column(JSONB)
    broken_providers: Mapped[dict[str, str]] = mapped_column(JSONB)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
