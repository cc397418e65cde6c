"""What a worker whose attempt is over may still change: nothing."""

import json

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.processes import SCRIPTED
from tintype.accounts.actors import local_owner
from tintype.catalog.operations import Catalogue
from tintype.db import session as db
from tintype.db.base import new_id, now
from tintype.generations import claims, operations
from tintype.generations.leftovers import Work
from tintype.generations.schemas import ImageCreate
from tintype.media.tables import Media


async def take(database, generation_id, *, dead_after_s: float, max_attempts: int = 3, is_alone: bool = False):
    limits = claims.Limits(dead_after_s=dead_after_s, max_attempts=max_attempts)
    async with db.single(database) as session:
        claim = await claims.claim(session, generation_id, worker_id=new_id(), limits=limits, is_alone=is_alone)
    if claim is not None:
        return claim
    async with db.transaction(database) as session:
        return await claims.why_not(session, generation_id, limits=limits)


@pytest.fixture
async def generation(database, tmp_path):
    folder = tmp_path / "models" / "scripted"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(SCRIPTED))
    async with db.transaction(database) as session:
        request = ImageCreate(prompt="anything", model="scripted")
        return (await operations.create(session, local_owner(), request, Catalogue(tmp_path))).generation


def picture(claim: claims.Claim) -> Media:
    digest = "0" * 64
    return Media(
        id=new_id(), owner_id=claim.owner_id, generation_id=claim.id, index=0, source="generated",
        content_type="image/png", width=8, height=8, size_bytes=1, sha256=digest, key="a", thumbnail_key="b",
        thumbnail_sha256=digest, seed=1, settings={}, shows_person=None, person_in_lineage=False, is_foreign=True,
        created_at=now(),
    )  # fmt: skip


async def everything(database) -> list:
    async with db.reading(database) as session:
        return [
            (await session.execute(text(f"SELECT * FROM {table} ORDER BY id"))).all()
            for table in ("generations", "media", "events")
        ]


async def test_nothing_a_superseded_attempt_writes_has_an_effect(database, generation):
    zombie = await take(database, generation.id, dead_after_s=60)
    second = await take(database, generation.id, dead_after_s=0)
    assert (zombie.attempt, second.attempt, second.failures) == (1, 2, 1)
    before = await everything(database)

    async def refused(work) -> None:
        with pytest.raises(claims.SupersededError):
            async with db.transaction(database) as session:
                await work(session)

    await refused(lambda session: claims.complete(session, zombie, [picture(zombie)], cost_usd=1))
    await refused(lambda session: claims.fail(session, zombie, code="zombie", message="no"))
    async with db.transaction(database) as session:
        assert not await claims.checkpoint(session, zombie, Work(provider="cloud", token="a", generation_id=zombie.id))
        assert not await claims.give_back(session, zombie, counts_as_failure=True)
        await claims.acknowledge_cancel(session, zombie)
        beat = claims.Beat(id=zombie.id, attempt=zombie.attempt, progress={"step": 9})
        assert await claims.heartbeat(session, [beat]) == {}
    assert await everything(database) == before


async def test_completing_twice_is_completing_once(database, generation):
    held = await take(database, generation.id, dead_after_s=60)
    async with db.transaction(database) as session:
        await claims.complete(session, held, [picture(held)], cost_usd=0)
    before = await everything(database)
    async with db.transaction(database) as session:
        await claims.complete(session, held, [picture(held)], cost_usd=0)
    assert await everything(database) == before
    assert isinstance(await take(database, generation.id, dead_after_s=0), claims.NothingToDo)


async def test_a_living_worker_keeps_its_claim_and_the_other_is_told_when_to_ask_again(database, generation):
    await take(database, generation.id, dead_after_s=60)
    answer = await take(database, generation.id, dead_after_s=60)
    assert isinstance(answer, claims.Busy)
    assert 50 < answer.retry_in_s < 61


