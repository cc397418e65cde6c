"""Cancelling and deleting: what waits, what runs, what has ended, and the same instant as the end."""

import asyncio
import time
import uuid

from tests import processes
from tests.conftest import on_both_kinds
from tests.faults.ledger import Ledger, files_in, require_legal, until

SLOW = {"steps": 200, "options": {"step_s": 0.1}}


def steps(studio, generation_id: str) -> list[float]:
    return [note["at"] for note in studio.notes(generation_id) if note["what"] == "step"]


@on_both_kinds
async def test_a_waiting_generation_is_cancelled_at_once_and_never_runs(calm_studio, steps_noted):
    book = Ledger(calm_studio)
    busy = [await book.ask(ends=["cancelled"], **SLOW) for _ in range(2 * processes.HELD)]
    waiting = await book.ask(ends=["cancelled"])
    answer = await calm_studio.http.post(f"/api/generate/{waiting}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    for job in busy:
        await calm_studio.http.post(f"/api/generate/{job}/cancel")
    await book.check()
    assert calm_studio.notes(waiting) == []


@on_both_kinds
async def test_a_running_generation_stops_within_one_step_of_its_cancel(calm_studio, steps_noted):
    book = Ledger(calm_studio)
    job = await book.ask(ends=["cancelled"], steps=40, options={"step_s": 0.5})
    await steps_noted(calm_studio, job, 2)
    before = len(steps(calm_studio, job))
    asked_at = time.time()
    answer = await calm_studio.http.post(f"/api/generate/{job}/cancel")
    assert answer.status_code == 200
    ended = await calm_studio.wait(job)
    assert ended["status"] == "cancelled"
    await book.check()
    assert len(steps(calm_studio, job)) <= before + 1
    assert time.time() - asked_at < 3
    assert not [note for note in calm_studio.notes(job) if note["what"] == "last_step"]


async def test_cancelling_twice_is_the_same_as_once_and_cancelling_what_has_ended_answers_409(calm_studio):
    book = Ledger(calm_studio)
    done = await book.ask()
    failed = await book.ask(ends=["failed"], options={"fail_code": "no_such_luck"})
    for job in (done, failed):
        await calm_studio.wait(job)
        answer = await calm_studio.http.post(f"/api/generate/{job}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (409, "generation_already_finished")
        assert answer.headers["content-type"] == "application/problem+json"
    gone = await book.ask(ends=["cancelled"], **SLOW)
    for _ in range(2):
        assert (await calm_studio.http.post(f"/api/generate/{gone}/cancel")).status_code == 200
    await calm_studio.wait(gone)
    assert (await calm_studio.http.post(f"/api/generate/{gone}/cancel")).json()["status"] == "cancelled"
    await book.check()


@on_both_kinds
async def test_fifty_cancels_that_race_with_the_end_each_leave_one_end_and_one_truth(calm_studio):
    book = Ledger(calm_studio)

    async def race(number: int) -> tuple[str, int]:
        job = await book.ask(ends=["completed", "cancelled"], options={"step_s": 0.02})
        await asyncio.sleep(number % 10 * 0.03)
        answer = await calm_studio.http.post(f"/api/generate/{job}/cancel")
        return job, answer.status_code

    answers = []
    for start in range(0, 50, 5):
        answers += await asyncio.gather(*(race(number) for number in range(start, start + 5)))
    rows = await book.check()
    for job, answered in answers:
        assert rows[job]["status"] == {200: "cancelled", 409: "completed"}[answered]
    assert len({answered for _, answered in answers}) == 2, "no race happened: every cancel had the same end"


async def test_deleting_a_running_generation_stops_it_and_leaves_nothing(calm_studio, steps_noted):
    book = Ledger(calm_studio)
    job = await book.ask(**SLOW)
    await steps_noted(calm_studio, job, 2)
    assert (await calm_studio.http.delete(f"/api/generate/{job}")).status_code == 204
    assert (await calm_studio.http.get(f"/api/generate/{job}")).status_code == 404
    book.forget(job)
    await book.check()
    at_end = len(steps(calm_studio, job))
    other = await book.ask(steps=5, options={"step_s": 0.2})
    await calm_studio.wait(other)
    assert len(steps(calm_studio, job)) == at_end, "it still runs"
    await book.check()
    left = await book.fetch("SELECT type FROM events WHERE generation_id = $1", uuid.UUID(job))
    assert [row["type"] for row in left] == ["deleted"]


async def test_deleting_a_finished_generation_deletes_its_files(calm_studio):
    book = Ledger(calm_studio)
    job = await book.ask(num_images=3)
    await calm_studio.wait(job)
    mine = [path for path in files_in(calm_studio.home / "media") if job in str(path)]
    assert len(mine) == 6
    assert (await calm_studio.http.delete(f"/api/generate/{job}")).status_code == 204
    book.forget(job)
    await book.check()
    assert not any(path.exists() for path in mine)


async def test_thirty_deletes_that_race_with_the_end_leave_no_file_behind(calm_studio):
    book = Ledger(calm_studio)

    async def race(number: int) -> None:
        job = await book.ask(num_images=2, options={"step_s": 0.02})
        last_step = lambda: any(note["what"] == "last_step" for note in calm_studio.notes(job))  # noqa: E731
        await until(last_step, "the last step", every_s=0.002)
        await asyncio.sleep(number % 10 * 0.006)
        assert (await calm_studio.http.delete(f"/api/generate/{job}")).status_code == 204
        book.forget(job)

    for start in range(0, 30, 3):
        await asyncio.gather(*(race(number) for number in range(start, start + 3)))
    await book.check()


async def test_retries_and_deletes_of_the_same_generation_at_once_leave_no_job_file_or_row_behind(calm_studio):
    book = Ledger(calm_studio)
    http = calm_studio.http

    async def retry(job: str) -> str:
        """The id of the new generation, or nothing where the old one is gone."""
        answer = await http.post(f"/api/generate/{job}/retry")
        assert answer.status_code in (202, 404), answer.text
        return answer.json()["id"] if answer.status_code == 202 else ""

    async def remove(job: str, *, after_s: float = 0.0) -> bool:
        await asyncio.sleep(after_s)
        answer = await http.delete(f"/api/generate/{job}")
        assert answer.status_code in (204, 404), answer.text
        return answer.status_code == 204

    async def hammer(number: int) -> tuple[int, int]:
        job = await book.ask(num_images=2)
        await calm_studio.wait(job)
        retries = [retry(job) for _ in range(6)]
        removes = [remove(job, after_s=number % 5 * 0.01) for _ in range(3)]
        *made, first, second, third = await asyncio.gather(*retries, *removes)
        assert (first, second, third).count(True) == 1, "deleted once, by one of them"
        book.forget(job)
        accepted = [name for name in made if name]
        for place, name in enumerate(accepted):
            book.expect(name, pictures=2)
            if place % 2:  # this one goes at once: it waits, runs or has just ended
                assert await remove(name, after_s=place * 0.02)
                book.forget(name)
        runs = [note["what"] for note in calm_studio.notes(job)].count("run")
        assert runs == 1, "a deleted generation ran again"
        return len(accepted), len(made) - len(accepted)

    counts = []
    for start in range(0, 15, 3):
        counts += await asyncio.gather(*(hammer(number) for number in range(start, start + 3)))
    rows = await book.check()
    assert all(row["retry_of"] is None for row in rows.values())
    gone = [uuid.UUID(name) for name, asked in book.asked.items() if not asked.ends]
    kinds = await book.fetch("SELECT generation_id, type FROM events WHERE generation_id = ANY($1)", gone)
    assert sorted(row["generation_id"] for row in kinds) == sorted(gone), "each left its `deleted` and nothing else"
    due = await book.fetch("SELECT key FROM doomed_files WHERE due_at < now() - interval '5 seconds'")
    assert due == []
    accepted, refused = map(sum, zip(*counts, strict=True))
    assert accepted, "no race happened: every retry came too late"
    assert refused, "no race happened: every delete came too late"


def test_the_ledger_refuses_two_ends_a_start_too_many_and_events_after_the_end():
    good = ["queued", "started", "image", "completed"]
    require_legal(good, status="completed", attempt=1, pictures=1)
    for bad in (
        [*good, "completed"],
        ["queued", "started", "cancelled", "completed"],
        ["queued", "started", "started", "image", "completed"],
        ["queued", "image", "completed"],
        ["started", "image", "completed"],
        good[:-1],
    ):
        try:
            require_legal(bad, status="completed", attempt=1, pictures=1)
        except AssertionError:
            continue
        raise AssertionError(f"accepted {bad}")
