"""Devices that are missing, break or have no room: the job goes elsewhere or stays in line, and the worker says so."""

import os

import pytest

from tests.faults.ledger import Ledger, until
from tests.processes import PLUGINS, RunningStudio

pytestmark = pytest.mark.timeout(600)  # workers with torch come and go, which takes its time on a busy machine
FRAIL = {"PYTHONPATH": f"{PLUGINS / 'frail'}{os.pathsep}{PLUGINS}", "PYTHONSAFEPATH": "1"}
SKETCH = {"model": "sketch", "prompt": "a ring", "steps": 4, "width": 64, "height": 64}


async def problem_of(studio: RunningStudio, pid: int, provider: str = "engine") -> str | None:
    """What the worker says is wrong with its provider."""
    workers = (await studio.http.get("/health/detailed")).json()["workers"]
    return next((worker["broken_providers"].get(provider) for worker in workers if worker["pid"] == pid), None)


async def kept(book: Ledger, *jobs: str) -> set[tuple[str, int, int]]:
    """`(status, attempt, failures)` of those jobs."""
    rows = await book.fetch("SELECT status, attempt, failures FROM generations WHERE id::text = ANY($1)", list(jobs))
    return {(row["status"], row["attempt"], row["failures"]) for row in rows}


async def doctor(studio: RunningStudio) -> str:
    """What `tintype doctor` prints; it must not call all well."""
    process = studio.process("doctor", environment={"COLUMNS": "300"})
    code = await until(lambda: process.poll() is not None and [process.poll()], "doctor ends", timeout_s=90)
    assert code == [1]
    return (studio.home / "doctor.log").read_text()


async def test_jobs_asked_before_a_device_is_found_missing_wait_for_a_worker_that_has_one(new_studio):
    studio = await new_studio(workers=0, environment={"TINTYPE_ENGINE_THREADS": "1"})
    book = Ledger(studio)
    jobs = [await book.ask(**SKETCH) for _ in range(3)]
    ill = studio.start_worker({"TINTYPE_ENGINE_DEVICE": "cuda:77"})
    problem = await until(lambda: problem_of(studio, ill.pid), "the worker says what is wrong", timeout_s=60)
    assert "use auto or cpu" in problem
    assert await kept(book, *jobs) == {("queued", 0, 0)}
    studio.start_worker()
    rows = await book.check(timeout_s=90)
    assert {row["attempt"] for row in rows.values()} == {1}


async def test_a_device_that_breaks_in_a_step_keeps_its_jobs_in_line_until_another_worker_comes(new_studio, tmp_path):
    studio = await new_studio(workers=0, environment={"TINTYPE_ENGINE_THREADS": "1"})
    book = Ledger(studio)
    orders = tmp_path / "orders"
    ill = studio.start_worker({**FRAIL, "FRAIL_DEVICE": str(orders)})
    together = [await book.ask(**{**SKETCH, "steps": 100, "width": 128, "height": 128}) for _ in range(2)]

    async def have_begun() -> bool:
        seen = [(await studio.read(job))["progress"] for job in together]
        return all(progress is not None and progress["step"] > 2 for progress in seen)

    await until(have_begun, "they are drawn, step by step together", timeout_s=60)
    orders.write_text("broken")
    problem = await until(lambda: problem_of(studio, ill.pid), "the worker says what is wrong")
    assert "illegal memory access" in problem
    assert "restart this worker" in problem
    others = [await book.ask(**SKETCH) for _ in range(3)]
    assert await kept(book, *together) == {("queued", 1, 1)}
    assert await kept(book, *others) == {("queued", 0, 0)}
    studio.start_worker()
    said = await doctor(studio)
    assert "illegal memory access" in said
    assert f"worker {ill.pid} on" in said
    assert "Traceback" not in said
    rows = await book.check(timeout_s=120)
    assert {(rows[job]["attempt"], rows[job]["failures"]) for job in together} == {(2, 1)}
    assert {rows[other]["attempt"] for other in others} == {1}
    assert ill.poll() is None


async def test_a_model_that_finds_no_room_is_tried_again_and_one_shortage_is_nothing(new_studio, tmp_path):
    studio = await new_studio(workers=0, environment={"TINTYPE_ENGINE_THREADS": "1"})
    book = Ledger(studio)
    orders = tmp_path / "orders"
    orders.write_text("out_of_memory 3")  # once when the worker prepares, and twice for the job
    worker = studio.start_worker({**FRAIL, "FRAIL_DEVICE": str(orders)})
    first = await book.ask(**SKETCH)
    rows = await book.check(timeout_s=90)
    assert (rows[first]["attempt"], rows[first]["failures"]) == (2, 1)
    orders.write_text("out_of_memory 1")
    second = await book.ask(**SKETCH)
    rows = await book.check()
    assert (rows[second]["attempt"], rows[second]["failures"]) == (1, 0)
    orders.write_text("out_of_memory 2")
    third = await book.ask(**SKETCH, ends=["failed"])
    rows = await book.check()
    assert (rows[third]["attempt"], rows[third]["error_code"]) == (1, "out_of_memory")
    fourth = await book.ask(**SKETCH)
    assert (await book.check())[fourth]["attempt"] == 1
    assert await problem_of(studio, worker.pid) is None


async def test_a_worker_whose_device_breaks_takes_no_job_from_the_others_any_more(lean_studio, tmp_path, steps_noted):
    studio = await lean_studio(workers=1)
    book = Ledger(studio)
    device = tmp_path / "device"
    ill = studio.start_worker({"SCRIPTED_DEVICE": str(device)})
    await studio.wait_ready(workers=2)
    jobs = [await book.ask(steps=10, options={"step_s": 0.1}) for _ in range(30)]
    mine = lambda: [job for job in jobs for note in studio.notes(job) if note["pid"] == ill.pid]  # noqa: E731
    await until(mine, "the worker has jobs")
    device.write_text("broken")
    assert "restart this worker" in await until(lambda: problem_of(studio, ill.pid, "scripted"), "it says so")
    rows = await book.check()
    assert {row["status"] for row in rows.values()} == {"completed"}
    assert max(row["failures"] for row in rows.values()) == 1
    log = studio.home / "worker.log"
    await until(lambda: '"event": "lanes changed"' in log.read_text(), "it stands back from the lane")
    before = len(mine())
    picks = "SELECT count(*) AS n FROM pgqueuer_log WHERE status = 'picked'"
    picked = (await book.fetch(picks))[0]["n"]
    later = [await book.ask() for _ in range(20)]
    rows = await book.check()
    assert {rows[job]["attempt"] for job in later} == {1}
    assert (await book.fetch(picks))[0]["n"] - picked == len(later), "the ill worker took jobs out of line"
    assert len(mine()) == before
