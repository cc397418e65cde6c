"""A worker's handling of one job when the parts it uses break in ways a plug-in or a machine may."""

import asyncio
import json
from contextlib import AsyncExitStack

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tests.faults.ledger import files_in
from tests.processes import SCRIPTED
from tintype import settings, storage
from tintype.accounts.actors import local_owner
from tintype.catalog.operations import Catalogue
from tintype.db import session as db
from tintype.db.base import new_id
from tintype.generations import claims, operations
from tintype.generations.schemas import ImageCreate
from tintype.media import files
from tintype.media.provenance import gate
from tintype.providers.contract import Capability, Output, Quote
from tintype.providers.registry import Providers
from tintype.queue import jobs
from tintype.queue.consumer import AgainError
from tintype.safety import registry
from tintype.worker import results
from tintype.worker.affinity import Affinity
from tintype.worker.checks import Checks
from tintype.worker.elsewhere import Elsewhere
from tintype.worker.held import Holdings
from tintype.worker.perform import Performer
from tintype.worker.slots import Slots


class OneGrey:
    """A provider that gives two grey pictures, or raises `fault` after the first."""

    def __init__(self, fault: BaseException | None = None) -> None:
        self.fault = fault
        self.problem: str | None = None
        self.is_complete = True

    def capabilities(self) -> Capability:
        return Capability(
            tasks=("text_to_image",),
            families=("scripted",),
            concurrency=16,
            devices=(),
            is_complete=self.is_complete,
            problem=self.problem,
        )

    def quote(self, request) -> Quote:
        return Quote(usd=0.0)

    async def generate(self, request, resume=None):
        grey = np.full((request.height, request.width, 3), 128, dtype=np.uint8)
        yield Output(index=0, seed=request.seeds[0], pixels=grey)
        if self.fault is not None:
            raise self.fault
        yield Output(index=1, seed=request.seeds[1], pixels=grey)


@pytest.fixture
def new_performer(database, tmp_path):
    folder = tmp_path / "models" / "scripted"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(SCRIPTED))

    def make(provider) -> Performer:
        providers = Providers(ready={"scripted": provider}, broken={})
        worker_id = new_id()
        return Performer(
            worker_id=worker_id,
            database=database,
            store=storage.open(settings.Storage(), tmp_path),
            catalogue=Catalogue(tmp_path),
            providers=providers,
            elsewhere=Elsewhere(database=database, providers=providers),
            checks=Checks(database=database, detectors=registry.load()),
            issuer=gate.open(tmp_path, settings.Provenance()),
            slots=Slots({"scripted": 4}),
            holdings=Holdings(),
            affinity=Affinity(database=database, worker_id=worker_id),
            worker=settings.Worker(),
            draining=asyncio.Event(),
        )

    return make


async def ask(performer: Performer):
    async with db.transaction(performer.database) as session:
        request = ImageCreate(prompt="anything", model="scripted", num_images=2)
        return (await operations.create(session, local_owner(), request, performer.catalogue)).generation


async def read(performer: Performer, generation_id):
    async with db.reading(performer.database) as session:
        return await operations.get(session, local_owner(), generation_id)


LANE = jobs.lane("text_to_image", "scripted")


@pytest.mark.parametrize("fault", [FileNotFoundError("weights"), TimeoutError(), ConnectionResetError(), KeyError("x")])
async def test_a_providers_own_error_is_not_mistaken_for_a_lost_database(new_performer, tmp_path, fault):
    performer = new_performer(OneGrey(fault))
    asked = await ask(performer)
    await performer.perform(LANE, asked.id)
    row = await read(performer, asked.id)
    assert (row.status, row.error_code, row.attempt) == ("failed", "internal_error", 1)
    assert type(fault).__name__ in row.error_message
    assert files_in(tmp_path / "media") == []


async def test_a_job_that_waits_for_its_turn_is_left_to_others_when_the_provider_breaks_meanwhile(new_performer):
    provider = OneGrey()
    performer = new_performer(provider)
    asked = await ask(performer)
    while not performer.slots.is_taken("scripted"):
        assert await performer.slots.take("scripted", unless=performer.draining)
    performing = asyncio.create_task(performer.perform(LANE, asked.id))
    await asyncio.sleep(0.05)
    provider.problem = "the device failed"
    performer.slots.give("scripted")
    with pytest.raises(AgainError):
        await performing
    row = await read(performer, asked.id)
    assert (row.status, row.attempt, row.failures) == ("queued", 0, 0)


