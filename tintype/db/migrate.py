"""Bringing the schema up to date, once at a time across all processes and machines."""

from collections.abc import Callable
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tintype import errors, logs
from tintype.db import session as db

LOCK = 7_305_100_400
LEAST_SERVER_VERSION = 150_000


class ServerTooOldError(errors.SetupError):
    """PostgreSQL 15 or newer is needed."""

    code = "postgres_too_old"


class DatabaseUnusableError(errors.SetupError):
    """The database cannot be reached or does not let us in."""

    code = "database_unusable"


def config() -> Config:
    """Alembic's configuration; the package holds the scripts."""
    alembic = Config()
    alembic.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    alembic.set_main_option("path_separator", "os")
    return alembic


def head() -> str | None:
    """The newest revision this version knows."""
    return ScriptDirectory.from_config(config()).get_current_head()


async def upgrade(url: str) -> None:
    """Run what is missing; others that start at the same time wait.

    Raises:
        ServerTooOldError: the server is older than PostgreSQL 15.
    """
    await _on_connection(url, _upgrade)


async def current(url: str) -> str | None:
    """The revision the database is at, None when it is empty."""
    found: list[str | None] = []
    await _on_connection(
        url, lambda connection: found.append(MigrationContext.configure(connection).get_current_revision())
    )
    return found[0]


async def _on_connection(url: str, act: Callable[[Connection], None]) -> None:
    engine = create_async_engine(
        db.sqlalchemy_url(url), poolclass=NullPool, hide_parameters=True, connect_args={"timeout": 10}
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(act)
            await connection.commit()
    except (OSError, DBAPIError, asyncpg.PostgresError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        where = f"{engine.url.host}:{engine.url.port or 5432}/{engine.url.database}"
        raise DatabaseUnusableError(
            f"the database at {where} cannot be used ({logs.redact_text(reason)}); start it, or correct DATABASE_URL"
        ) from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    version = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    if version < LEAST_SERVER_VERSION:
        raise ServerTooOldError(f"PostgreSQL 15 or newer is needed; this server is {version // 10_000}")
    connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
    connection.commit()
    try:
        alembic = config()
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, "head")
        connection.commit()
    finally:
        connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
        connection.commit()
