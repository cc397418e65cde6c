"""Workers that die in the middle of a step."""

import asyncio
import io
import json
from contextlib import suppress
from datetime import datetime

from PIL import Image

from tests.conftest import on_both_kinds
from tests.faults.ledger import Ledger, until, watching

WITHIN_S = 5.0
ONCE_READY_S = 2.0
"""How soon a worker takes over that was not there yet when the other died and began later than it might have."""


async def pictures(studio, generation_id: str) -> list[tuple[int, bytes]]:
    finished = await studio.read(generation_id)
    answers = [await studio.http.get(url) for url in finished["output_paths"]]
    found = [Image.open(io.BytesIO(answer.content)) for answer in answers]
    seeds = [item["seed"] for item in finished["media"]]
    return [(seed, picture.tobytes()) for seed, picture in zip(seeds, found, strict=True)]


def runs(studio, generation_id: str) -> list[dict]:
    return [note for note in studio.notes(generation_id) if note["what"] == "run"]


def ready_at(studio, pid: int) -> float:
    """When the worker was ready for jobs, by its own log."""
    lines = (studio.home / "worker.log").read_text().splitlines()
    said = [json.loads(line) for line in lines if line.startswith("{")]
    ready = next(line for line in said if line["pid"] == pid and line["event"] == "worker ready")
    return datetime.fromisoformat(ready["timestamp"]).timestamp()


async def require_recovery(studio, book: Ledger, generation_id: str, killed_at: float, seen) -> float:
    """The job ran again elsewhere in time, read as unfinished meanwhile and gave what a lone run gives."""
    await studio.wait(generation_id)
    first, second = runs(studio, generation_id)
    assert first["pid"] != second["pid"]
    took_s = second["at"] - killed_at
    assert took_s < max(WITHIN_S, ready_at(studio, second["pid"]) - killed_at + ONCE_READY_S)
    assert seen.statuses(since=killed_at, until=second["at"]) <= {"queued", "processing"}
    assert seen.statuses(since=killed_at, until=second["at"])
    lone = await book.ask(seed=0x5EED01, num_images=2)
    await studio.wait(lone)
    assert await pictures(studio, generation_id) == await pictures(studio, lone)
    row = (await book.check())[generation_id]
    assert (row["attempt"], row["failures"]) == (2, 1)
    return took_s


@on_both_kinds
async def test_another_worker_runs_the_job_of_a_killed_one_within_five_seconds(
    new_studio, steps_noted, kill, record_property
):
    studio = await new_studio(workers=2)
    book = Ledger(studio)
    job = await book.ask(seed=0x5EED01, num_images=2, steps=5, options={"step_s": 0.5})
    worker = await steps_noted(studio, job, 2)
    async with watching(studio, job, pictures=2) as seen:
        took_s = await require_recovery(studio, book, job, kill(worker), seen)
    record_property("recovery_s", took_s)
    print(f"ran again on another worker {took_s:.2f} s after kill -9")


@on_both_kinds
async def test_a_fresh_worker_runs_the_job_of_the_only_one_that_was_killed_within_five_seconds(
    lean_studio, steps_noted, kill, record_property
):
    studio = await lean_studio(workers=1)
    book = Ledger(studio)
    job = await book.ask(seed=0x5EED01, num_images=2, steps=5, options={"step_s": 0.3})
    worker = await steps_noted(studio, job, 2)
    async with watching(studio, job, pictures=2) as seen:
        killed_at = kill(worker)
        studio.start_worker()
        took_s = await require_recovery(studio, book, job, killed_at, seen)
    record_property("recovery_s", took_s)
    print(f"ran again on a fresh worker {took_s:.2f} s after kill -9")


async def test_a_sketch_whose_worker_was_killed_in_a_step_is_pixel_for_pixel_the_one_of_an_undisturbed_run(
    new_studio, kill
):
    studio = await new_studio(workers=1)
    book = Ledger(studio)
    wanted = {"model": "sketch", "prompt": "a red circle on a blue background", "seed": 0x5EED, "steps": 100}
    job = await book.ask(**wanted)

    async def is_amid_its_steps() -> bool:
        progress = (await studio.read(job))["progress"]
        return progress is not None and 10 <= progress["step"] < 60

    await until(is_amid_its_steps, "it is drawn", timeout_s=60)
    kill(studio.workers[0].pid)
    (row,) = await book.fetch("SELECT status, progress FROM generations")
    assert row["status"] == "processing"
    assert json.loads(row["progress"])["step"] < 90, "it was too late to interrupt a step"
    studio.start_worker()
    await studio.wait(job, timeout_s=120)
    lone = await book.ask(**wanted)
    await studio.wait(lone, timeout_s=120)
    again, undisturbed = await pictures(studio, job), await pictures(studio, lone)
    assert len(again) == 1
    assert again == undisturbed
    rows = await book.check()
    assert (rows[job]["attempt"], rows[lone]["attempt"]) == (2, 1)


async def test_a_job_that_kills_its_worker_fails_after_three_deaths_and_takes_no_other_job_along(
    lean_studio, keep_workers
):
    quick_death = {"TINTYPE_WORKER_HEARTBEAT_S": "0.2", "TINTYPE_WORKER_DEAD_AFTER_S": "1"}
    studio = await lean_studio(workers=1, environment=quick_death)
    book = Ledger(studio)
    exits: list[int] = []
    supervisor = asyncio.create_task(keep_workers(studio, exits=exits))
    around = {"steps": 3, "options": {"step_s": 0.1}}
    others = [await book.ask(**around)]
    poison = await book.ask(ends=["failed"], steps=4, options={"step_s": 0.2, "die": 2})
    others += [await book.ask(**around) for _ in range(4)]
    rows = await book.check(timeout_s=60)
    supervisor.cancel()
    with suppress(asyncio.CancelledError):
        await supervisor
    assert rows[poison]["error_code"] == "worker_lost"
    assert len(runs(studio, poison)) == 3
    assert exits == [9, 9, 9]
    assert {rows[other]["status"] for other in others} == {"completed"}
    last = [event async for event in studio.events(poison)][-1]
    assert (last.type, last.data["code"]) == ("failed", "worker_lost")
