"""What a person can do with generations; called alike by the API, the bot and the command line.

Each function runs inside the caller's transaction and sees only what the actor may see.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import bindparam, delete, select, text
from sqlalchemy.dialects.postgresql import JSONB

from tintype import errors
from tintype.accounts.actors import Actor
from tintype.catalog.operations import Catalogue, Model
from tintype.db.base import new_id, now
from tintype.db.session import ReadSession, WriteSession
from tintype.generations import (
    companions,
    edits,
    events,
    languages,
    leftovers,
    lineage,
    pictures,
    queries,
    screening,
    validation,
    videos,
)
from tintype.generations.lineage import Source
from tintype.generations.pictures import Picture
from tintype.generations.schemas import EditCreate, Request, UpscaleCreate, VideoCreate
from tintype.generations.states import is_final
from tintype.generations.tables import Generation
from tintype.generations.validation import Resolved
from tintype.media import files
from tintype.media import operations as media
from tintype.media.operations import Upload
from tintype.media.tables import Media
from tintype.queue import jobs

NOTHING: Mapping[str, Upload] = MappingProxyType({})


class GenerationUnknownError(errors.NotFoundError):
    """No generation with this id exists, or it is not yours."""

    code = "generation_unknown"


class GenerationAlreadyFinishedError(errors.ConflictError):
    """The generation has already finished; there is nothing to cancel."""

    code = "generation_already_finished"


class GenerationActiveError(errors.ConflictError):
    """The generation has not finished yet; cancel it first or wait."""

    code = "generation_active"


class GeneratedError(errors.ConflictError):
    """A generated picture goes with its generation; delete that."""

    code = "media_generated"


@dataclass(frozen=True, kw_only=True)
class InLine:
    """A generation that has just been put in line, and its place there."""

    generation: Generation
    place: int


async def create(
    session: WriteSession,
    actor: Actor,
    request: Request,
    catalogue: Catalogue,
    brought: Mapping[str, Upload] = NOTHING,
) -> InLine:
    """Accept a request: the row, its place in line and its first event, in one transaction.

    `brought` holds the uploads that stand for data URLs and links in the request, by that text.

    Raises:
        validation.InvalidGenerationError: the request breaks the model's limits.
        pictures.PictureUnknownError: it names pictures that are not the actor's.
        validation.SafetyDetectorMissingError: nothing here could look at its pictures, or at what comes of them.
        lineage.OnePersonError: two of its pictures are known to show people.
        safety.BlockedError: it asks for what is not made here.
        verdicts.PausedError: the actor asked for that too often of late.
    """
    inputs = await pictures.find(session, actor, request, catalogue, brought)
    resolved = _resolve(request, catalogue, inputs)
    generation_id = new_id()
    await _check(session, actor, resolved.model, resolved.parameters, catalogue, inputs)
    await lineage.write(session, generation_id, inputs)
    warned = languages.warnings(resolved.prompt, resolved.model.manifest)
    return await _put_in_line(
        session,
        actor,
        {
            "id": generation_id,
            "kind": "video" if isinstance(request, VideoCreate) else "image",
            "model": resolved.model.id,
            "style": resolved.style,
            "prompt": resolved.prompt,
            "parameters": {**resolved.parameters, "warnings": warned} if warned else resolved.parameters,
            "priority": request.priority,
            "retry_of": None,
        },
    )


def _resolve(request: Request, catalogue: Catalogue, inputs: Sequence[Picture]) -> Resolved:
    match request:
        case UpscaleCreate():
            return edits.resolve_upscale(request, catalogue, inputs)
        case EditCreate():
            return edits.resolve_edit(request, catalogue, inputs)
        case VideoCreate():
            return videos.resolve(request, catalogue, inputs)
        case _:
            return validation.resolve(request, catalogue, inputs)


async def _check(
    session: WriteSession,
    actor: Actor,
    model: Model,
    parameters: Mapping[str, Any],
    catalogue: Catalogue,
    inputs: Sequence[Picture],
) -> None:
    """What a request must pass before it may wait: its models, its pictures and its words."""
    models = [model, *(catalogue.get(name) for name in companions.ids_of(parameters))]
    sources: list[Source] = [(picture.role, picture.media) for picture in inputs]
    validation.check_safety(models, catalogue)
    validation.check_pictures_safety([(picture.place, picture.media) for picture in inputs], catalogue)
    lineage.check_one_person(models, sources, are_judged=False)
    await screening.let_through(session, actor, lineage.of(models, sources), parameters)


async def retry(session: WriteSession, actor: Actor, generation_id: uuid.UUID, catalogue: Catalogue) -> InLine:
    """Run a finished generation again, with the same parameters, pictures and seeds, as a new one that names the old.

    Raises:
        GenerationActiveError: it has not finished.
        UnknownModelError: its model is no longer installed.
        lineage.InputGoneError: a picture it was made from has been deleted.
        validation.SafetyDetectorMissingError, lineage.OnePersonError: as for a new one.
    """
    old = await get(session, actor, generation_id, lock=True)
    if not is_final(old.status):  # pyright: ignore[reportArgumentType]  the table's check constraint holds it
        raise GenerationActiveError
    inputs = await lineage.carried_over(session, actor, old.id)
    await _check(session, actor, catalogue.get(old.model), old.parameters, catalogue, inputs)
    same = {name: getattr(old, name) for name in ("kind", "model", "style", "prompt", "parameters", "priority")}
    new = {**same, "id": new_id(), "retry_of": old.id}
    await lineage.write(session, new["id"], inputs)
    return await _put_in_line(session, actor, new)


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

    Raises:
        lineage.MediaInUseError: another generation that has not finished draws from its pictures.
    """
    row = await _lock(session, actor, generation_id)  # or it could complete after its files were listed
    await lineage.check_not_in_use(session, await media.hold_of_generation(session, row.id))
    return await _remove(session, row)


