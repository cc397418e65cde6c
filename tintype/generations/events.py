"""Events: what happened to a generation, written with the change itself and announced when it commits.

Event ids are assigned under a transaction-level lock taken just before the commit. PostgreSQL already lets one
notifying transaction commit at a time, so the lock costs little, and it makes ids grow in commit order: a reader that
asks for what came after the last id it saw can miss nothing.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ARRAY, BigInteger, Text, bindparam, select, text
from sqlalchemy.dialects.postgresql import JSONB, UUID

from tintype.db.session import ReadSession, WriteSession
from tintype.generations.states import EventType
from tintype.generations.tables import Event

EVENTS_CHANNEL = "tintype_events"
PROGRESS_CHANNEL = "tintype_progress"
CANCEL_CHANNEL = "tintype_cancel"
CHANNELS = (EVENTS_CHANNEL, PROGRESS_CHANNEL)


@dataclass(frozen=True, kw_only=True)
class Happening:
    """An event as readers get it; `id` is None for progress, which is not kept."""

    id: int | None
    generation_id: uuid.UUID
    owner_id: uuid.UUID
    type: EventType
    data: dict[str, Any]


PUBLISH = text("SELECT publish_events(:generation_id, :owner_id, :items)").bindparams(
    bindparam("generation_id", type_=UUID()),
    bindparam("owner_id", type_=UUID()),
    bindparam("items", type_=JSONB),
)
"""The function of the database, made by a migration, that writes and announces events; other statements call it too."""


async def publish(
    session: WriteSession,
    *,
    generation_id: uuid.UUID,
    owner_id: uuid.UUID,
    events: Sequence[tuple[EventType, dict[str, Any]]],
) -> None:
    """Write `events` in order and announce them; call it last in a transaction, because it takes the events' lock."""
    await session.flush()
    await session.execute(
        PUBLISH,
        {
            "generation_id": generation_id,
            "owner_id": owner_id,
            "items": items(events),
        },
    )


def items(events: Sequence[tuple[EventType, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Events as `publish_events` takes them."""
    return [{"type": kind, "data": data} for kind, data in events]


ANNOUNCE = text("SELECT pg_notify(:channel, :payload)")


ANNOUNCE_ALL = text("SELECT pg_notify(:channel, payload) FROM unnest(:payloads) AS payload").bindparams(
    bindparam("payloads", type_=ARRAY(Text()))
)


@dataclass(frozen=True, kw_only=True)
class ProgressNote:
    """How far one generation is."""

    generation_id: uuid.UUID
    owner_id: uuid.UUID
    data: dict[str, Any]


async def announce_progress(session: WriteSession, notes: Sequence[ProgressNote]) -> None:
    """Tell whoever watches now; progress is not kept."""
    payloads = [
        orjson.dumps(
            {
                "generation_id": str(note.generation_id),
                "owner_id": str(note.owner_id),
                "type": "progress",
                "data": note.data,
            }
        ).decode()
        for note in notes
    ]
    await session.execute(ANNOUNCE_ALL, {"channel": PROGRESS_CHANNEL, "payloads": payloads})


async def announce_cancel(session: WriteSession, generation_id: uuid.UUID) -> None:
    """Tell the worker that runs this generation to stop."""
    await session.execute(ANNOUNCE, {"channel": CANCEL_CHANNEL, "payload": str(generation_id)})


def parse(payload: str) -> Happening | None:
    """The event in a notification, None when it was too large to send and has to be read from the table."""
    value = orjson.loads(payload)
    if "type" not in value:
        return None
    return Happening(
        id=value.get("id"),
        generation_id=uuid.UUID(value["generation_id"]),
        owner_id=uuid.UUID(value["owner_id"]),
        type=value["type"],
        data=value["data"],
    )


async def after(
    session: ReadSession,
    last_id: int,
    *,
    owner_id: uuid.UUID,
    generation_id: uuid.UUID | None = None,
    limit: int = 1000,
) -> list[Happening]:
    """The owner's events after `last_id`, oldest first, at most `limit`; of one generation where it is given."""
    query = select(Event).where(
        Event.id > bindparam("last_id", last_id, type_=BigInteger()), Event.owner_id == owner_id
    )
    if generation_id is not None:
        query = query.where(Event.generation_id == generation_id)
    rows = (await session.execute(query.order_by(Event.id).limit(limit))).scalars()
    return [_happening(row) for row in rows]


async def newest_id(session: ReadSession) -> int:
    """The id of the latest event, 0 when there is none."""
    return (await session.execute(select(Event.id).order_by(Event.id.desc()).limit(1))).scalar_one_or_none() or 0


def _happening(row: Event) -> Happening:
    return Happening(
        id=row.id,
        generation_id=row.generation_id,
        owner_id=row.owner_id,
        type=row.type,  # pyright: ignore[reportArgumentType]  only `publish` writes it
        data=row.data,
    )
