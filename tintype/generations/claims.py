"""A worker's hold on a generation: claim, heartbeat, finish, give back.

The queue delivers "look at generation X" at least once and fences nothing, so everything a worker writes names the
attempt it was given: a worker that was stopped and continued finds that its attempt is over and changes nothing.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ARRAY, Integer, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, UUID

from tintype.db.base import now
from tintype.db.session import WriteSession
from tintype.generations import events, leftovers
from tintype.generations.leftovers import Work
from tintype.generations.states import EventType
from tintype.generations.tables import Generation
from tintype.media import files
from tintype.media.tables import Media
from tintype.queue import jobs
from tintype.verdicts import operations as verdicts
from tintype.verdicts.operations import Judged


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to work on a generation, as long as no later attempt exists."""

    id: uuid.UUID
    owner_id: uuid.UUID
    attempt: int
    failures: int
    model: str
    style: str | None
    prompt: str
    parameters: dict[str, Any]
    checkpoint: str | None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """After which silence a worker counts as dead, though never for the time in which PostgreSQL itself was away; and
    how often a generation is run in all."""

    dead_after_s: float
    max_attempts: int


@dataclass(frozen=True, kw_only=True)
class Busy:
    """Another worker holds it and is alive; ask again in `retry_in_s`."""

    retry_in_s: float


@dataclass(frozen=True, kw_only=True)
class NothingToDo:
    """It is finished, cancelled or deleted."""


class SupersededError(Exception):
    """This attempt is over: the generation was taken over, given up or deleted."""


class LastRunError(Exception):
    """Its worker has died every time so far: its last run is to be the only such run of its worker."""


class CancelledError(Exception):
    """The user cancelled this generation while it ran."""


CLAIM = text(
    """
    WITH claimed AS (
        UPDATE generations SET
            failures = failures + (status = 'processing')::int,
            status = 'processing',
            attempt = attempt + 1,
            worker_id = :worker_id,
            heartbeat_at = clock_timestamp(),
            started_at = coalesce(started_at, clock_timestamp()),
            progress = NULL
        WHERE id = :id AND cancel_requested_at IS NULL AND failures + (status = 'processing')::int < :max_attempts
          AND (status = 'queued'
               OR (status = 'processing'
                   AND greatest(heartbeat_at, pg_postmaster_start_time())
                       < clock_timestamp() - make_interval(secs => :dead_after_s)
                   AND (:is_alone OR failures + 2 < :max_attempts)))
        RETURNING id, owner_id, attempt, failures, model, style, prompt, parameters, checkpoint
    ),
    started AS (
        SELECT id, jsonb_build_object('type', 'started', 'data', jsonb_build_object('attempt', attempt)) AS event
        FROM claimed
    ),
    published AS MATERIALIZED (
        SELECT publish_events(id, owner_id, jsonb_build_array(event)) FROM claimed JOIN started USING (id)
    )
    SELECT id, owner_id, attempt, failures, model, style, prompt, parameters, checkpoint FROM claimed, published
    """
).columns(id=UUID(), owner_id=UUID(), parameters=JSONB())


async def claim(
    session: WriteSession,
    generation_id: uuid.UUID,
    *,
    worker_id: uuid.UUID,
    limits: Limits,
    is_alone: bool,
) -> Claim | None:
    """Take the generation, in one statement; when it cannot be taken, `why_not` says what to do instead.

    `is_alone` says that no other run of this worker is the last one after deaths, so that a job that kills does not
    take others along.
    """
    row = (
        await session.execute(
            CLAIM,
            {
                "id": generation_id,
                "worker_id": worker_id,
                "dead_after_s": limits.dead_after_s,
                "max_attempts": limits.max_attempts,
                "is_alone": is_alone,
            },
        )
    ).one_or_none()
    return None if row is None else Claim(**row._mapping)  # pyright: ignore[reportPrivateUsage]  a public, documented name of SQLAlchemy


async def why_not(
    session: WriteSession, generation_id: uuid.UUID, *, limits: Limits, is_alone: bool = False
) -> Busy | NothingToDo:
    """Why the generation could not be claimed; what nobody is to run any more is ended on the way.

    A generation whose worker fell silent too often fails instead of being run again.

    Raises:
        LastRunError: it may be taken only with `is_alone`.
    """
    dead_after_s, max_attempts = limits.dead_after_s, limits.max_attempts
    last_at = func.greatest(Generation.heartbeat_at, func.pg_postmaster_start_time())
    silent_s = func.extract("epoch", func.clock_timestamp() - last_at)
    found = (
        await session.execute(
            select(Generation, silent_s).where(Generation.id == generation_id).with_for_update(of=Generation)
        )
    ).one_or_none()
    if found is None or found[0].completed_at is not None:
        return NothingToDo()
    row, silence = found
    if row.status == "processing" and float(silence) < dead_after_s:
        return Busy(retry_in_s=dead_after_s - float(silence) + 0.05)
    if row.cancel_requested_at is not None:
        await _end(session, row, "cancelled", {})
    elif row.failures + (row.status == "processing") >= max_attempts:
        message = f"the worker died {max_attempts} times while working on this; it is not tried again"
        row.error_code, row.error_message = "worker_lost", message
        await _end(session, row, "failed", {"code": "worker_lost", "message": message})
    elif not is_alone and row.status == "processing" and row.failures + 2 >= max_attempts:
        raise LastRunError
    else:
        return Busy(retry_in_s=0.05)  # it came free between the two looks
    return NothingToDo()


