"""A job is in line exactly when its row is there."""

import json
import uuid
from contextlib import suppress

import pytest
from sqlalchemy import text

from tests.processes import SCRIPTED
from tintype.accounts.actors import local_owner
from tintype.catalog.operations import Catalogue
from tintype.db import session as db
from tintype.generations import operations
from tintype.generations.schemas import ImageCreate
from tintype.queue import jobs


@pytest.fixture
def catalogue(tmp_path) -> Catalogue:
    folder = tmp_path / "models" / "scripted"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(SCRIPTED))
    return Catalogue(tmp_path)


async def counts(database) -> dict[str, int]:
    async with db.reading(database) as session:
        return {
            table: (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
            for table in ("generations", "pgqueuer", "events")
        }


class ChangedMindError(Exception):
    """Something later in the transaction failed."""


async def test_a_transaction_rolled_back_leaves_neither_row_nor_job_nor_event(database, catalogue):
    request = ImageCreate(prompt="anything", model="scripted")
    waiting: dict[str, int] = {}
    with suppress(ChangedMindError):
        async with db.transaction(database) as session:
            await operations.create(session, local_owner(), request, catalogue)
            waiting = await jobs.waiting(session)
            raise ChangedMindError
    assert waiting == {"text_to_image:scripted": 1}, "it was never in line"
    assert await counts(database) == {"generations": 0, "pgqueuer": 0, "events": 0}
    async with db.transaction(database) as session:
        made = await operations.create(session, local_owner(), request, catalogue)
    assert await counts(database) == {"generations": 1, "pgqueuer": 1, "events": 1}
    async with db.reading(database) as session:
        payload = (await session.execute(text("SELECT payload FROM pgqueuer"))).scalar_one()
    assert uuid.UUID(bytes=payload) == made.generation.id


async def test_a_job_outside_a_transaction_is_refused(database):
    async with database.engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        async with db.WriteSession(autocommit) as session:
            with pytest.raises(RuntimeError, match="inside a transaction"):
                await jobs.enqueue(session, lane="text_to_image:scripted", generation_id=uuid.uuid4())
    assert (await counts(database))["pgqueuer"] == 0


async def test_what_is_in_line_already_is_not_put_there_twice(database):
    generation_id = uuid.uuid4()
    for _ in range(3):
        async with db.transaction(database) as session:
            await jobs.enqueue(session, lane="text_to_image:scripted", generation_id=generation_id)
    assert (await counts(database))["pgqueuer"] == 1
