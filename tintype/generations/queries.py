"""Pages of generations: filters and the cursor; places in line."""

import base64
import binascii
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, Integer, Text, bindparam, select, text
from sqlalchemy.dialects.postgresql import UUID

from tintype import errors
from tintype.accounts.actors import Actor
from tintype.db.session import ReadSession, WriteSession
from tintype.generations.states import Status
from tintype.generations.tables import Generation

POSITION_LIMIT = 1000
"""Places in line are counted up to here; beyond it the exact number tells nobody anything."""


class CursorInvalidError(errors.InvalidRequestError):
    """The cursor is not one this server gave out; start without one."""

    code = "cursor_invalid"


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What a page shows; None asks for everything. `q` is looked for in the prompt, ignoring case."""

    status: Status | None = None
    kind: str | None = None
    model: str | None = None
    style: str | None = None
    q: str | None = None
    owner: uuid.UUID | None = None


async def page(
    session: ReadSession, actor: Actor, wanted: Filter, *, limit: int, cursor: str | None
) -> tuple[Sequence[Generation], str | None]:
    """The actor's generations, newest first, and the cursor of the next page (None on the last)."""
    query = select(Generation).where(Generation.owner_id == actor.id)
    for column, value in (
        (Generation.status, wanted.status),
        (Generation.kind, wanted.kind),
        (Generation.model, wanted.model),
        (Generation.style, wanted.style),
        (Generation.owner_id, wanted.owner),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.q:
        query = query.where(Generation.prompt.icontains(wanted.q, autoescape=True))
    if cursor is not None:
        query = query.where(Generation.id < parse_cursor(cursor))
    rows = (await session.execute(query.order_by(Generation.id.desc()).limit(limit + 1))).scalars().all()
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], make_cursor(rows[limit - 1].id)


def make_cursor(last: uuid.UUID) -> str:
    """The cursor that continues after `last`."""
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def parse_cursor(cursor: str) -> uuid.UUID:
    """The id a cursor stands for.

    Raises:
        CursorInvalidError: it is not one of ours.
    """
    try:
        return uuid.UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except (ValueError, binascii.Error) as error:
        raise CursorInvalidError from error


PLACE = """
    SELECT 1 + count(*) AS place FROM (
        (SELECT FROM generations g WHERE g.status = 'queued' AND g.model = waiting.model
            AND g.priority > waiting.priority LIMIT :most)
        UNION ALL
        (SELECT FROM generations g WHERE g.status = 'queued' AND g.model = waiting.model
            AND g.priority = waiting.priority AND g.id < waiting.id LIMIT :most)
        LIMIT :most
    ) AS ahead
"""
"""The place in line of the row `waiting` of the statement around it; 1 runs next among those for the same model.

Each half reads one range of the index `ix_generations_active` and stops at the limit, however long the line is:
`most` is `POSITION_LIMIT` - 1.
"""

POSITIONS = text(
    f"SELECT id, ({PLACE}) AS place FROM unnest(:ids, :models, :priorities) AS waiting (id, model, priority)"  # noqa: S608  no value is in it
).bindparams(
    bindparam("ids", type_=ARRAY(UUID())),
    bindparam("models", type_=ARRAY(Text())),
    bindparam("priorities", type_=ARRAY(Integer())),
)


async def positions(session: ReadSession | WriteSession, rows: Sequence[Generation]) -> dict[uuid.UUID, int]:
    """The place in line of each of `rows` that waits, in one query, counted up to `POSITION_LIMIT`."""
    waiting = [row for row in rows if row.status == "queued"]
    if not waiting:
        return {}
    wanted = {
        "ids": [row.id for row in waiting],
        "models": [row.model for row in waiting],
        "priorities": [row.priority for row in waiting],
        "most": POSITION_LIMIT - 1,
    }
    return {row.id: row.place for row in await session.execute(POSITIONS, wanted)}
