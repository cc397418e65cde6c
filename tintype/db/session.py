"""Sessions and transactions. This is the only module that commits.

One request or one step of a job is one `transaction`. `reading` gives a session type of its own whose transaction is
READ ONLY, so that a write in a read path fails in the type checker and in the database.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
import orjson
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from tintype import errors, logs

log = logs.get("db")

RETRY_FOR_S = 30.0
"""How long work is repeated while the database is away: longer than a restart of PostgreSQL takes."""


class DatabaseAwayError(errors.UnavailableError):
    """The database cannot be reached right now; try again in a moment."""

    code = "database_unavailable"


class ReadSession(AsyncSession):
    """A session that only reads."""


class WriteSession(AsyncSession):
    """A session inside one transaction that is committed when its block ends."""


@dataclass(frozen=True, kw_only=True)
class Database:
    """A pool of connections and the kinds of sessions over it."""

    url: str
    engine: AsyncEngine
    writers: async_sessionmaker[WriteSession]
    single_writers: async_sessionmaker[WriteSession]
    readers: async_sessionmaker[ReadSession]


def connect(url: str, *, pool_size: int = 10) -> Database:
    """Make the pool; connections open when first needed. `url` is `postgresql://…`, any driver suffix ignored."""
    engine = create_async_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        hide_parameters=True,  # prompts have no place in logs
        json_serializer=lambda value: orjson.dumps(value, default=str).decode(),  # asyncpg has a UUID of its own
        json_deserializer=orjson.loads,
        connect_args={"timeout": 10, "server_settings": {"jit": "off", "application_name": "tintype"}},
    )
    reading_engine = engine.execution_options(postgresql_readonly=True)
    single_engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    return Database(
        url=plain_url(url),
        engine=engine,
        writers=async_sessionmaker(engine, class_=WriteSession, expire_on_commit=False),
        single_writers=async_sessionmaker(single_engine, class_=WriteSession, expire_on_commit=False),
        readers=async_sessionmaker(reading_engine, class_=ReadSession, expire_on_commit=False),
    )


def sqlalchemy_url(url: str) -> str:
    """`url` with the asyncpg driver named."""
    return "postgresql+asyncpg://" + plain_url(url).removeprefix("postgresql://")


def plain_url(url: str) -> str:
    """`url` as `postgresql://…` whatever driver or short form it named."""
    _, _, rest = url.partition("://")
    return "postgresql://" + rest


NOTES = "notes"
Note = Callable[[WriteSession], Awaitable[None]]


@asynccontextmanager
async def transaction(database: Database) -> AsyncGenerator[WriteSession]:
    """One transaction: committed when the block ends, rolled back when it raises."""
    async with database.writers() as session:
        try:
            async with session.begin():
                yield session
        except BaseException:
            notes: list[Note] = session.info.pop(NOTES, [])
            if notes:
                async with transaction(database) as later:
                    for note in notes:
                        await note(later)
            raise


@asynccontextmanager
async def single(database: Database) -> AsyncGenerator[WriteSession]:
    """A statement that is a transaction of its own: PostgreSQL commits it, so no BEGIN and COMMIT travel with it."""
    async with database.single_writers() as session:
        yield session


def note_on_rollback(session: WriteSession, note: Note) -> None:
    """Write something down although, and only if, this transaction is rolled back: in one of its own, afterwards."""
    session.info.setdefault(NOTES, []).append(note)


@asynccontextmanager
async def reading(database: Database) -> AsyncGenerator[ReadSession]:
    """One read-only transaction."""
    async with database.readers() as session:
        yield session


T = TypeVar("T")


async def persistently(
    database: Database,
    work: Callable[[WriteSession], Awaitable[T]],
    *,
    within: Callable[[Database], AbstractAsyncContextManager[WriteSession]] = transaction,
    retry_for_s: float = RETRY_FOR_S,
) -> T:
    """Run `work` in one `transaction`, or `within` a `single` one, again while the database cannot be reached.

    When the connection is lost during COMMIT nobody knows whether it happened: `work` must give the same end when it
    runs a second time (every write of a worker does, because it is fenced by the attempt).

    Raises:
        DatabaseAwayError: it stayed away; whether the last COMMIT happened is not known.
    """
    deadline = asyncio.get_running_loop().time() + retry_for_s
    delay_s = 0.1
    while True:
        try:
            async with within(database) as session:
                return await work(session)
        except (DBAPIError, PoolTimeoutError, OSError, TimeoutError) as error:
            if not is_disconnect(error):
                raise
            if asyncio.get_running_loop().time() > deadline:
                raise DatabaseAwayError from error
            log.warning("database away, trying again", error=str(error)[:200], delay_s=delay_s)
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, 1.0)


CONNECTION_FAULTS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a statement on a connection that ended in the middle of the one before
)
"""What a connection of asyncpg's own raises when it ends or cannot be made."""

DISCONNECT_STATES = frozenset({"57P01", "57P02", "57P03", "08000", "08001", "08003", "08004", "08006", "53300"})


def is_disconnect(error: BaseException) -> bool:
    """Whether the database was away or went away, so that trying again can help."""
    if isinstance(error, OSError | TimeoutError | InterfaceError | PoolTimeoutError | DatabaseAwayError):
        return True
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        cause = getattr(error.orig, "__cause__", None)
        return error.connection_invalidated or state in DISCONNECT_STATES or isinstance(cause, OSError)
    return False


async def close(database: Database) -> None:
    """Close every connection."""
    await database.engine.dispose()