async def holder(session: WriteSession, generation_id: uuid.UUID) -> uuid.UUID | None:
    """The worker that has the generation, alive or dead; None where none has."""
    found = select(Generation.worker_id).where(Generation.id == generation_id, Generation.status == "processing")
    return (await session.execute(found)).scalar_one_or_none()


async def _end(session: WriteSession, row: Generation, status: EventType, data: dict[str, Any]) -> None:
    row.status = status
    row.completed_at = now()
    await session.flush()
    await leftovers.doom(session, row.id, row.parameters, attempts=row.attempt)
    await events.publish(session, generation_id=row.id, owner_id=row.owner_id, events=[(status, data)])


HEARTBEAT = text(
    """
    UPDATE generations g SET heartbeat_at = clock_timestamp(), progress = coalesce(held.progress, g.progress)
    FROM unnest(:ids, :attempts, :progress) AS held (id, attempt, progress)
    WHERE g.id = held.id AND g.attempt = held.attempt AND g.status = 'processing'
    RETURNING g.id, g.cancel_requested_at IS NOT NULL AS is_cancelled
    """
).bindparams(
    bindparam("ids", type_=ARRAY(UUID())),
    bindparam("attempts", type_=ARRAY(Integer())),
    bindparam("progress", type_=ARRAY(JSONB(none_as_null=True))),
)


@dataclass(frozen=True, kw_only=True)
class Beat:
    """One held generation in a heartbeat, with the progress to show."""

    id: uuid.UUID
    attempt: int
    progress: dict[str, Any] | None


async def heartbeat(session: WriteSession, beats: Sequence[Beat]) -> dict[uuid.UUID, Literal["held", "cancelled"]]:
    """Say that the worker lives, for exactly the attempts it holds; what is missing in the answer is lost to it."""
    rows = await session.execute(
        HEARTBEAT,
        {
            "ids": [beat.id for beat in beats],
            "attempts": [beat.attempt for beat in beats],
            "progress": [beat.progress for beat in beats],
        },
    )
    return {row.id: "cancelled" if row.is_cancelled else "held" for row in rows}


COMPLETE = text(
    """
    WITH finished AS (
        UPDATE generations SET status = 'completed', completed_at = clock_timestamp(), cost_usd = :cost_usd,
                               checkpoint = NULL
        WHERE id = :id AND attempt = :attempt AND status = 'processing' AND cancel_requested_at IS NULL
        RETURNING id, owner_id
    ),
    added AS (
        INSERT INTO media SELECT picture.* FROM finished, jsonb_populate_recordset(NULL::media, :pictures) AS picture
    ),
    noted AS (
        INSERT INTO verdicts SELECT verdict.*
        FROM finished, jsonb_populate_recordset(NULL::verdicts, :judged) AS verdict
        ON CONFLICT DO NOTHING
    ),
    published AS MATERIALIZED (SELECT publish_events(id, owner_id, :events) FROM finished)
    SELECT finished.id FROM finished, published
    """
).bindparams(bindparam("pictures", type_=JSONB), bindparam("judged", type_=JSONB), bindparam("events", type_=JSONB))


async def complete(
    session: WriteSession, held: Claim, pictures: Sequence[Media], judged: Sequence[Judged] = (), *, cost_usd: float
) -> None:
    """Finish: the pictures' rows, what was judged of them, the status and the events, in one statement.

    Giving the same attempt twice is harmless: the second finds it completed.

    Raises:
        SupersededError: another attempt has begun, or the generation was deleted.
        CancelledError: the user cancelled first.
    """
    images: list[tuple[EventType, dict[str, Any]]] = [
        ("image", {"index": picture.index, "media_id": str(picture.id), "seed": picture.seed}) for picture in pictures
    ]
    last: tuple[EventType, dict[str, Any]] = (
        "completed",
        {"media_ids": [str(picture.id) for picture in pictures]},
    )
    finished = await session.execute(
        COMPLETE,
        {
            "id": held.id,
            "attempt": held.attempt,
            "cost_usd": cost_usd,
            "pictures": [_columns(picture) for picture in pictures],
            "judged": verdicts.rows(held.owner_id, judged, generation_id=held.id),
            "events": events.items([*images, last]),
        },
    )
    if finished.first() is None:
        await _explain(session, held, done="completed")
    elif held.attempt > 1:
        await files.doom_attempts(session, held.id, held.parameters, range(1, held.attempt))


