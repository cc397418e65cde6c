"""Taking jobs out of line: one PgQueuer manager per process, started again after the database was away."""

import asyncio
import functools
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
from pgqueuer.errors import FailingListenerError, RetryRequested
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from tintype import logs
from tintype.db.session import CONNECTION_FAULTS
from tintype.queue.limited import Driver, LimitedManager, Room

log = logs.get("queue")

POLL_S = 5.0
"""The queue is looked at this often at least without a notification; the net under a lost one."""

POLLS_PER_SILENCE = 4
"""Nothing notifies when a dead worker's job becomes free, so it is looked for this often in `dead_after_s`."""

MAX_BATCH = 8

STEADY_S = 10.0
"""A connection that held this long is made again at once when it is lost."""

LANES_S = 2.0
"""How often the set of lanes is looked at: a model installed meanwhile is served, a broken device's no more."""

Work = Callable[[str, uuid.UUID], Awaitable[None]]


class AgainError(Exception):
    """Raised by the work: keep the job in line and hand it out again after `delay_s`."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"again in {delay_s} s")
        self.delay_s = delay_s


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """Takes jobs from `lanes()`, each with the group whose `room` it shares, and runs `work(lane, generation_id)`."""

    url: str
    lanes: Callable[[], Mapping[str, str]]
    work: Work
    room: Room
    dead_after_s: float

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until `stopping` is set, then return when the work in hand has ended.

        A manager that lost the database returns only when its work in hand has ended, so another takes its place.
        """
        delay_s = 0.1
        leaving: set[asyncio.Task[None]] = set()
        while not stopping.is_set():
            lost = asyncio.Event()
            consuming = asyncio.create_task(self._consume_until_lost(stopping, lost))
            leaving.add(consuming)
            consuming.add_done_callback(leaving.discard)
            began_at = asyncio.get_running_loop().time()
            await _first(lost.wait(), stopping.wait())
            if stopping.is_set():
                break
            delay_s = 0.1 if asyncio.get_running_loop().time() - began_at > STEADY_S else min(delay_s * 2, 2.0)
            await _sleep_unless(stopping, delay_s)
        await asyncio.gather(*leaving)

    async def _consume_until_lost(self, stopping: asyncio.Event, lost: asyncio.Event) -> None:
        try:
            await self._consume(stopping, lost)
        except (*CONNECTION_FAULTS, FailingListenerError, RuntimeError) as error:
            log.warning("queue connection lost", error=f"{type(error).__name__}: {error}"[:200])
        finally:
            lost.set()

    async def _consume(self, stopping: asyncio.Event, lost: asyncio.Event) -> None:
        async with asyncpg.create_pool(
            self.url,
            min_size=2,
            max_size=3,
            reset=_keep_as_it_is,
            timeout=10,
            server_settings={"application_name": "tintype-queue"},
        ) as pool:
            driver = Driver(pool, lost)
            manager = LimitedManager(Queries(driver), self.room)
            self._register(manager)
            aside = [
                asyncio.create_task(_relay(stopping, manager.shutdown)),
                asyncio.create_task(_relay(lost, manager.shutdown)),
                asyncio.create_task(_relay(manager.shutdown, lost)),  # a deaf one still has jobs to end
                asyncio.create_task(self._follow_lanes(manager, lost)),
            ]
            self.room.heard_by.add(driver.wake)
            try:
                await manager.run(
                    dequeue_timeout=timedelta(seconds=min(POLL_S, self.dead_after_s / POLLS_PER_SILENCE)),
                    batch_size=MAX_BATCH,
                    shutdown_on_listener_failure=True,
                    heartbeat_timeout=timedelta(seconds=self.dead_after_s),
                )
            finally:
                self.room.heard_by.discard(driver.wake)
                for task in aside:
                    task.cancel()

    def _register(self, manager: LimitedManager) -> None:
        for lane, group in self.lanes().items():
            if lane not in manager.groups:
                manager.serve(lane, group, functools.partial(self._handle, group))

    async def _follow_lanes(self, manager: LimitedManager, lost: asyncio.Event) -> None:
        """Add new lanes; when one is no longer served as it was, let another manager take this one's place."""
        while manager.groups.items() <= self.lanes().items():
            self._register(manager)
            await asyncio.sleep(LANES_S)
        log.info("lanes changed", lanes=sorted(self.lanes()))
        lost.set()

    async def _handle(self, group: str, job: Job) -> None:
        try:
            if job.payload is not None:
                await self.work(job.entrypoint, uuid.UUID(bytes=job.payload))
        except AgainError as again:
            raise RetryRequested(delay=timedelta(seconds=again.delay_s)) from again
        finally:
            self.room.give(group)


async def _keep_as_it_is(_connection: asyncpg.Connection) -> None:
    """No query of the queue leaves anything to reset, and resetting after each would double the round trips."""


async def _relay(source: asyncio.Event, target: asyncio.Event) -> None:
    await source.wait()
    target.set()


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of `waits` has."""
    tasks = {asyncio.create_task(wait) for wait in waits}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _sleep_unless(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
