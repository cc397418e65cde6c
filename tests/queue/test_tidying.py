"""What is only kept for a while goes by itself, and nothing else does."""

import uuid
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from tests.api import pictures
from tests.storage.listing import keys_in
from tintype import settings, storage
from tintype.accounts import actors
from tintype.catalog.operations import Catalogue
from tintype.db import idempotency
from tintype.db import session as db
from tintype.db.base import now
from tintype.generations import operations as generations
from tintype.generations.schemas import ImageCreate
from tintype.generations.tables import Event, Generation
from tintype.media import files
from tintype.media import operations as media
from tintype.media.tables import DoomedFile
from tintype.queue import jobs


async def test_old_events_go_and_the_generation_stays(database, tmp_path):
    actor, catalogue = actors.local_owner(), Catalogue(tmp_path)
    async with db.transaction(database) as session:
        old = (await generations.create(session, actor, ImageCreate(prompt="old"), catalogue)).generation
        new = (await generations.create(session, actor, ImageCreate(prompt="new"), catalogue)).generation
    async with db.transaction(database) as session:
        for row, days in ((old, 9), (new, 5)):
            values = {"status": "cancelled", "completed_at": now() - timedelta(days=days)}
            await session.execute(update(Generation).where(Generation.id == row.id).values(**values))
        await generations.forget_old_events(session, older_than=timedelta(days=7))
    async with db.reading(database) as session:
        assert (await session.execute(select(Event.generation_id))).scalars().all() == [new.id]
        assert (await session.execute(select(func.count()).select_from(Generation))).scalar_one() == 2


async def test_what_was_deleted_long_ago_is_no_longer_told(database, tmp_path):
    actor, catalogue = actors.local_owner(), Catalogue(tmp_path)
    async with db.transaction(database) as session:
        old = (await generations.create(session, actor, ImageCreate(prompt="old"), catalogue)).generation
        new = (await generations.create(session, actor, ImageCreate(prompt="new"), catalogue)).generation
    for row in (old, new):
        async with db.transaction(database) as session:
            await generations.remove(session, actor, row.id)
    async with db.transaction(database) as session:
        aged = update(Event).where(Event.generation_id == old.id).values(created_at=now() - timedelta(days=9))
        await session.execute(aged)
        await generations.forget_old_events(session, older_than=timedelta(days=7))
    async with db.reading(database) as session:
        left = (await session.execute(select(Event.generation_id, Event.type))).all()
    assert [tuple(one) for one in left] == [(new.id, "deleted")]


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


KEYS = ["a/one.png", "a/two.png"]


async def in_line(database) -> list[str]:
    async with db.reading(database) as session:
        return list((await session.execute(select(DoomedFile.key).order_by(DoomedFile.key))).scalars())


async def test_a_doomed_file_is_deleted_when_it_is_due_and_then_its_row(database, tmp_path):
    store = storage.open(settings.Storage(), tmp_path)
    for key in KEYS:
        await storage.put(store, key, b"x", "image/png")
    async with db.transaction(database) as session:
        await files.doom(session, KEYS[:1])
        await files.doom(session, KEYS[1:], in_s=60)
        await files.doom(session, ["a/never-stored.png"])
    async with db.transaction(database) as session:
        assert await files.delete_doomed(session, store) == 2
        assert keys_in(store) == set(KEYS[1:])
    assert await in_line(database) == KEYS[1:]


async def test_what_one_process_deletes_right_now_another_passes_over(database, tmp_path):
    store = storage.open(settings.Storage(), tmp_path)
    async with db.transaction(database) as session:
        await files.doom(session, [f"a/{number}.png" for number in range(files.BATCH + 7)])
    async with db.transaction(database) as first, db.transaction(database) as second, db.transaction(database) as third:
        counts = [await files.delete_doomed(session, store) for session in (first, second, third)]
    assert counts == [files.BATCH, 7, 0]
    assert await in_line(database) == []


async def test_a_doomed_file_stays_in_line_while_its_storage_is_away(database, tmp_path):
    store = storage.open(settings.Storage(), tmp_path)
    async with db.transaction(database) as session:
        await files.doom(session, KEYS)
    (tmp_path / "media").rename(tmp_path / "away")
    with pytest.raises(storage.StorageUnavailableError):
        async with db.transaction(database) as session:
            await files.delete_doomed(session, store)
    assert await in_line(database) == KEYS
    (tmp_path / "away").rename(tmp_path / "media")
    async with db.transaction(database) as session:
        assert await files.delete_doomed(session, store) == 2


async def an_upload(database, store, data: bytes) -> media.Upload:
    """Named and stored, as it is just before its row is written."""
    async with db.transaction(database) as session:
        upload = await media.begin_upload(session, data, await media.examine(data))
    await media.put_upload(store, upload, data)
    return upload


async def test_an_upload_that_nobody_got_because_its_process_died_is_deleted_later(database, tmp_path):
    store = storage.open(settings.Storage(), tmp_path)
    upload = await an_upload(database, store, pictures.png())
    assert keys_in(store) == {upload.key, upload.thumbnail_key}
    async with db.transaction(database) as session:
        assert await files.delete_doomed(session, store) == 0
        await session.execute(update(DoomedFile).values(due_at=now()))
        assert await files.delete_doomed(session, store) == 2
    assert keys_in(store) == set()
    with pytest.raises(files.UploadTooSlowError):
        async with db.transaction(database) as session:
            await media.add_upload(session, actors.local_owner(), upload)


async def test_an_upload_that_became_somebodys_stays(database, tmp_path):
    store = storage.open(settings.Storage(), tmp_path)
    upload = await an_upload(database, store, pictures.png())
    async with db.transaction(database) as session:
        await media.add_upload(session, actors.local_owner(), upload)
    assert await in_line(database) == []
    async with db.transaction(database) as session:
        assert await files.delete_doomed(session, store) == 0
    assert len(keys_in(store)) == 2
