"""The table of verdicts."""

import uuid
from datetime import datetime

from sqlalchemy import Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tintype.db.base import Base


class Verdict(Base):
    """What a check saw and decided. It names content by its hash only, and outlives what it judged."""

    __tablename__ = "verdicts"
    __table_args__ = (
        Index("ix_verdicts_owner_id_id", "owner_id", text("id DESC")),
        Index("ix_verdicts_blocked", "owner_id", "created_at", postgresql_where=text("is_blocked")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[uuid.UUID]
    stage: Mapped[str] = mapped_column(Text)
    is_blocked: Mapped[bool]
    reasons: Mapped[list[str]] = mapped_column(ARRAY(Text))
    detectors: Mapped[list[str]] = mapped_column(ARRAY(Text))
    scores: Mapped[dict[str, float]] = mapped_column(JSONB)
    content_sha256: Mapped[str] = mapped_column(Text)
    generation_id: Mapped[uuid.UUID | None]
    created_at: Mapped[datetime]
