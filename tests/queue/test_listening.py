"""The one listening connection of a process: after it was lost, subscribers reread before they hear anything new."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tintype.db.notify import Listener
from tintype.queue.limited import Driver

CHANNELS = tuple(f"channel_{number}" for number in range(6))
END_LISTENING = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'tintype-listen' AND datname = current_database()"
)


@asynccontextmanager
async def talking(url: str) -> AsyncIterator[None]:
    """Meanwhile somebody counts on the first channel, as fast as the database allows."""
    is_over = asyncio.Event()

    async def talk() -> None:
        talker = await asyncpg.connect(url)
        try:
            for number in itertools.count(1):
                await talker.execute("SELECT pg_notify($1, $2)", CHANNELS[0], str(number))
                if is_over.is_set():
                    return
        finally:
            await talker.close()

    talk_task = asyncio.create_task(talk())
    try:
        yield
    finally:
        is_over.set()
        await talk_task


async def test_nothing_new_is_heard_before_the_word_that_something_was_missed(servers):
    url = await servers.new_database()
    listener = Listener(url, CHANNELS)
    await listener.start()
    admin = await asyncpg.connect(url)
    try:
        async with listener.subscribe(CHANNELS[0]) as heard, talking(url):
            await admin.execute(END_LISTENING)
            last, losses = 0, 0
            while losses < 8:
                payload = await asyncio.wait_for(heard.get(), 30)
                if payload is None:
                    losses += 1
                    last = int(await asyncio.wait_for(heard.get(), 30))
                    await admin.execute(END_LISTENING)
                    continue
                assert int(payload) == last + 1, "a gap without a word"
                last += 1
    finally:
        await admin.close()
        await listener.stop()


async def test_a_manager_hears_itself_though_it_begins_to_listen_late(database_url):
    heard = asyncio.Event()
    pool = await asyncpg.create_pool(database_url, min_size=2, max_size=2)
    driver = Driver(pool, asyncio.Event())
    trying = asyncio.create_task(driver.notify(CHANNELS[0], "still there?"))
    try:
        await asyncio.sleep(0.2)
        await driver.add_listener(CHANNELS[0], lambda payload: heard.set())
        await asyncio.wait_for(heard.wait(), 5)
        await trying
    finally:
        pool.terminate()
