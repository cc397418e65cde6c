"""The tables of consents."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from tintype.db.base import Base


class Consent(Base):
    """Who said when that pictures may be used, in which words."""

    __tablename__ = "consents"
    __table_args__ = (Index("ix_consents_owner_id_id", "owner_id", text("id DESC")),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[uuid.UUID]
    stated_by: Mapped[str] = mapped_column(Text)
    statement: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


class ConsentMedia(Base):
    """A picture that a consent is about. It may be deleted while the consent stands: what was made of it is found."""

    __tablename__ = "consent_media"
    __table_args__ = (Index("ix_consent_media_media_id", "media_id"),)

    consent_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("consents.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    media_id: Mapped[uuid.UUID]
