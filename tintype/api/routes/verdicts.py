"""What safety checks decided: the log and its counts."""

import uuid
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from tintype.api import problems
from tintype.api.context import CurrentActor, Parts
from tintype.db import session as db
from tintype.generations import queries
from tintype.verdicts import operations as verdicts

router = APIRouter(prefix="/api/verdicts", tags=["safety"])


class VerdictRead(BaseModel):
    """One verdict; what was judged is named by its SHA-256 only."""

    id: uuid.UUID
    owner_id: uuid.UUID
    stage: str
    is_blocked: bool
    reasons: list[str]
    detectors: list[str]
    scores: dict[str, float]
    content_sha256: str
    generation_id: uuid.UUID | None
    created_at: datetime


class VerdictPage(BaseModel):
    """Verdicts, newest first."""

    items: list[VerdictRead]
    next_cursor: str | None = None


class CountRead(BaseModel):
    """How often somebody was judged and blocked."""

    owner_id: uuid.UUID
    judged: int
    blocked: int
    last_blocked_at: datetime | None


class CountPage(BaseModel):
    """Counts per owner, most blocked first; the first thousand."""

    items: list[CountRead]
    next_cursor: str | None = None


@router.get("", responses=problems.responses(403, 422, 503))
async def list_verdicts(
    context: Parts,
    actor: CurrentActor,
    owner: uuid.UUID | None = None,
    blocked: bool = False,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
) -> VerdictPage:
    """A page of verdicts: one's own, or everybody's for an administrator."""
    before = queries.parse_cursor(cursor) if cursor is not None else None
    async with db.reading(context.database) as session:
        rows = await verdicts.newest(
            session, actor, limit=limit + 1, before=before, owner_id=owner, only_blocked=blocked
        )
    items = [VerdictRead.model_validate(row, from_attributes=True) for row in rows[:limit]]
    return VerdictPage(items=items, next_cursor=queries.make_cursor(items[-1].id) if len(rows) > limit else None)


@router.get("/counts", responses=problems.responses(403, 503))
async def count_verdicts(context: Parts, actor: CurrentActor) -> CountPage:
    """How often each owner was judged and blocked; administrators only."""
    async with db.reading(context.database) as session:
        found = await verdicts.counts(session, actor)
    return CountPage(items=[CountRead.model_validate(each, from_attributes=True) for each in found])