async def remove_made_from(session: WriteSession, actor: Actor, media_ids: Sequence[uuid.UUID]) -> tuple[str, ...]:
    """Delete every generation that these pictures went into, however far back, running ones too; as `remove`."""
    keys: list[str] = []
    while made := await lineage.made_from(session, media_ids):  # one can begin while those before it are deleted
        for generation_id in made:
            row = await _lock(session, actor, generation_id)
            await media.hold_of_generation(session, row.id)
            keys += await _remove(session, row)
    return tuple(keys)


async def remove_whole(session: WriteSession, actor: Actor, generation_id: uuid.UUID) -> tuple[str, ...]:
    """Delete a generation as `remove`, and first everything that was made from its pictures; none is in use then."""
    row = await _lock(session, actor, generation_id)
    media_ids = await media.hold_of_generation(session, row.id)
    return (*await remove_made_from(session, actor, media_ids), *await _remove(session, row))


async def remove_upload(session: WriteSession, actor: Actor, media_id: uuid.UUID) -> tuple[str, ...]:
    """Delete an upload; the keys of its files, as `remove`.

    Raises:
        MediaUnknownError: there is none with this id.
        GeneratedError: it was made here, and goes with its generation.
        lineage.MediaInUseError: a generation that has not finished draws from it.
    """
    held = await media.hold(session, actor, [media_id])
    if not held:
        raise media.MediaUnknownError
    if held[0].generation_id is not None:
        raise GeneratedError(f"this picture goes with its generation; delete {held[0].generation_id}")
    await lineage.check_not_in_use(session, [media_id])
    return await media.drop_upload(session, held[0])


async def _remove(session: WriteSession, row: Generation) -> tuple[str, ...]:
    keys = await media.keys_of_generation(session, row.id)
    await files.doom(session, keys)
    if row.completed_at is None:
        await leftovers.doom(session, row.id, row.parameters, attempts=row.attempt)
    await session.execute(delete(Generation).where(Generation.id == row.id))
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
