"""What can be done with verdicts: record them, list and count them, and hold back who is blocked again and again."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import DateTime, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import UUID, insert

from tintype import errors, safety
from tintype.accounts.actors import Actor
from tintype.db.base import new_id, now
from tintype.db.session import ReadSession, WriteSession
from tintype.verdicts.tables import Verdict

PAUSE_AFTER = 5
PAUSE_WINDOW = timedelta(hours=1)
"""Five blocks within an hour hold back new requests until the oldest of them is an hour old. An honest person who hits
the word floor by accident meets it once or twice; who tries how far it gives meets it again and again."""


class PausedError(errors.TintypeError):
    """Several of your requests were blocked within an hour; no new ones are taken for a while."""

    status = 429
    code = "paused_after_blocks"

    def __init__(self, until: datetime) -> None:
        wait_s = max(1, round((until - now()).total_seconds()))
        super().__init__(
            f"{PAUSE_AFTER} of your requests were blocked within an hour; new ones are taken again in "
            f"{-(-wait_s // 60)} minutes"
        )
        self.retry_after_s = wait_s


class AdministratorsOnlyError(errors.TintypeError):
    """Only administrators may see this."""

    status = 403
    code = "administrators_only"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One verdict to record: `stage` of the check, `scores` by label, the SHA-256 of what was judged.

    It has its id before it is written, so that writing it twice leaves one.
    """

    id: uuid.UUID
    stage: str
    is_blocked: bool
    reasons: Sequence[str]
    detectors: Sequence[str]
    scores: Mapping[str, float]
    content_sha256: str


@dataclass(frozen=True, kw_only=True)
class Count:
    """How often an owner was judged and blocked, and when last."""

    owner_id: uuid.UUID
    judged: int
    blocked: int
    last_blocked_at: datetime | None


def judged(verdict: safety.Verdict, content: bytes) -> Judged:
    """A verdict as it is recorded; of the content only its hash."""
    return Judged(
        id=new_id(),
        stage=verdict.stage.value,
        is_blocked=verdict.is_blocked,
        reasons=(verdict.reason.value,) if verdict.reason is not None else (),
        detectors=verdict.detectors,
        scores={label.value: round(score, 4) for label, score in verdict.scores.items()},
        content_sha256=hashlib.sha256(content).hexdigest(),
    )


async def record(
    session: WriteSession, owner_id: uuid.UUID, judged: Sequence[Judged], *, generation_id: uuid.UUID | None = None
) -> None:
    """Write verdicts down."""
    if judged:
        values = rows(owner_id, judged, generation_id=generation_id)
        await session.execute(insert(Verdict).on_conflict_do_nothing(), values)


def rows(
    owner_id: uuid.UUID, judged: Sequence[Judged], *, generation_id: uuid.UUID | None = None
) -> list[dict[str, Any]]:
    """Verdicts as they stand in their table, for a statement that writes them with something else."""
    at = now()
    return [
        {
            "id": item.id,
            "owner_id": owner_id,
            "stage": item.stage,
            "is_blocked": item.is_blocked,
            "reasons": list(item.reasons),
            "detectors": list(item.detectors),
            "scores": dict(item.scores),
            "content_sha256": item.content_sha256,
            "generation_id": generation_id,
            "created_at": at,
        }
        for item in judged
    ]


OLDEST_OF_MANY = text(
    """
    SELECT created_at FROM verdicts WHERE is_blocked AND owner_id = :owner_id AND created_at > :since
    ORDER BY created_at DESC OFFSET :others LIMIT 1
    """
).bindparams(bindparam("owner_id", type_=UUID()), bindparam("since", type_=DateTime(timezone=True)))


async def check_not_paused(session: ReadSession | WriteSession, actor: Actor) -> None:
    """Refuse an actor who was blocked too often of late.

    Raises:
        PausedError: it says for how long.
    """
    since = now() - PAUSE_WINDOW
    found = await session.execute(OLDEST_OF_MANY, {"owner_id": actor.id, "since": since, "others": PAUSE_AFTER - 1})
    if (oldest := found.scalar_one_or_none()) is not None:
        raise PausedError(until=oldest + PAUSE_WINDOW)


async def newest(
    session: ReadSession,
    actor: Actor,
    *,
    limit: int,
    before: uuid.UUID | None = None,
    owner_id: uuid.UUID | None = None,
    only_blocked: bool = False,
) -> Sequence[Verdict]:
    """Verdicts, newest first; administrators see everybody's.

    Raises:
        AdministratorsOnlyError: the actor asks for somebody else's.
    """
    query = select(Verdict).order_by(Verdict.id.desc()).limit(limit)
    if actor.role != "administrator":
        if owner_id not in (None, actor.id):
            raise AdministratorsOnlyError
        owner_id = actor.id
    if owner_id is not None:
        query = query.where(Verdict.owner_id == owner_id)
    if before is not None:
        query = query.where(Verdict.id < before)
    if only_blocked:
        query = query.where(Verdict.is_blocked)
    return (await session.execute(query)).scalars().all()


async def counts(session: ReadSession, actor: Actor) -> Sequence[Count]:
    """How often each owner was judged and blocked, most blocked first.

    Raises:
        AdministratorsOnlyError: the actor is none.
    """
    if actor.role != "administrator":
        raise AdministratorsOnlyError
    blocked = func.count().filter(Verdict.is_blocked)
    rows = await session.execute(
        select(
            Verdict.owner_id,
            func.count(),
            blocked,
            func.max(Verdict.created_at).filter(Verdict.is_blocked),
        )
        .group_by(Verdict.owner_id)
        .order_by(blocked.desc())
        .limit(1000)
    )
    return [
        Count(owner_id=owner_id, judged=judged, blocked=count, last_blocked_at=last)
        for owner_id, judged, count, last in rows
    ]
