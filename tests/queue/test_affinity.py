"""A job goes first to a worker that has its model loaded, and no longer than a bound."""

import json
import time
import uuid

import pytest

from tests.processes import SCRIPTED
from tintype.accounts.actors import local_owner
from tintype.catalog.operations import Catalogue
from tintype.db import session as db
from tintype.db.base import new_id, now
from tintype.generations import claims, operations
from tintype.generations.schemas import ImageCreate
from tintype.queue.consumer import AgainError
from tintype.worker import affinity, registry
from tintype.worker.affinity import Affinity


async def announce(database: db.Database, *, state: str = "ready", loaded: tuple[str, ...] = ("big",)) -> uuid.UUID:
    worker_id = new_id()
    async with db.transaction(database) as session:
        await registry.announce(
            session,
            worker_id=worker_id,
            started_at=now(),
            state=state,
            models=("big", "small"),
            loaded=loaded,
            devices=(),
            broken_providers={},
        )
    return worker_id


async def test_a_job_is_left_to_a_worker_that_has_its_model_loaded(database: db.Database):
    await announce(database)
    mine = Affinity(database=database, worker_id=new_id())
    with pytest.raises(AgainError):
        await mine.leave_to_loaded(new_id(), "big", loaded=())


async def test_it_is_not_left_longer_than_the_bound(database: db.Database, monkeypatch):
    await announce(database)
    mine = Affinity(database=database, worker_id=new_id())
    job = new_id()
    with pytest.raises(AgainError):
        await mine.leave_to_loaded(job, "big", loaded=("small",))
    later = time.monotonic() + affinity.LEFT_FOR_S
    monkeypatch.setattr(affinity.time, "monotonic", lambda: later)
    await mine.leave_to_loaded(job, "big", loaded=("small",))


@pytest.mark.parametrize("loaded", [("big",), None], ids=["it has the model itself", "nothing needs loading"])
async def test_what_can_start_here_at_once_stays_here(database: db.Database, loaded):
    await announce(database)
    await Affinity(database=database, worker_id=new_id()).leave_to_loaded(new_id(), "big", loaded=loaded)


@pytest.mark.parametrize("other", [{"state": "draining"}, {"loaded": ("small",)}], ids=["it leaves", "it has another"])
async def test_nobody_waits_for_a_worker_that_could_not_start_either(database: db.Database, other):
    await announce(database, **other)
    await Affinity(database=database, worker_id=new_id()).leave_to_loaded(new_id(), "big", loaded=())


async def test_a_worker_that_fell_silent_is_not_waited_for(database: db.Database, monkeypatch):
    with monkeypatch.context() as past:
        past.setattr(registry, "now", lambda: now() - 2 * registry.SEEN_LATELY)
        await announce(database)
    await Affinity(database=database, worker_id=new_id()).leave_to_loaded(new_id(), "big", loaded=())


async def test_a_job_is_not_left_to_the_worker_that_died_with_it(database: db.Database, tmp_path):
    dead = await announce(database)
    folder = tmp_path / "models" / "scripted"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(SCRIPTED))
    async with db.transaction(database) as session:
        wanted = ImageCreate(prompt="anything", model="scripted")
        job = (await operations.create(session, local_owner(), wanted, Catalogue(tmp_path))).generation.id
        limits = claims.Limits(dead_after_s=0, max_attempts=3)
        await claims.claim(session, job, worker_id=dead, limits=limits, is_alone=False)
    mine = Affinity(database=database, worker_id=new_id())
    await mine.leave_to_loaded(job, "big", loaded=())
    await announce(database)
    with pytest.raises(AgainError):
        await mine.leave_to_loaded(job, "big", loaded=())


async def test_nobody_waits_for_itself(database: db.Database):
    me = await announce(database)
    await Affinity(database=database, worker_id=me).leave_to_loaded(new_id(), "big", loaded=())
