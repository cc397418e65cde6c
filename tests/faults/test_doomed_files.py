"""Files that nobody names any more are deleted, whoever dies or is away meanwhile."""

import asyncio
import uuid
from contextlib import suppress

import httpx

from tests.faults.gate import gate
from tests.faults.ledger import Ledger, files_in, until
from tests.storage.conftest import s3_server  # noqa: F401  a fixture
from tests.storage.listing import keys_in
from tintype import storage

QUICK_DEATH = {"TINTYPE_WORKER_HEARTBEAT_S": "0.2", "TINTYPE_WORKER_DEAD_AFTER_S": "1"}


async def due(book: Ledger) -> list[str]:
    """The keys of files that are to be deleted now."""
    return [row["key"] for row in await book.fetch("SELECT key FROM doomed_files WHERE due_at < now()")]


async def stop(worker) -> None:
    worker.terminate()
    await asyncio.to_thread(worker.wait, 20)


async def test_the_files_are_deleted_though_the_api_died_between_the_commit_and_their_deletion(
    lean_studio,
    s3_server,  # noqa: F811
    kill,
    tmp_path,
):
    bucket = f"pictures-{uuid.uuid4()}"
    await asyncio.to_thread(s3_server.make_bucket, bucket)
    opened = storage.open(s3_server.settings(f"s3://{bucket}"), tmp_path)

    async def stored() -> set[str]:
        return {key for key in await asyncio.to_thread(keys_in, opened) if "probe/" not in key}

    async with gate(s3_server.endpoint) as door:
        keys = {"AWS_ACCESS_KEY_ID": "test-id", "AWS_SECRET_ACCESS_KEY": "test-secret"}
        where = {"TINTYPE_STORAGE_URL": f"s3://{bucket}", "AWS_ENDPOINT_URL": door.endpoint}
        studio = await lean_studio(workers=1, environment={**where, **keys})
        book = Ledger(studio)
        job = (await studio.generate(num_images=2))["id"]
        await studio.wait(job)
        files = await stored()
        assert len(files) == 4
        await stop(studio.workers.pop())
        door.is_closed = True
        deleting = asyncio.create_task(studio.http.delete(f"/api/generate/{job}"))
        await asyncio.wait_for(door.swallowed.wait(), 20)
        assert await book.fetch("SELECT id FROM generations WHERE id = $1", uuid.UUID(job)) == []
        kill(studio.api.pid)
        studio.api.wait()
        with suppress(httpx.HTTPError):
            await deleting
        assert await stored() == files
        doomed = set(await due(book))
        assert files < doomed
        assert all(".bare." in key for key in doomed - files), "copies without settings, that nobody asked for"
        door.is_closed = False
        studio.start_worker()

        async def are_gone() -> bool:
            return not await stored() and not await due(book)

        await until(are_gone, "the worker deletes the files")


async def test_files_whose_storage_was_away_are_deleted_when_it_is_back(lean_studio):
    studio = await lean_studio(workers=1)
    book = Ledger(studio)
    job = await book.ask(num_images=2)
    kept = await book.ask()
    await studio.wait(job)
    await studio.wait(kept)
    media, away = studio.home / "media", studio.home / "away"
    media.rename(away)
    answer = await studio.http.delete(f"/api/generate/{job}")
    assert answer.status_code == 204, answer.text
    book.forget(job)
    tried = lambda: (studio.home / "worker.log").read_text().count("files stay for now") >= 2  # noqa: E731
    await until(tried, "the worker tries twice")
    assert len(await due(book)) == 8, "two pictures: each with a thumbnail, and a copy and its hash, made or not"
    assert len(files_in(away)) == 6
    away.rename(media)
    await book.check()
    assert await due(book) == []
    assert len(files_in(media)) == 2


async def test_a_generation_that_is_lost_with_its_workers_leaves_no_file(lean_studio, keep_workers):
    studio = await lean_studio(workers=1, environment=QUICK_DEATH)
    book = Ledger(studio)
    supervisor = asyncio.create_task(keep_workers(studio, exits=[]))
    try:
        job = await book.ask(ends=["failed"], num_images=3, options={"die_after": 2})
        await until(lambda: files_in(studio.home / "media"), "pictures of the first attempt")
        rows = await book.check()
    finally:
        supervisor.cancel()
        with suppress(asyncio.CancelledError):
            await supervisor
    assert (rows[job]["error_code"], rows[job]["attempt"]) == ("worker_lost", 3)
    assert sum(note["what"] == "picture" for note in studio.notes(job)) == 6
    assert files_in(studio.home / "media") == []


async def test_a_deleted_generation_whose_worker_was_killed_leaves_no_file(lean_studio, kill):
    studio = await lean_studio(workers=1)
    book = Ledger(studio)
    job = await book.ask(num_images=3, options={"picture_s": 30})
    await until(lambda: any(note["what"] == "picture" for note in studio.notes(job)), "a picture")
    worker = studio.workers.pop()
    kill(worker.pid)
    worker.wait()
    assert len(files_in(studio.home / "media")) == 2
    assert (await studio.http.delete(f"/api/generate/{job}")).status_code == 204
    book.forget(job)
    studio.start_worker()
    await until(lambda: not files_in(studio.home / "media"), "the files of the dead worker are deleted")
    await book.check()
