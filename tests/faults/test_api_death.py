"""The API killed in the middle of a job, and clients that go away in the middle of a stream."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

import asyncpg
import httpx

from tests.faults.ledger import Ledger, until


async def kept_events(book: Ledger, generation_id: str) -> list[tuple[int, str]]:
    rows = await book.fetch("SELECT id, type FROM events WHERE generation_id::text = $1 ORDER BY id", generation_id)
    return [(row["id"], row["type"]) for row in rows]


@asynccontextmanager
async def doing(work: Coroutine[None, None, None]) -> AsyncIterator[asyncio.Task[None]]:
    """The work as a task, which does not outlive the block."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, httpx.HTTPError):
            await task


async def test_a_client_of_a_killed_api_gets_exactly_what_it_missed_from_the_next(lean_studio, steps_noted, kill):
    studio = await lean_studio(workers=1)
    book = Ledger(studio)
    job = await book.ask(num_images=3, steps=20, options={"step_s": 0.3})
    got: list[tuple[int, str]] = []

    async def listen(last_event_id: int | None) -> None:
        async for event in studio.events(job, last_event_id=last_event_id):
            if event.id is not None:
                got.append((event.id, event.type))  # noqa: PERF401  read while it grows

    async with doing(listen(None)) as first:
        await steps_noted(studio, job, 2)
        await until(lambda: [kind for _, kind in got] == ["queued", "started"], "the first events")
        kill(studio.api.pid)
        studio.api.wait()
        with suppress(httpx.HTTPError):
            await first
    await steps_noted(studio, job, 20)
    studio.start_api()
    await studio.wait_ready(workers=1)
    await asyncio.wait_for(listen(got[-1][0]), 30)
    assert (await studio.read(job))["status"] == "completed"
    assert got == await kept_events(book, job)
    assert [kind for _, kind in got] == ["queued", "started", "image", "image", "image", "completed"]
    assert [note["what"] for note in studio.notes(job)].count("run") == 1
    await book.check()


async def test_a_stream_of_all_events_goes_on_after_the_last_seen_without_gap_or_double(lean_studio, kill):
    studio = await lean_studio(workers=1)
    book = Ledger(studio)
    got: list[int] = []

    async def listen(last_event_id: int | None) -> None:
        async for event in studio.events(last_event_id=last_event_id):
            if event.id is not None:
                got.append(event.id)  # noqa: PERF401  read while it grows

    async with doing(listen(0)) as first:
        for _ in range(5):
            await book.ask()
        await until(lambda: len(got) >= 8, "some events")
        for _ in range(10):
            await book.ask(num_images=2)
        kill(studio.api.pid)
        studio.api.wait()
        with suppress(httpx.HTTPError):
            await first
    await book.settle()
    seen_before = len(got)
    studio.start_api()
    await studio.wait_ready(workers=1)
    async with doing(listen(got[-1])):
        await book.ask()
        await book.check()
        every = [row["id"] for row in await book.fetch("SELECT id FROM events ORDER BY id")]
        await until(lambda: len(got) >= len(every), "all events")
    assert seen_before < len(every)
    assert got == every


POOLS = 40
"""More connections than all processes of a studio may keep open, and far fewer than two hundred leaked ones."""


async def test_two_hundred_aborted_streams_leave_no_connection_behind(calm_studio):
    book = Ledger(calm_studio)
    slow = await book.ask(ends=["cancelled"], steps=1000, options={"step_s": 0.1})
    count = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()"

    async def abort(number: int) -> None:
        path = "/api/events" if number % 2 else f"/api/generate/{slow}/events"
        reader, writer = await asyncio.open_connection("127.0.0.1", calm_studio.port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert b"200" in await asyncio.wait_for(reader.readline(), 20)
            if number % 3:
                await asyncio.wait_for(reader.readuntil(b"retry"), 20)
        finally:
            writer.transport.abort()

    for start in range(0, 200, 20):
        await asyncio.gather(*(abort(number) for number in range(start, start + 20)))

    async def are_few_left() -> bool:
        return (await book.fetch(count))[0]["n"] < POOLS

    await until(are_few_left, "the API gives its database connections back")
    await until(lambda: sockets_of(calm_studio.api.pid) < 2 * POOLS, "the API closes its sockets")
    answers = await asyncio.gather(*(calm_studio.read(slow) for _ in range(50)))
    assert {answer["status"] for answer in answers} == {"processing"}
    last = [event.type async for event in stream_until_cancelled(calm_studio, slow)]
    assert last[-1] == "cancelled"
    await book.check()


async def stream_until_cancelled(studio, generation_id: str):
    """The events of a running generation that is cancelled once the stream is open."""
    has_begun = False
    async for event in studio.events(generation_id):
        yield event
        if not has_begun:
            has_begun = True
            await studio.http.post(f"/api/generate/{generation_id}/cancel")


def sockets_of(pid: int) -> int:
    import psutil

    return len(psutil.Process(pid).net_connections())


async def test_a_lost_listening_connection_loses_no_event(calm_studio):
    book = Ledger(calm_studio)
    got: list[int] = []

    async def listen() -> None:
        async for event in calm_studio.events(last_event_id=0):
            if event.id is not None:
                got.append(event.id)  # noqa: PERF401  read while it grows

    await book.ask()
    async with doing(listen()):
        await until(lambda: got, "the stream is open")
        admin = await asyncpg.connect(calm_studio.url)
        try:
            for _ in range(4):
                await book.ask(num_images=2)
                await admin.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'tintype-listen' AND datname = current_database()"
                )
                await book.ask()
        finally:
            await admin.close()
        await book.check()
        every = [row["id"] for row in await book.fetch("SELECT id FROM events ORDER BY id")]
        with suppress(TimeoutError):
            await until(lambda: len(got) >= len(every), "all events")
        assert sorted(set(every) - set(got)) == [], "missed"
    assert got == every
