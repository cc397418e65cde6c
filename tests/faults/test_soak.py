"""Thousands of generations through two workers of which one is killed again and again."""

import asyncio
import os
import random
from contextlib import suppress

import pytest

from tests.faults.ledger import Ledger

COUNT = int(os.environ.get("TINTYPE_TEST_SOAK", "3000"))
KILLS = 5
IN_FLIGHT = 40


@pytest.mark.soak
async def test_thousands_of_generations_end_exactly_once_though_workers_are_killed(lean_studio, keep_workers, kill):
    studio = await lean_studio(workers=2)
    book = Ledger(studio, may_leave_parts=True)
    exits: list[int] = []
    supervisor = asyncio.create_task(keep_workers(studio, exits=exits))
    gate = asyncio.Semaphore(IN_FLIGHT)
    left = COUNT

    async def one() -> None:
        nonlocal left
        async with gate:
            job = await book.ask(steps=random.choice([1, 2]), options={"step_s": random.choice([0, 0.01, 0.05])})
            await studio.wait(job, timeout_s=120)
            left -= 1

    async def kill_now_and_then() -> None:
        for round_ in range(1, KILLS + 1):
            while left > COUNT * (KILLS + 1 - round_) / (KILLS + 1):
                await asyncio.sleep(0.05)
            kill(random.choice(studio.workers).pid)

    killing = asyncio.create_task(kill_now_and_then())
    await asyncio.gather(*(one() for _ in range(COUNT)))
    await killing
    rows = await book.check(timeout_s=120)
    supervisor.cancel()
    with suppress(asyncio.CancelledError):
        await supervisor
    assert len(exits) == KILLS
    assert await book.fetch("SELECT id FROM generations WHERE status <> 'completed'") == []
    again = sum(row["attempt"] > 1 for row in rows.values())
    print(f"{COUNT} generations, {KILLS} workers killed, {again} run again")