def _columns(row: Media) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in Media.__table__.columns}


async def fail(session: WriteSession, held: Claim, *, code: str, message: str) -> None:
    """End this generation as failed; `message` says what the person can do.

    Raises:
        SupersededError: another attempt has begun.
    """
    changed = await _fenced_end(session, held, status="failed", error_code=code, error_message=message)
    if not changed:
        await _explain(session, held, done="failed")
        return
    await events.publish(
        session,
        generation_id=held.id,
        owner_id=held.owner_id,
        events=[("failed", {"code": code, "message": message})],
    )


async def acknowledge_cancel(session: WriteSession, held: Claim) -> None:
    """The work has stopped as the user asked."""
    if await _fenced_end(session, held, status="cancelled"):
        await events.publish(session, generation_id=held.id, owner_id=held.owner_id, events=[("cancelled", {})])


async def _fenced_end(session: WriteSession, held: Claim, **values: Any) -> bool:
    """Whether it was still this attempt's to end; what any attempt left behind is doomed then."""
    result = await session.execute(
        update(Generation)
        .where(Generation.id == held.id, Generation.attempt == held.attempt, Generation.status == "processing")
        .values(completed_at=now(), **values)
        .returning(Generation.id)
        .execution_options(synchronize_session=False)
    )
    if result.first() is None:
        return False
    await leftovers.doom(session, held.id, held.parameters, attempts=held.attempt)
    return True


async def _explain(session: WriteSession, held: Claim, *, done: str) -> None:
    row = await session.get(Generation, held.id, populate_existing=True)
    if row is not None and row.attempt == held.attempt:
        if row.status == done:
            return
        if row.status == "processing" and row.cancel_requested_at is not None:
            raise CancelledError
    raise SupersededError


async def give_back(session: WriteSession, held: Claim, *, counts_as_failure: bool) -> bool:
    """Put the generation back in line, unless it is no longer this attempt's; keeping the job is the caller's part."""
    result = await session.execute(
        update(Generation)
        .where(Generation.id == held.id, Generation.attempt == held.attempt, Generation.status == "processing")
        .values(
            status="queued",
            worker_id=None,
            heartbeat_at=None,
            progress=None,
            failures=Generation.failures + int(counts_as_failure),
        )
        .returning(Generation.id)
        .execution_options(synchronize_session=False)
    )
    if result.first() is None:
        return False
    await events.publish(session, generation_id=held.id, owner_id=held.owner_id, events=[("queued", {"position": 1})])
    return True


async def checkpoint(session: WriteSession, held: Claim, work: Work) -> bool:
    """Remember work that goes on elsewhere, before anything else happens.

    False when this attempt is over: then nobody waits for the work, and it is to be ended.
    """
    result = await session.execute(
        update(Generation)
        .where(Generation.id == held.id, Generation.attempt == held.attempt, Generation.status == "processing")
        .values(checkpoint=work.token, checkpoint_provider=work.provider)
        .returning(Generation.id)
        .execution_options(synchronize_session=False)
    )
    if result.first() is not None:
        return True
    await leftovers.doom_stray(session, work)
    return False


ORPHANS = text(
    """
    SELECT g.id, g.model, g.priority, g.parameters ->> 'task' AS task
    FROM generations g
    WHERE g.status IN ('queued', 'processing')
      AND (g.status = 'queued'
           OR greatest(g.heartbeat_at, pg_postmaster_start_time())
              < clock_timestamp() - make_interval(secs => :dead_after_s))
      AND NOT EXISTS (SELECT 1 FROM pgqueuer q WHERE q.dedupe_key = g.id::text AND q.status IN ('queued', 'picked'))
    ORDER BY g.id
    LIMIT 500
    """
).columns(id=UUID())


async def requeue_orphans(session: WriteSession, *, dead_after_s: float) -> int:
    """Put back in line what waits or runs according to its row but has neither a living worker nor a job.

    A zombie's last act can remove the job of the worker that took over from it; this closes that gap.
    """
    orphans = (await session.execute(ORPHANS, {"dead_after_s": dead_after_s})).all()
    for orphan in orphans:
        lane = jobs.lane(orphan.task, orphan.model)
        await jobs.enqueue(session, lane=lane, generation_id=orphan.id, priority=orphan.priority)
    return len(orphans)
