"""How many jobs of which lanes a process takes, on a real queue."""

import asyncio
import time
import uuid
from collections import Counter
from contextlib import asynccontextmanager

from pgqueuer.core.qm import QueueManager
from pgqueuer.errors import FailingListenerError

from tests.faults.ledger import until
from tintype.db import session as db
from tintype.db.base import new_id
from tintype.queue import jobs
from tintype.queue.consumer import AgainError, Consumer
from tintype.queue.limited import Room

LANES = {"draw:a": "slow", "draw:b": "slow", "cut:c": "quick"}


async def put_in_line(database: db.Database, lane: str, count: int = 1) -> list[uuid.UUID]:
    ids = [new_id() for _ in range(count)]
    async with db.transaction(database) as session:
        for one in ids:
            await jobs.enqueue(session, lane=lane, generation_id=one)
    return ids


class Work:
    """Holds every job until it is let go, and knows which lanes they are of."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, uuid.UUID]] = []
        self.let_go = asyncio.Semaphore(0)
        self.again: set[uuid.UUID] = set()

    async def __call__(self, lane: str, generation_id: uuid.UUID) -> None:
        self.begun.append((lane, generation_id))
        await self.let_go.acquire()
        if generation_id in self.again:
            self.again.discard(generation_id)
            raise AgainError(0.05)

    def lanes(self) -> Counter[str]:
        return Counter(lane for lane, _ in self.begun)


@asynccontextmanager
async def consuming(database: db.Database, work: Work, limits: dict[str, int]):
    url = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    stopping = asyncio.Event()
    consumer = Consumer(url=url, lanes=lambda: LANES, work=work, room=Room(limits=limits), dead_after_s=20.0)
    running = asyncio.create_task(consumer.run(stopping))
    try:
        yield
    finally:
        stopping.set()
        for _ in range(100):
            work.let_go.release()
        await asyncio.wait_for(running, 30)


async def test_lanes_of_one_provider_share_its_slots(database):
    work = Work()
    for lane in LANES:
        await put_in_line(database, lane, 5)
    async with consuming(database, work, {"slow": 3, "quick": 2}):
        await until(lambda: len(work.begun) >= 5, "five begin")
        await asyncio.sleep(0.5)
        assert len(work.begun) == 5
        assert work.lanes()["cut:c"] == 2


async def test_a_provider_whose_slots_are_full_keeps_no_job_of_another_waiting(database):
    work = Work()
    await put_in_line(database, "draw:a", 20)
    async with consuming(database, work, {"slow": 1, "quick": 1}):
        await until(lambda: work.begun, "the slow one begins")
        await put_in_line(database, "cut:c")
        await until(lambda: work.lanes()["cut:c"] == 1, "the quick one begins beside it")
        assert work.lanes()["draw:a"] == 1


async def test_the_next_job_is_taken_when_a_slot_comes_free_and_not_at_the_next_look(database):
    work = Work()
    await put_in_line(database, "draw:a", 8)
    async with consuming(database, work, {"slow": 1, "quick": 1}):
        gaps_s: list[float] = []
        for ended in range(1, 8):
            await until(lambda: len(work.begun) == ended, f"job {ended} begins", every_s=0.001)  # noqa: B023
            await asyncio.sleep(0.25 + 0.017 * ended)  # what the database said of the job itself has long been heard
            let_go_at = time.monotonic()
            work.let_go.release()
            await until(lambda: len(work.begun) == ended + 1, "the next begins", every_s=0.001)  # noqa: B023
            gaps_s.append(time.monotonic() - let_go_at)
        assert sorted(gaps_s)[len(gaps_s) // 2] < 0.03, "the queue is looked at every 0.1 s while something waits"


async def test_a_job_that_is_to_come_again_leaves_its_place_meanwhile(database):
    work = Work()
    (first,) = await put_in_line(database, "draw:a")
    async with consuming(database, work, {"slow": 1, "quick": 1}):
        await until(lambda: work.begun, "it begins")
        work.again.add(first)
        (second,) = await put_in_line(database, "draw:b")
        work.let_go.release()
        await until(lambda: len(work.begun) == 2, "one begins")
        await asyncio.sleep(0.3)
        assert len(work.begun) == 2, "never two at once"
        work.let_go.release()
        await until(lambda: len(work.begun) == 3, "the other follows")
        assert {one for _, one in work.begun} == {first, second}


async def test_a_manager_that_counts_as_deaf_is_followed_by_another_before_its_jobs_have_ended(database, monkeypatch):
    work = Work()
    deaf = asyncio.Event()

    async def hear(manager: QueueManager, **_: object) -> None:
        if not deaf.is_set():
            await deaf.wait()
            raise FailingListenerError
        await manager.shutdown.wait()

    monkeypatch.setattr(QueueManager, "listener_healthy", hear)
    await put_in_line(database, "draw:a")
    async with consuming(database, work, {"slow": 2, "quick": 2}):
        await until(lambda: work.begun, "the first begins")
        deaf.set()
        await asyncio.sleep(6)  # the manager looks at its health when it looks at the queue
        await put_in_line(database, "draw:b")
        await until(lambda: len(work.begun) == 2, "the second begins beside it")
