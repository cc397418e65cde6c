"""One LISTEN connection per process, fanned out to any number of subscribers inside it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from tintype import logs
from tintype.db.session import CONNECTION_FAULTS

log = logs.get("notify")

QUEUE_LIMIT = 1000
"""Notifications one slow subscriber may lag behind before it is told to read again from the tables."""

Notification = str | None
"""A payload, or None: some may have been missed, so read the tables again."""


class Listener:
    """Keeps one connection listening on `channels`; reconnects by itself and then tells every subscriber to reread."""

    def __init__(self, url: str, channels: tuple[str, ...]) -> None:
        self._url = url
        self._channels = channels
        self._subscribers: dict[str, set[asyncio.Queue[Notification]]] = {name: set() for name in channels}
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def start(self, *, timeout_s: float = 30.0) -> None:
        """Start listening; returns when the first LISTEN holds."""
        self._task = asyncio.create_task(self._run(), name="listener")
        async with asyncio.timeout(timeout_s):
            await self._ready.wait()

    async def stop(self) -> None:
        """Stop listening and close the connection."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncGenerator[asyncio.Queue[Notification]]:
        """A queue of all that arrives on `channel` from now on."""
        queue: asyncio.Queue[Notification] = asyncio.Queue(QUEUE_LIMIT)
        self._subscribers[channel].add(queue)
        try:
            yield queue
        finally:
            self._subscribers[channel].discard(queue)

    async def _run(self) -> None:
        delay_s = 0.1
        while True:
            try:
                await self._listen()
                delay_s = 0.1
            except CONNECTION_FAULTS as error:
                log.warning("listening connection lost", error=str(error)[:200], delay_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 2.0)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            self._url, timeout=10, server_settings={"application_name": "tintype-listen"}
        )
        lost = asyncio.Event()
        is_told = False

        def deliver(_connection: Any, _pid: int, channel: str, payload: object) -> None:
            if is_told:  # what comes before is read again; given out before that, it would hide what was missed
                self._put(channel, str(payload))

        connection.add_termination_listener(lambda _: lost.set())
        try:
            for channel in self._channels:
                await connection.add_listener(channel, deliver)
            self._ready.set()
            for channel in self._channels:
                self._put(channel, None)
            is_told = True
            while not lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(10):
                        await lost.wait()
                if not lost.is_set():
                    await connection.execute("SELECT 1", timeout=10)
        finally:
            connection.terminate()

    def _put(self, channel: str, payload: Notification) -> None:
        for queue in self._subscribers[channel]:
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(payload)
