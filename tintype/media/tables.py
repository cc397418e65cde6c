"""The tables of stored pictures and videos, and of files that are to go."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tintype.db.base import Base


class Media(Base):
    """A stored picture or video: generated (with its generation) or uploaded.

    `shows_person` is what a detector that knows people said of it; None as long as none has, and then it counts as
    one. `person_in_lineage`: a person's picture, or a LoRA of a person, went into it. `is_foreign`: it, or a picture
    that went into it, was not drawn by a model that ships with Tintype and draws no people. `frames` and what follows
    are a video's alone; its thumbnail shows the frame it begins with.
    """

    __tablename__ = "media"
    __table_args__ = (
        CheckConstraint("source IN ('generated', 'uploaded')", name="source"),
        CheckConstraint("num_nulls(frames, fps, codec, storyboard_key, storyboard_sha256) IN (0, 5)", name="video"),
        Index("ix_media_owner_id_id", "owner_id", text("id DESC")),
        Index("ix_media_generation_id_index", "generation_id", "index", unique=True),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[uuid.UUID]
    generation_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("generations.id", ondelete="CASCADE"))
    index: Mapped[int] = mapped_column(Integer, default=0)
    source: Mapped[str] = mapped_column(Text)
    content_type: Mapped[str] = mapped_column(Text)
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    thumbnail_key: Mapped[str] = mapped_column(Text)
    thumbnail_sha256: Mapped[str] = mapped_column(Text)
    seed: Mapped[int | None] = mapped_column(BigInteger)
    settings: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    shows_person: Mapped[bool | None]
    person_in_lineage: Mapped[bool] = mapped_column(default=False)
    is_foreign: Mapped[bool] = mapped_column(default=True)
    frames: Mapped[int | None] = mapped_column(Integer)
    fps: Mapped[float | None]
    codec: Mapped[str | None] = mapped_column(Text)
    storyboard_key: Mapped[str | None] = mapped_column(Text)
    storyboard_sha256: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]


class DoomedFile(Base):
    """A file that nobody names: it is deleted when it is due, and then this row."""

    __tablename__ = "doomed_files"
    __table_args__ = (Index("ix_doomed_files_due_at", "due_at"),)

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
