"""Putting a generation in line, inside the caller's transaction."""

import uuid
from datetime import timedelta
from typing import cast

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.queries import Queries
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession


def lane(task: str, model_id: str) -> str:
    """The line a job waits in: one per task and model, so that a worker takes only what it can serve."""
    return f"{task}:{model_id}"


def model_of(lane: str) -> str:
    """The model a lane is for."""
    return lane.partition(":")[2]


async def enqueue(
    session: AsyncSession, *, lane: str, generation_id: uuid.UUID, priority: int = 0, delay_s: float = 0.0
) -> None:
    """Add a job for `generation_id`, committed or rolled back with the session's transaction.

    Higher `priority` runs first. A generation that is already in line is left where it is.
    """
    await session.flush()
    connection = await session.connection()
    driver_connection = await _driver_connection(connection)
    if not driver_connection.is_in_transaction():
        await connection.exec_driver_sql("SELECT 1")  # SQLAlchemy begins with the first statement of its own
    if not driver_connection.is_in_transaction():
        raise RuntimeError("a job is enqueued only inside a transaction")
    await Queries(AsyncpgDriver(driver_connection)).enqueue(
        [lane],
        [generation_id.bytes],
        [priority],
        execute_after=[timedelta(seconds=delay_s)],
        dedupe_key=[str(generation_id)],
        on_conflict="skip",
    )


OUTRANKED = text(
    """
    SELECT EXISTS (
        SELECT FROM pgqueuer other JOIN pgqueuer mine ON other.entrypoint = mine.entrypoint
        WHERE mine.dedupe_key = :key AND mine.entrypoint = :lane AND mine.status = 'picked'
          AND other.status = 'queued' AND other.priority > mine.priority AND other.execute_after < now()
    )
    """
)


async def is_outranked(session: AsyncSession, *, lane: str, generation_id: uuid.UUID) -> bool:
    """Whether a job of higher priority waits in `lane` while the one for this generation is already handed out."""
    return bool((await session.execute(OUTRANKED, {"key": str(generation_id), "lane": lane})).scalar_one())


async def waiting(session: AsyncSession) -> dict[str, int]:
    """How many jobs wait in each lane."""
    driver_connection = await _driver_connection(await session.connection())
    sizes = await Queries(AsyncpgDriver(driver_connection)).queue_size()
    counts: dict[str, int] = {}
    for size in sizes:
        if size.status == "queued":
            counts[size.entrypoint] = counts.get(size.entrypoint, 0) + size.count
    return counts


FORGET_LOG = text("DELETE FROM pgqueuer_log WHERE aggregated AND created < now() - interval '1 day'")


async def forget_old_log(session: AsyncSession) -> None:
    """Drop what PgQueuer noted of jobs more than a day ago and has added up in its statistics."""
    await session.execute(FORGET_LOG)


async def _driver_connection(connection: AsyncConnection) -> asyncpg.Connection:
    raw = await connection.get_raw_connection()
    return cast("asyncpg.Connection", raw.driver_connection)
