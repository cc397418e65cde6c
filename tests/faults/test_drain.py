"""SIGTERM: a worker finishes what it can, gives the rest back and leaves."""

import asyncio
import time

from tests.faults.ledger import Ledger

PROMPTLY_S = 15.0
"""Far less than the time it would be given to finish something."""


async def ended(worker, *, timeout_s: float) -> tuple[int, float]:
    began = time.monotonic()
    code = await asyncio.to_thread(worker.wait, timeout_s)
    return code, time.monotonic() - began


async def test_a_stopping_worker_finishes_a_short_job_and_leaves_at_once(lean_studio, steps_noted):
    studio = await lean_studio(workers=1, environment={"TINTYPE_WORKER_CONCURRENCY": "1"})
    book = Ledger(studio)
    job = await book.ask(steps=12, options={"step_s": 0.3})
    await steps_noted(studio, job, 1)
    waiting = [await book.ask(steps=1000, options={"step_s": 0.1}) for _ in range(2)]
    studio.workers[0].terminate()
    code, took_s = await ended(studio.workers[0], timeout_s=60)
    assert code == 0
    assert took_s < PROMPTLY_S
    assert (await studio.read(job))["status"] == "completed"
    assert [note["what"] for note in studio.notes(job)].count("run") == 1
    for other in waiting:
        book.forget(other)
        await studio.http.delete(f"/api/generate/{other}")
    assert await book.fetch("SELECT id FROM workers") == []


async def test_an_idle_worker_leaves_promptly(lean_studio):
    studio = await lean_studio(workers=1, environment={"TINTYPE_WORKER_DRAIN_S": "60"})
    studio.workers[0].terminate()
    code, took_s = await ended(studio.workers[0], timeout_s=60)
    assert code == 0
    assert took_s < PROMPTLY_S


async def test_what_a_stopping_worker_cannot_finish_is_given_back_and_no_failure_is_counted(lean_studio, steps_noted):
    environment = {"TINTYPE_WORKER_DRAIN_S": "1", "TINTYPE_WORKER_CONCURRENCY": "2"}
    studio = await lean_studio(workers=1, environment=environment)
    book = Ledger(studio)
    long = [await book.ask(steps=30, options={"step_s": 0.3}) for _ in range(2)]
    waiting = [await book.ask(num_images=2) for _ in range(6)]
    for job in long:
        await steps_noted(studio, job, 1)
    studio.workers[0].terminate()
    second = studio.start_worker()
    code, _ = await ended(studio.workers[0], timeout_s=60)
    assert code == 0
    rows = await book.check()
    for job in long:
        first, again = (note["pid"] for note in studio.notes(job) if note["what"] == "run")
        assert again == second.pid != first
        assert (rows[job]["attempt"], rows[job]["failures"]) == (2, 0)
    assert {rows[job]["attempt"] for job in waiting} == {1}


async def test_jobs_a_stopping_worker_has_not_begun_do_not_wait_for_what_it_still_runs(lean_studio, steps_noted):
    environment = {"TINTYPE_WORKER_DRAIN_S": "120", "TINTYPE_WORKER_CONCURRENCY": "1"}
    studio = await lean_studio(workers=1, environment=environment)
    book = Ledger(studio)
    long = await book.ask(ends=["cancelled"], steps=1000, options={"step_s": 0.1})
    await steps_noted(studio, long, 1)
    waiting = [await book.ask() for _ in range(3)]
    studio.start_worker()
    studio.workers[0].terminate()
    for job in waiting:
        await studio.wait(job)
    assert (await studio.read(long))["status"] == "processing"
    assert [note["what"] for note in studio.notes(long)].count("run") == 1
    await studio.http.post(f"/api/generate/{long}/cancel")
    await book.check()
