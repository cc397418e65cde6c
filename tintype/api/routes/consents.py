"""Consents: who agreed to the use of which pictures; taking one back deletes what was made from them."""

import uuid
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from tintype.api import deleting, problems
from tintype.api.context import CurrentActor, Parts
from tintype.api.writes import write
from tintype.consents import operations as consents
from tintype.db import session as db
from tintype.db.session import WriteSession
from tintype.generations import queries
from tintype.generations.schemas import Prompt, Wire

router = APIRouter(prefix="/api/consents", tags=["safety"])


class ConsentCreate(Wire):
    """A statement that a person agrees to the use of their pictures."""

    stated_by: Annotated[Prompt, Field(max_length=200, description="Who agrees.")]
    statement: Annotated[Prompt, Field(max_length=5000, description="To what, in their words.")]
    media: tuple[uuid.UUID, ...] = Field(min_length=1, max_length=1000, description="Pictures of yours.")


class ConsentRead(BaseModel):
    """A consent on record."""

    id: uuid.UUID
    owner_id: uuid.UUID
    stated_by: str
    statement: str
    media: list[uuid.UUID]
    created_at: datetime


class ConsentPage(BaseModel):
    """Consents, newest first."""

    items: list[ConsentRead]
    next_cursor: str | None = None


@router.post("", status_code=201, response_model=ConsentRead, responses=problems.responses(422, 503))
async def state_consent(request: Request, body: ConsentCreate, context: Parts, actor: CurrentActor) -> Response:
    """Put on record who agreed to the use of which pictures."""

    async def work(session: WriteSession) -> ConsentRead:
        stated = await consents.state(
            session, actor, stated_by=body.stated_by, statement=body.statement, media_ids=body.media
        )
        return ConsentRead.model_validate(stated, from_attributes=True)

    return await write(request, context, actor, work, status=201)


@router.get("", responses=problems.responses(422, 503))
async def list_consents(
    context: Parts,
    actor: CurrentActor,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
) -> ConsentPage:
    """A page of consents: one's own, or everybody's for an administrator."""
    before = queries.parse_cursor(cursor) if cursor is not None else None
    async with db.reading(context.database) as session:
        rows = await consents.newest(session, actor, limit=limit + 1, before=before)
    items = [ConsentRead.model_validate(row, from_attributes=True) for row in rows[:limit]]
    return ConsentPage(items=items, next_cursor=queries.make_cursor(items[-1].id) if len(rows) > limit else None)


@router.delete("/{consent_id}", status_code=204, responses=problems.responses(404, 422, 503))
async def revoke_consent(request: Request, consent_id: uuid.UUID, context: Parts, actor: CurrentActor) -> Response:
    """Take a consent back: its pictures and everything that was made from them are deleted."""
    return await deleting.write_and_delete(
        request, context, actor, lambda session: consents.revoke(session, actor, consent_id)
    )
