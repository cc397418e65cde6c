"""What a person can do with generations; called alike by the API, the bot and the command line.

Each function runs inside the caller's transaction and sees only what the actor may see.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, delete, select, text
from sqlalchemy.dialects.postgresql import JSONB

from tintype import errors
from tintype.accounts.actors import Actor
from tintype.catalog.operations import Catalogue
from tintype.db.base import new_id, now
from tintype.db.session import ReadSession, WriteSession
from tintype.generations import events, leftovers, queries, screening, validation
from tintype.generations.schemas import ImageCreate
from tintype.generations.states import is_final
from tintype.generations.tables import Generation
from tintype.media import files
from tintype.media import operations as media
from tintype.media.tables import Media
from tintype.queue import jobs


class GenerationUnknownError(errors.NotFoundError):
    """No generation with this id exists, or it is not yours."""

    code = "generation_unknown"


class GenerationAlreadyFinishedError(errors.ConflictError):
    """The generation has already finished; there is nothing to cancel."""

    code = "generation_already_finished"


class GenerationActiveError(errors.ConflictError):
    """The generation has not finished yet; cancel it first or wait."""

    code = "generation_active"


@dataclass(frozen=True, kw_only=True)
class InLine:
    """A generation that has just been put in line, and its place there."""

    generation: Generation
    place: int


async def create(session: WriteSession, actor: Actor, request: ImageCreate, catalogue: Catalogue) -> InLine:
    """Accept a request: the row, its place in line and its first event, in one transaction.

    Raises:
        validation.InvalidGenerationError: the request breaks the model's limits.
        safety.BlockedError: it asks for what is not made here.
        verdicts.PausedError: the actor asked for that too often of late.
    """
    resolved = validation.resolve(request, catalogue)
    await screening.let_through(session, actor, resolved.model, resolved.parameters)
    return await _put_in_line(
        session,
        actor,
        {
            "kind": "image",
            "model": resolved.model.id,
            "style": resolved.style,
            "prompt": resolved.prompt,
            "parameters": resolved.parameters,
            "priority": request.priority,
            "retry_of": None,
        },
    )


async def retry(session: WriteSession, actor: Actor, generation_id: uuid.UUID, catalogue: Catalogue) -> InLine:
    """Run a finished generation again, with the same parameters and seeds, as a new one that names the old.

    Raises:
        GenerationActiveError: it has not finished.
        UnknownModelError: its model is no longer installed.
        validation.SafetyDetectorMissingError: its model can draw people.
    """
    old = await get(session, actor, generation_id, lock=True)
    if not is_final(old.status):  # pyright: ignore[reportArgumentType]  the table's check constraint holds it
        raise GenerationActiveError
    model = catalogue.get(old.model)
    validation.check_safety(model, catalogue)
    await screening.let_through(session, actor, model, old.parameters)
    same = {name: getattr(old, name) for name in ("kind", "model", "style", "prompt", "parameters", "priority")}
    return await _put_in_line(session, actor, {**same, "retry_of": old.id})


ACCEPT = text(
    f"""
    WITH waiting AS (
        INSERT INTO generations SELECT * FROM jsonb_populate_record(NULL::generations, :row)
        RETURNING id, owner_id, model, priority
    ),
    placed AS (SELECT id, owner_id, ({queries.PLACE}) AS place FROM waiting),
    published AS MATERIALIZED (
        SELECT publish_events(id, owner_id, jsonb_build_array(
            jsonb_build_object('type', 'queued', 'data', jsonb_build_object('position', place))
        )) FROM placed
    )
    SELECT place FROM placed, published
    """  # noqa: S608  no value is in it
).bindparams(bindparam("row", type_=JSONB))


async def _put_in_line(session: WriteSession, actor: Actor, asked: dict[str, Any]) -> InLine:
    values: dict[str, Any] = {
        **asked,
        "id": new_id(),
        "owner_id": actor.id,
        "status": "queued",
        "priority": min(asked["priority"], actor.max_priority),
        "attempt": 0,
        "failures": 0,
        "cost_usd": 0.0,
        "created_at": now(),
    }
    generation = Generation(**values)
    lane = jobs.lane(generation.parameters["task"], generation.model)
    await jobs.enqueue(session, lane=lane, generation_id=generation.id, priority=generation.priority)
    place = (
        await session.execute(ACCEPT, {"row": values, "most": queries.POSITION_LIMIT - 1})
    ).scalar_one()  # last, because it takes the events' lock
    return InLine(generation=generation, place=place)


async def get(
    session: ReadSession | WriteSession, actor: Actor, generation_id: uuid.UUID, *, lock: bool = False
) -> Generation:
    """One generation of the actor's; with `lock` it cannot be deleted before the transaction ends.

    Raises:
        GenerationUnknownError: there is none with this id.
    """
    query = select(Generation).where(Generation.id == generation_id, Generation.owner_id == actor.id)
    if lock:
        query = query.with_for_update(read=True, key_share=True)
    row = (await session.execute(query)).scalar_one_or_none()
    if row is None:
        raise GenerationUnknownError
    return row


async def media_of(
    session: ReadSession | WriteSession, generations: Sequence[Generation]
) -> dict[uuid.UUID, list[Media]]:
    """The pictures of each of `generations`, in order."""
    found: dict[uuid.UUID, list[Media]] = {generation.id: [] for generation in generations}
    finished = [generation.id for generation in generations if generation.status == "completed"]
    if finished:
        rows = await session.execute(
            select(Media).where(Media.generation_id.in_(finished)).order_by(Media.generation_id, Media.index)
        )
        for row in rows.scalars():
            assert row.generation_id is not None
            found[row.generation_id].append(row)
    return found


async def cancel(session: WriteSession, actor: Actor, generation_id: uuid.UUID) -> Generation:
    """Cancel a waiting generation at once, or ask the worker that runs it to stop within one step.

    Cancelling what is already cancelled changes nothing.

    Raises:
        GenerationAlreadyFinishedError: it completed or failed.
    """
    row = await _lock(session, actor, generation_id)
    if row.status in ("completed", "failed"):
        raise GenerationAlreadyFinishedError(f"the generation has already {row.status}; there is nothing to cancel")
    if row.status == "queued":
        row.status = "cancelled"
        row.cancel_requested_at = row.completed_at = now()
        await session.flush()
        await leftovers.doom(session, row.id, row.parameters, attempts=row.attempt)
        await events.publish(session, generation_id=row.id, owner_id=row.owner_id, events=[("cancelled", {})])
    elif row.status == "processing" and row.cancel_requested_at is None:
        row.cancel_requested_at = now()
        await session.flush()
        await events.announce_cancel(session, row.id)
    return row


async def _lock(session: WriteSession, actor: Actor, generation_id: uuid.UUID) -> Generation:
    mine = (Generation.id == generation_id, Generation.owner_id == actor.id)
    row = (await session.execute(select(Generation).where(*mine).with_for_update())).scalar_one_or_none()
    if row is None:
        raise GenerationUnknownError
    return row


async def remove(session: WriteSession, actor: Actor, generation_id: uuid.UUID) -> tuple[str, ...]:
    """Delete a generation, its events and its pictures; a running one is stopped. One event, `deleted`, stays.

    Returns the storage keys that nothing names any more: delete those files right after the commit, so that they are
    gone when the person hears of it. They are doomed as well, for when that fails.
    """
    row = await _lock(session, actor, generation_id)  # or it could complete after its files were listed
    keys = await media.keys_of_generation(session, row.id)
    await files.doom(session, keys)
    if row.completed_at is None:
        await leftovers.doom(session, row.id, row.parameters, attempts=row.attempt)
    await session.execute(delete(Generation).where(Generation.id == row.id, Generation.owner_id == actor.id))
    await session.execute(delete(events.Event).where(events.Event.generation_id == row.id))
    await events.announce_cancel(session, row.id)
    await events.publish(session, generation_id=row.id, owner_id=row.owner_id, events=[("deleted", {})])
    return keys


async def forget_old_events(session: WriteSession, *, older_than: timedelta) -> None:
    """Drop the events of generations that ended or were deleted before `older_than` ago; the rows themselves stay."""
    ended = select(Generation.id).where(Generation.completed_at < now() - older_than)
    await session.execute(delete(events.Event).where(events.Event.generation_id.in_(ended)))
    was_deleted = (events.Event.type == "deleted", events.Event.created_at < now() - older_than)
    await session.execute(delete(events.Event).where(*was_deleted))
