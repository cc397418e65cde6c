"""Answers kept for writes that carry an `Idempotency-Key`, in the transaction of the write itself."""

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Index, Integer, Text, delete, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Mapped, mapped_column

from tintype import errors
from tintype.db.base import Base, now
from tintype.db.session import WriteSession

KEPT_FOR = timedelta(hours=24)
MAX_KEY_CHARS = 200


class IdempotencyKeyReusedError(errors.TintypeError):
    """This Idempotency-Key was used for another request; use a new key."""

    status = 422
    code = "idempotency_key_reused"


class IdempotencyKeyInvalidError(errors.TintypeError):
    """The Idempotency-Key is not usable."""

    status = 422
    code = "idempotency_key_invalid"


class IdempotentAnswer(Base):
    """What the first request with this key answered."""

    __tablename__ = "idempotent_answers"
    __table_args__ = (Index("ix_idempotent_answers_created_at", "created_at"),)

    owner_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    request_hash: Mapped[str] = mapped_column(Text)
    status: Mapped[int] = mapped_column(Integer, default=0)
    body: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[datetime]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A kept answer."""

    status: int
    body: dict[str, Any] | None


async def begin(session: WriteSession, *, owner_id: uuid.UUID, key: str, request: bytes) -> Answer | None:
    """Claim `key` for this request, or give the answer of the request that had it first.

    A second request with the same key waits here until the first has committed or failed.

    Raises:
        IdempotencyKeyReusedError: the key belongs to a different request.
    """
    if not 0 < len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise IdempotencyKeyInvalidError(f"an Idempotency-Key has 1 to {MAX_KEY_CHARS} printable characters")
    request_hash = hashlib.sha256(request).hexdigest()
    claimed = await session.execute(
        insert(IdempotentAnswer)
        .values(owner_id=owner_id, key=key, request_hash=request_hash, status=0, created_at=now())
        .on_conflict_do_nothing()
        .returning(IdempotentAnswer.key)
    )
    if claimed.first() is not None:
        return None
    kept = (
        await session.execute(
            select(IdempotentAnswer).where(IdempotentAnswer.owner_id == owner_id, IdempotentAnswer.key == key)
        )
    ).scalar_one()
    if kept.request_hash != request_hash:
        raise IdempotencyKeyReusedError
    return Answer(status=kept.status, body=kept.body)


async def keep(
    session: WriteSession, *, owner_id: uuid.UUID, key: str, status: int, body: dict[str, Any] | None
) -> None:
    """Remember what was answered."""
    await session.execute(
        update(IdempotentAnswer)
        .where(IdempotentAnswer.owner_id == owner_id, IdempotentAnswer.key == key)
        .values(status=status, body=body)
    )


async def forget_old(session: WriteSession) -> None:
    """Drop answers older than a day."""
    await session.execute(delete(IdempotentAnswer).where(IdempotentAnswer.created_at < now() - KEPT_FOR))
