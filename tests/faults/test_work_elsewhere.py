"""Work that goes on outside the worker: whatever becomes of the worker, it is found again and never begun twice."""

import asyncio

import pytest

from tests.faults.ledger import Ledger, until

ELSEWHERE = {"steps": 40, "options": {"step_s": 0.1, "elsewhere": True}}
LONG_ELSEWHERE = {"steps": 1000, "options": {"step_s": 0.1, "elsewhere": True}}
QUICK_DEATH = {"TINTYPE_WORKER_HEARTBEAT_S": "0.2", "TINTYPE_WORKER_DEAD_AFTER_S": "1"}


def noted(studio, generation_id: str, *kinds: str) -> list[dict]:
    return [note for note in studio.notes(generation_id) if note["what"] in kinds]


async def token_of(book: Ledger, generation_id: str) -> str:
    rows = await book.fetch("SELECT checkpoint FROM generations WHERE id::text = $1", generation_id)
    return rows[0]["checkpoint"]


def require_one_work(studio, generation_id: str, token: str) -> None:
    """It was begun once, by one process, resumed by another, and nobody cancelled it."""
    first, second = noted(studio, generation_id, "begun", "resumed")
    assert (first["what"], second["what"]) == ("begun", "resumed")
    assert first["token"] == second["token"] == token
    assert first["pid"] != second["pid"]
    assert noted(studio, generation_id, "cancelled_elsewhere") == []


async def test_after_a_kill_the_next_attempt_finds_the_work_again(lean_studio, steps_noted, kill):
    studio = await lean_studio(workers=1)
    book = Ledger(studio)
    job = await book.ask(num_images=2, **ELSEWHERE)
    worker = await steps_noted(studio, job, 1)
    token = await token_of(book, job)
    assert token == noted(studio, job, "begun")[0]["token"], "it is kept before anything else happens"
    kill(worker)
    studio.start_worker()
    row = (await book.check())[job]
    require_one_work(studio, job, token)
    assert (row["attempt"], row["failures"]) == (2, 1)
    assert row["checkpoint"] is None


async def test_a_drain_gives_the_job_back_and_leaves_the_work_running(lean_studio, steps_noted):
    studio = await lean_studio(workers=1, environment={"TINTYPE_WORKER_DRAIN_S": "0.2"})
    book = Ledger(studio)
    job = await book.ask(**LONG_ELSEWHERE, ends=["cancelled"])
    await steps_noted(studio, job, 1)
    token = await token_of(book, job)
    studio.workers[0].terminate()
    second = studio.start_worker()
    assert await steps_noted(studio, job, 1, run=2) == second.pid
    require_one_work(studio, job, token)
    assert (studio.home / "elsewhere" / token).exists()
    await studio.http.post(f"/api/generate/{job}/cancel")
    row = (await book.check())[job]
    assert (row["attempt"], row["failures"]) == (2, 0)
    (cancelled,) = noted(studio, job, "cancelled_elsewhere")
    assert (cancelled["token"], cancelled["pid"]) == (token, second.pid)


async def test_a_cancel_ends_the_work_elsewhere_and_so_does_a_delete(calm_studio, steps_noted):
    book = Ledger(calm_studio)
    cancelled, deleted = [await book.ask(**LONG_ELSEWHERE, ends=["cancelled"]) for _ in range(2)]
    for job in (cancelled, deleted):
        await steps_noted(calm_studio, job, 1)
    assert (await calm_studio.http.post(f"/api/generate/{cancelled}/cancel")).status_code == 200
    assert (await calm_studio.http.delete(f"/api/generate/{deleted}")).status_code == 204
    book.forget(deleted)
    await book.check()
    for job in (cancelled, deleted):
        (begun,), (ended,) = noted(calm_studio, job, "begun"), noted(calm_studio, job, "cancelled_elsewhere")
        assert begun["token"] == ended["token"]
        assert noted(calm_studio, job, "last_step") == []


async def end(studio, book: Ledger, generation_id: str, how: str) -> None:
    """Cancel or delete a generation as its owner does."""
    if how == "cancelled":
        assert (await studio.http.post(f"/api/generate/{generation_id}/cancel")).status_code == 200
    else:
        assert (await studio.http.delete(f"/api/generate/{generation_id}")).status_code == 204
        book.forget(generation_id)


async def require_ended_elsewhere(studio, book: Ledger, generation_id: str, token: str) -> None:
    """The work that was begun was ended, once, and nothing is left to do."""

    async def is_over() -> bool:
        return not await book.fetch("SELECT FROM doomed_work")

    await until(is_over, "work elsewhere is ended")
    (ended,) = noted(studio, generation_id, "cancelled_elsewhere")
    assert ended["token"] == token
    assert not (studio.home / "elsewhere" / token).exists()


