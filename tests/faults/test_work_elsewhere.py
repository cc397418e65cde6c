"""Work that goes on outside the worker: whatever becomes of the worker, it is found again and never begun twice."""

from tests.faults.ledger import Ledger

ELSEWHERE = {"steps": 40, "options": {"step_s": 0.1, "elsewhere": True}}
LONG_ELSEWHERE = {"steps": 1000, "options": {"step_s": 0.1, "elsewhere": True}}


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
