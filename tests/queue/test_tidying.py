"""What is only kept for a while goes by itself, and nothing else does."""

import uuid
from datetime import timedelta

from sqlalchemy import func, select, text, update

from tintype.accounts import actors
from tintype.catalog.operations import Catalogue
from tintype.db import idempotency
from tintype.db import session as db
from tintype.db.base import now
from tintype.generations import operations as generations
from tintype.generations.schemas import ImageCreate
from tintype.generations.tables import Event, Generation
from tintype.queue import jobs


async def test_old_events_go_and_the_generation_stays(database, tmp_path):
    actor, catalogue = actors.local_owner(), Catalogue(tmp_path)
    async with db.transaction(database) as session:
        old = await generations.create(session, actor, ImageCreate(prompt="old"), catalogue)
        new = await generations.create(session, actor, ImageCreate(prompt="new"), catalogue)
    async with db.transaction(database) as session:
        for row, days in ((old, 9), (new, 5)):
            values = {"status": "cancelled", "completed_at": now() - timedelta(days=days)}
            await session.execute(update(Generation).where(Generation.id == row.id).values(**values))
        await generations.forget_old_events(session, older_than=timedelta(days=7))
    async with db.reading(database) as session:
        assert (await session.execute(select(Event.generation_id))).scalars().all() == [new.id]
        assert (await session.execute(select(func.count()).select_from(Generation))).scalar_one() == 2


async def test_an_answer_is_forgotten_after_a_day_and_its_key_is_free_again(database):
    owner = uuid.uuid4()
    async with db.transaction(database) as session:
        assert await idempotency.begin(session, owner_id=owner, key="k", request=b"one") is None
        await idempotency.keep(session, owner_id=owner, key="k", status=202, body={"id": 1})
    async with db.transaction(database) as session:
        await idempotency.forget_old(session)
        kept = await idempotency.begin(session, owner_id=owner, key="k", request=b"one")
        assert kept == idempotency.Answer(status=202, body={"id": 1})
        old = {"created_at": now() - timedelta(hours=25)}
        await session.execute(update(idempotency.IdempotentAnswer).values(**old))
        await idempotency.forget_old(session)
        assert await idempotency.begin(session, owner_id=owner, key="k", request=b"two") is None


async def test_the_queues_notes_go_once_they_are_added_up(database):
    async with db.transaction(database) as session:
        for age, aggregated in (("3 days", True), ("3 days", False), ("1 hour", True)):
            await session.execute(
                text(
                    "INSERT INTO pgqueuer_log (created, job_id, status, priority, entrypoint, aggregated) "
                    "VALUES (now() - CAST(:age AS text)::interval, 1, 'successful', 0, 'lane', :aggregated)"
                ),
                {"age": age, "aggregated": aggregated},
            )
        await jobs.forget_old_log(session)
        left = (await session.execute(text("SELECT count(*) FROM pgqueuer_log"))).scalar_one()
    assert left == 2