@pytest.mark.parametrize("how", ["cancelled", "deleted"])
async def test_what_waits_after_a_drain_and_is_then_ended_is_ended_elsewhere_too(lean_studio, steps_noted, how):
    studio = await lean_studio(workers=1, environment={"TINTYPE_WORKER_DRAIN_S": "0.2"})
    book = Ledger(studio)
    job = await book.ask(**LONG_ELSEWHERE, ends=["cancelled"])
    await steps_noted(studio, job, 1)
    token = await token_of(book, job)
    studio.workers[0].terminate()
    await asyncio.to_thread(studio.workers.pop().wait, 30)
    assert (await studio.read(job))["status"] == "queued"
    await end(studio, book, job, how)
    assert noted(studio, job, "cancelled_elsewhere") == [], "there is nobody who could"
    studio.start_worker()
    await require_ended_elsewhere(studio, book, job, token)
    await book.check()
    assert len(noted(studio, job, "run")) == 1


@pytest.mark.parametrize("how", ["cancelled", "deleted"])
async def test_what_a_killed_worker_left_and_is_then_ended_is_ended_elsewhere_too(lean_studio, steps_noted, kill, how):
    studio = await lean_studio(workers=1, environment=QUICK_DEATH)
    book = Ledger(studio)
    job = await book.ask(**LONG_ELSEWHERE, ends=["cancelled"])
    kill(await steps_noted(studio, job, 1))
    token = await token_of(book, job)
    await end(studio, book, job, how)
    studio.start_worker()
    await book.check()
    await require_ended_elsewhere(studio, book, job, token)
    assert len(noted(studio, job, "run")) == 1


async def test_work_elsewhere_ends_with_a_generation_that_is_given_up(lean_studio, steps_noted, kill):
    studio = await lean_studio(workers=1, environment={**QUICK_DEATH, "TINTYPE_WORKER_MAX_ATTEMPTS": "1"})
    book = Ledger(studio)
    job = await book.ask(**LONG_ELSEWHERE, ends=["failed"])
    kill(await steps_noted(studio, job, 1))
    token = await token_of(book, job)
    studio.start_worker()
    assert (await book.check())[job]["error_code"] == "worker_lost"
    await require_ended_elsewhere(studio, book, job, token)


async def test_work_elsewhere_that_cannot_be_ended_now_is_ended_when_it_can_whoever_died_meanwhile(
    lean_studio, steps_noted, kill, tmp_path
):
    away = tmp_path / "away"
    away.touch()
    studio = await lean_studio(workers=1, environment={"SCRIPTED_UNREACHABLE": str(away)})
    book = Ledger(studio)
    job = await book.ask(**LONG_ELSEWHERE, ends=["cancelled"])
    worker = await steps_noted(studio, job, 1)
    token = await token_of(book, job)
    await end(studio, book, job, "cancelled")
    await book.check()
    await until(lambda: len(noted(studio, job, "cancel_unheard")) >= 2, "it tries again")
    assert (studio.home / "elsewhere" / token).exists()
    kill(worker)
    studio.start_worker()
    away.unlink()
    await require_ended_elsewhere(studio, book, job, token)


async def test_work_elsewhere_that_could_not_be_ended_for_a_day_is_given_up_with_a_word(
    lean_studio, steps_noted, tmp_path
):
    away = tmp_path / "away"
    away.touch()
    studio = await lean_studio(workers=1, environment={"SCRIPTED_UNREACHABLE": str(away)})
    book = Ledger(studio)
    job = await book.ask(**LONG_ELSEWHERE, ends=["cancelled"])
    await steps_noted(studio, job, 1)
    token = await token_of(book, job)
    await end(studio, book, job, "cancelled")
    await book.check()
    studio.workers[0].terminate()
    await asyncio.to_thread(studio.workers.pop().wait, 30)
    aged = "UPDATE doomed_work SET doomed_at = doomed_at - interval '25 hours' RETURNING token"
    assert [row["token"] for row in await book.fetch(aged)] == [token]
    studio.start_worker()

    async def is_given_up() -> bool:
        return not await book.fetch("SELECT FROM doomed_work")

    await until(is_given_up, "the work is given up")
    said = [line for line in (studio.home / "worker.log").read_text().splitlines() if "given up" in line]
    assert len(said) == 1
    assert token in said[0]
    assert job in said[0]
