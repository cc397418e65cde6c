"""What the migrations build is what the tables declare, on both kinds of PostgreSQL."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from tintype.consents.tables import Consent, ConsentMedia
from tintype.db import migrate
from tintype.db import session as db
from tintype.db.base import Base
from tintype.db.idempotency import IdempotentAnswer
from tintype.generations.tables import DoomedWork, Event, Generation, GenerationInput
from tintype.media.tables import DoomedFile, Media
from tintype.verdicts.tables import Verdict
from tintype.worker.tables import Worker

TABLES = (
    Consent,
    ConsentMedia,
    DoomedFile,
    DoomedWork,
    Event,
    Generation,
    GenerationInput,
    IdempotentAnswer,
    Media,
    Verdict,
    Worker,
)


def is_ours(_object: object, name: str | None, kind: str, *_: object) -> bool:
    return not (kind == "table" and name is not None and name.startswith("pgqueuer"))


async def differences(database: db.Database) -> list[object]:
    found: list[object] = []

    def compare(connection: Connection) -> None:
        options = {"include_object": is_ours, "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        found.extend(compare_metadata(context, Base.metadata))

    async with database.engine.connect() as connection:
        await connection.run_sync(compare)
    return found


async def test_migrations_and_tables_agree(database: db.Database):
    assert await differences(database) == []


async def test_a_difference_would_be_found(database: db.Database):
    async with db.transaction(database) as session:
        await session.execute(text("ALTER TABLE media DROP COLUMN sha256"))
        await session.execute(text("DROP INDEX ix_generations_active"))
    assert len(await differences(database)) == 2


async def test_migrating_twice_changes_nothing(database: db.Database):
    await migrate.upgrade(database.url)
    assert await migrate.current(database.url) == migrate.head()


async def test_all_tables_are_known_to_this_test():
    assert set(Base.metadata.tables) == {table.__tablename__ for table in TABLES}


@pytest.mark.parametrize("constraint", ["ck_generations_status", "ck_generations_end", "ck_media_source"])
async def test_check_constraints_exist(database: db.Database, constraint: str):
    async with db.reading(database) as session:
        query = text("SELECT count(*) FROM pg_constraint WHERE conname = :name")
        assert (await session.execute(query, {"name": constraint})).scalar_one() == 1
