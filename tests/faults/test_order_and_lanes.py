"""Who runs first, where, how many at once, and how soon."""

import asyncio
import statistics
import time
import uuid

from tests.conftest import on_both_kinds
from tests.faults.ledger import Ledger, until
from tintype.queue.consumer import POLL_S, POLLS_PER_SILENCE


def began(studio, generation_id: str) -> float:
    return next(note["at"] for note in studio.notes(generation_id) if note["what"] == "run")


@on_both_kinds
async def test_a_worker_takes_no_job_that_it_cannot_begin(lean_studio, steps_noted):
    studio = await lean_studio(workers=1, environment={"TINTYPE_WORKER_CONCURRENCY": "1"})
    book = Ledger(studio)
    busy = {"steps": 1000, "ends": ["cancelled"], "options": {"step_s": 0.1}}
    first = await book.ask(**busy)
    await steps_noted(studio, first)
    second = await book.ask(**busy)
    await asyncio.sleep(1)
    assert len(await book.fetch("SELECT id FROM pgqueuer WHERE status = 'picked'")) == 1
    idle = studio.start_worker()
    assert await steps_noted(studio, second) == idle.pid
    for job in (first, second):
        await studio.http.post(f"/api/generate/{job}/cancel")
    await book.check()


@on_both_kinds
async def test_waiting_jobs_run_in_the_order_of_priority_then_age(lean_studio, steps_noted):
    studio = await lean_studio(workers=1, environment={"TINTYPE_WORKER_CONCURRENCY": "1"})
    book = Ledger(studio)
    busy = await book.ask(steps=1000, ends=["cancelled"], options={"step_s": 0.1})
    await steps_noted(studio, busy, 1)
    priorities = [0, 0, -5, 0, 7, -5, 3, 7, 0]
    jobs = [(priority, await book.ask(priority=priority)) for priority in priorities]
    await studio.http.post(f"/api/generate/{busy}/cancel")
    await book.check()
    ran = sorted(jobs, key=lambda job: began(studio, job[1]))
    assert ran == sorted(jobs, key=lambda job: -job[0])


async def test_a_worker_without_the_model_leaves_its_jobs_to_one_that_has_it(lean_studio, tmp_path, record_property):
    studio = await lean_studio(workers=0)
    book = Ledger(studio)
    bare = tmp_path / "bare"
    bare.mkdir()
    studio.start_worker({"TINTYPE_HOME": str(bare)})
    await studio.wait_ready(workers=1)
    (worker,) = (await studio.http.get("/health/detailed")).json()["workers"]
    assert "scripted" not in worker["models"]
    jobs = [await book.ask() for _ in range(3)]
    await asyncio.sleep(1)
    rows = await book.fetch("SELECT status, attempt FROM generations")
    assert [(row["status"], row["attempt"]) for row in rows] == [("queued", 0)] * 3
    serving = studio.start_worker()
    await book.check()
    assert {note["pid"] for job in jobs for note in studio.notes(job)} == {serving.pid}


async def test_one_worker_runs_as_many_jobs_at_once_as_it_is_allowed(lean_studio):
    studio = await lean_studio(workers=1, environment={"TINTYPE_WORKER_CONCURRENCY": "12"})
    book = Ledger(studio)
    jobs = [await book.ask(ends=["cancelled"], steps=1000, options={"step_s": 0.1}) for _ in range(24)]

    def running() -> set[str]:
        return {job for job in jobs if studio.notes(job)}

    first = await until(lambda: len(running()) >= 12 and running(), "twelve run")
    await asyncio.sleep(1)
    assert running() == first, "more began than may run"
    assert len(first) == 12
    for job in first:
        await studio.http.post(f"/api/generate/{job}/cancel")
    await until(lambda: len(running()) == 24, "the other twelve follow")
    for job in jobs:
        await studio.http.post(f"/api/generate/{job}/cancel")
    await book.check()


async def test_an_idle_worker_is_woken_long_before_it_would_look_by_itself(calm_studio, record_property):
    book = Ledger(calm_studio)
    took_s = []
    for _ in range(20):
        asked_at = time.time()
        job = await book.ask()
        await book.settle()
        took_s.append(began(calm_studio, job) - asked_at)
    median_s = statistics.median(took_s)
    record_property("wake_up_s", median_s)
    print(f"from POST to run: median {median_s * 1000:.1f} ms, worst {max(took_s) * 1000:.1f} ms")
    assert median_s < min(POLL_S, 3.0 / POLLS_PER_SILENCE) / 4
    await book.check()


async def test_twenty_parallel_posts_with_one_key_make_one_generation(calm_studio):
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"prompt": "anything", "model": "scripted"}
    answers = await asyncio.gather(
        *(calm_studio.http.post("/api/generate/image", json=body, headers=key) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    finished = await calm_studio.wait(answers[0].json()["id"])
    assert [note["what"] for note in calm_studio.notes(finished["id"])].count("run") == 1
    other = await calm_studio.http.post("/api/generate/image", json={**body, "seed": 5}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