@pytest.mark.parametrize("problem", [None, "there is no such device"])
async def test_nothing_is_claimed_before_the_provider_knows_what_it_can_do(new_performer, problem):
    provider = OneGrey()
    provider.is_complete = False
    performer = new_performer(provider)
    asked = await ask(performer)
    performing = asyncio.create_task(performer.perform(LANE, asked.id))
    await asyncio.sleep(0.2)
    assert (await read(performer, asked.id)).status == "queued"
    provider.is_complete, provider.problem = True, problem
    (outcome,) = await asyncio.gather(performing, return_exceptions=True)
    row = await read(performer, asked.id)
    if problem is None:
        assert (row.status, row.attempt) == ("completed", 1)
    else:
        assert isinstance(outcome, AgainError)
        assert (row.status, row.attempt) == ("queued", 0)


async def test_a_draining_worker_does_not_wait_for_a_provider_that_is_not_ready(new_performer):
    provider = OneGrey()
    provider.is_complete = False
    performer = new_performer(provider)
    asked = await ask(performer)
    performing = asyncio.create_task(performer.perform(LANE, asked.id))
    performer.draining.set()
    with pytest.raises(AgainError) as caught:
        await asyncio.wait_for(performing, 20)
    assert caught.value.delay_s == 0


async def test_a_picture_whose_thumbnail_cannot_be_stored_leaves_no_file(new_performer, tmp_path, monkeypatch):
    performer = new_performer(OneGrey())
    asked = await ask(performer)
    put = storage.put

    async def put_slowly_or_refuse(store, key, data, content_type):
        if "thumbnail" in key:
            raise storage.StorageUnavailableError("the thumbnail is refused at once")
        await asyncio.sleep(0.2)
        await put(store, key, data, content_type)

    monkeypatch.setattr(storage, "put", put_slowly_or_refuse)
    with pytest.raises(AgainError):
        await performer.perform(LANE, asked.id)
    await asyncio.sleep(0.4)
    assert files_in(tmp_path / "media") == []
    row = await read(performer, asked.id)
    assert (row.status, row.failures) == ("queued", 1)


async def test_files_are_kept_when_nobody_knows_whether_the_end_was_committed(
    new_performer, tmp_path, monkeypatch, database
):
    performer = new_performer(OneGrey())
    asked = await ask(performer)

    async def persistently(database, work, **_named):
        async with db.transaction(database) as session:
            done = await work(session)
        if (await read(performer, asked.id)).status == "completed":
            raise db.DatabaseAwayError  # the commit went through, its answer was lost, and the database stayed away
        return done

    monkeypatch.setattr(db, "persistently", persistently)
    with pytest.raises(AgainError):
        await performer.perform(LANE, asked.id)
    async with db.reading(database) as session:
        named = {key for row in await session.execute(text("SELECT key, thumbnail_key FROM media")) for key in row}
    assert len(named) == 4
    assert {str(path.relative_to(tmp_path / "media")) for path in files_in(tmp_path / "media")} == named


async def test_an_exhausted_pool_counts_as_a_database_that_is_away(database):
    pool = database.engine.pool
    pool._timeout = 0.05
    async with AsyncExitStack() as held:
        for _ in range(pool.size()):
            await held.enter_async_context(database.engine.connect())
        with pytest.raises(db.DatabaseAwayError):
            await db.persistently(database, lambda session: session.execute(text("SELECT 1")), retry_for_s=0.1)
    pool._timeout = 10
    assert await db.persistently(database, lambda session: session.scalar(text("SELECT 1"))) == 1


def test_an_error_of_the_database_that_is_there_is_not_a_lost_connection():
    class Refused(Exception):
        sqlstate = "22003"

    assert not db.is_disconnect(OperationalError("SELECT 1", {}, Refused()))


async def test_what_a_killed_worker_had_stored_goes_once_a_later_attempt_completed(
    new_performer, tmp_path, monkeypatch, database
):
    performer = new_performer(OneGrey())
    asked = await ask(performer)

    async def killed(*_arguments, **_named):
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(claims, "complete", killed)
        patch.setattr(results, "discard", killed)
        with pytest.raises(asyncio.CancelledError):
            await performer.perform(LANE, asked.id)
    left = files_in(tmp_path / "media")
    assert len(left) == 4
    async with db.transaction(database) as session:
        await session.execute(text("UPDATE generations SET status = 'queued'"))
    await performer.perform(LANE, asked.id)
    assert (await read(performer, asked.id)).status == "completed"
    async with db.transaction(database) as session:
        assert await files.delete_doomed(session, performer.store) == 4
    kept = files_in(tmp_path / "media")
    assert len(kept) == 4
    assert not set(left) & set(kept)
