"""Workers that are stopped (SIGSTOP), thought dead, and continued: what they do then changes nothing."""

import json
import os
import signal
import uuid

from tests.faults.ledger import Ledger, files_in, until, watching


def has_dropped(studio, pid: int, generation_id: str) -> bool:
    """Whether the worker has logged that it let the attempt go."""
    lines = (studio.home / "worker.log").read_text().splitlines()
    said = [json.loads(line) for line in lines if line.startswith("{") and generation_id in line]
    return any(line["pid"] == pid and line["event"].startswith(("stopped", "attempt is over")) for line in said)


async def everything(book: Ledger, generation_id: str) -> list:
    """All that is kept of a generation."""
    key = uuid.UUID(generation_id)
    rows = await book.fetch("SELECT * FROM generations WHERE id = $1", key)
    media = await book.fetch("SELECT * FROM media WHERE generation_id = $1 ORDER BY id", key)
    events = await book.fetch("SELECT * FROM events WHERE generation_id = $1 ORDER BY id", key)
    files = {path: path.read_bytes() for path in files_in(book.studio.home / "media") if generation_id in str(path)}
    return [rows, media, events, files]


async def test_a_worker_continued_after_another_finished_its_job_changes_nothing(lean_studio, steps_noted):
    studio = await lean_studio(workers=2)
    book = Ledger(studio)
    job = await book.ask(num_images=2, steps=2, options={"step_s": 1.5})
    zombie = await steps_noted(studio, job, 2)  # the next thing it does is to give the pictures
    os.kill(zombie, signal.SIGSTOP)
    async with watching(studio, job, pictures=2):
        assert await steps_noted(studio, job, 1, run=2) != zombie
        await studio.wait(job)
        before = await everything(book, job)
        os.kill(zombie, signal.SIGCONT)
        await until(lambda: has_dropped(studio, zombie, job), "the zombie lets its attempt go")
    await book.check()
    assert await everything(book, job) == before
    assert before[0][0]["attempt"] == 2


async def test_a_job_is_recovered_when_a_zombie_took_it_out_of_line_and_its_second_worker_died(
    lean_studio, steps_noted, kill, record_property
):
    studio = await lean_studio(workers=2)
    book = Ledger(studio)
    job = await book.ask(num_images=2, steps=12, options={"step_s": 0.4})
    zombie = await steps_noted(studio, job, 2)
    os.kill(zombie, signal.SIGSTOP)
    async with watching(studio, job, pictures=2) as seen:
        second = await steps_noted(studio, job, 1, run=2)
        os.kill(zombie, signal.SIGCONT)
        await until(lambda: has_dropped(studio, zombie, job), "the zombie lets its attempt go")

        async def is_out_of_line() -> bool:
            return not await book.fetch("SELECT id FROM pgqueuer WHERE dedupe_key = $1", job)

        await until(is_out_of_line, "the zombie's end removes the job from the queue")
        assert sum(note["what"] == "run" for note in studio.notes(job)) == 2
        killed_at = kill(second)
        assert await steps_noted(studio, job, 1, run=3) == zombie
        again_at = [note["at"] for note in studio.notes(job) if note["what"] == "run"][2]
        await studio.wait(job)
    assert seen.statuses(until=again_at) == {"processing"}
    row = (await book.check())[job]
    assert (row["attempt"], row["failures"]) == (3, 2)
    record_property("recovery_by_sweep_s", again_at - killed_at)
    print(f"found by the sweep and run again {again_at - killed_at:.2f} s after kill -9")