async def test_the_last_run_after_deaths_is_given_only_to_a_worker_that_does_no_other_such_run(database, generation):
    for attempt in (1, 2):
        assert (await take(database, generation.id, dead_after_s=0)).attempt == attempt
    with pytest.raises(claims.LastRunError):
        await take(database, generation.id, dead_after_s=0)
    last = await take(database, generation.id, dead_after_s=0, is_alone=True)
    assert (last.attempt, last.failures) == (3, 2)
    assert isinstance(await take(database, generation.id, dead_after_s=0, is_alone=True), claims.NothingToDo)
    async with db.reading(database) as session:
        row = await operations.get(session, local_owner(), generation.id)
    assert (row.status, row.error_code) == ("failed", "worker_lost")


async def test_what_was_cancelled_while_its_worker_was_dead_ends_as_cancelled(database, generation):
    await take(database, generation.id, dead_after_s=60)
    async with db.transaction(database) as session:
        await operations.cancel(session, local_owner(), generation.id)
    assert isinstance(await take(database, generation.id, dead_after_s=0), claims.NothingToDo)
    async with db.reading(database) as session:
        row = await operations.get(session, local_owner(), generation.id)
    assert row.status == "cancelled"


async def test_the_sweep_puts_back_what_has_neither_job_nor_living_worker_and_nothing_else(database, generation):
    async def swept(*, dead_after_s: float = 60) -> int:
        async with db.transaction(database) as session:
            return await claims.requeue_orphans(session, dead_after_s=dead_after_s)

    async def lose_job() -> None:
        async with db.transaction(database) as session:
            await session.execute(text("DELETE FROM pgqueuer"))

    assert await swept() == 0
    await lose_job()
    assert await swept() == 1
    await take(database, generation.id, dead_after_s=60)
    await lose_job()
    assert await swept() == 0, "its worker lives"
    assert await swept(dead_after_s=0) == 1
    assert await swept(dead_after_s=0) == 0, "it is in line already"


async def test_nobody_counts_as_silent_for_the_time_before_postgresql_started(database, generation):
    await take(database, generation.id, dead_after_s=60)
    async with db.transaction(database) as session:
        await session.execute(text("UPDATE generations SET heartbeat_at = pg_postmaster_start_time() - interval '1h'"))
        await session.execute(text("DELETE FROM pgqueuer"))
    assert isinstance(await take(database, generation.id, dead_after_s=1800), claims.Busy)
    async with db.transaction(database) as session:
        assert await claims.requeue_orphans(session, dead_after_s=1800) == 0


async def test_a_single_statement_is_committed_when_it_ends_and_a_broken_one_leaves_nothing(database):
    add = text("INSERT INTO doomed_files SELECT key, now() FROM unnest(CAST(:keys AS text[])) AS key RETURNING 1 / :by")
    async with db.single(database) as session:
        await session.execute(add, {"keys": ["a", "b"], "by": 1})
        async with db.reading(database) as other:
            assert await other.scalar(text("SELECT count(*) FROM doomed_files")) == 2, (
                "nobody waits for its block to end"
            )
    with pytest.raises(DBAPIError):
        async with db.single(database) as session:
            await session.execute(add, {"keys": ["c"], "by": 0})
    async with db.transaction(database) as session:
        assert await session.scalar(text("SELECT count(*) FROM doomed_files")) == 2
        await session.execute(add, {"keys": ["d"], "by": 1})
        async with db.reading(database) as other:
            assert await other.scalar(text("SELECT count(*) FROM doomed_files")) == 2, "a transaction is one again"


async def test_who_is_alone_already_is_never_told_to_be(database, generation):
    for _ in range(2):
        await take(database, generation.id, dead_after_s=0)
    limits = claims.Limits(dead_after_s=0, max_attempts=3)  # its holder fell silent after the claim was tried
    async with db.transaction(database) as session:
        with pytest.raises(claims.LastRunError):
            await claims.why_not(session, generation.id, limits=limits)
        answer = await claims.why_not(session, generation.id, limits=limits, is_alone=True)
    assert answer == claims.Busy(retry_in_s=0.05)
