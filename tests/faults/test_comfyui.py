"""A ComfyUI that fails in every way while a job runs there, and workers that die beside it: each picture comes once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.comfy import studios
from tests.faults.ledger import Ledger, until, watching
from tests.processes import RunningStudio
from tests.standins.comfyui import server
from tests.standins.comfyui.server import ComfyUI

STEP_S = 0.05
LONG = {"model": "drawn", "steps": 60}
LARGE_FRAME_BYTES = 24 << 20


@pytest.fixture
async def comfyui(tmp_path: Path) -> AsyncIterator[ComfyUI]:
    """A server of this test alone, with steps that take a while."""
    async with server.running(tmp_path / "comfyui") as started:
        started.faults.step_s = STEP_S
        yield started


@pytest.fixture
async def comfy_studio(new_studio, tmp_path: Path) -> Callable[..., Any]:
    """Start a studio whose pictures these servers make."""

    async def start(*servers: ComfyUI, workers: int = 1, **environment: str) -> RunningStudio:
        studios.add_workflows(RunningStudio(home=tmp_path / "home0", url=""), "drawn")
        return await new_studio(workers=workers, environment={**studios.environment(tmp_path, *servers), **environment})

    return start


def posted(comfyui: ComfyUI) -> int:
    """How many prompts were sent."""
    return comfyui.requests.count(("POST", "/prompt"))


async def has_begun(studio: RunningStudio, generation_id: str) -> None:
    """Wait until some steps are done."""

    async def is_amid() -> bool:
        progress = (await studio.read(generation_id))["progress"]
        return progress is not None and progress["step"] >= 3

    await until(is_amid, "it is drawn", timeout_s=40)


async def has_completed(book: Ledger, generation_id: str, *, attempt: int = 1) -> None:
    row = (await book.check())[generation_id]
    assert row["attempt"] == attempt


async def test_a_dropped_socket_costs_nothing(comfy_studio, comfyui):
    studio = await comfy_studio(comfyui)
    book = Ledger(studio)
    job = await book.ask(**LONG)
    await has_begun(studio, job)
    comfyui.drop_sockets()
    await has_completed(book, job)
    assert posted(comfyui) == 1


async def test_a_server_that_died_and_forgot_gets_the_job_again(comfy_studio, comfyui):
    studio = await comfy_studio(comfyui)
    book = Ledger(studio)
    job = await book.ask(num_images=2, **LONG)
    await has_begun(studio, job)
    async with watching(studio, job, pictures=2):
        await comfyui.kill()
        await asyncio.sleep(0.5)
        comfyui.faults.step_s = 0.0
        await comfyui.start()
        await has_completed(book, job)
    assert posted(comfyui) == 4
    await until(lambda: not studios.files_of(comfyui), "nothing is left")


async def test_a_server_that_ran_out_of_memory_gets_the_job_again_and_fails_it_in_the_end(comfy_studio, comfyui):
    comfyui.faults.step_s = 0.0
    comfyui.faults.out_of_memory = 1
    studio = await comfy_studio(comfyui, TINTYPE_WORKER_MAX_ATTEMPTS="2")
    book = Ledger(studio)
    await has_completed(book, await book.ask(model="drawn"), attempt=2)
    comfyui.faults.out_of_memory = 10
    job = await book.ask(model="drawn", ends=["failed"])
    row = (await book.check())[job]
    assert row["error_code"] == "out_of_memory"
    assert not comfyui.memory.history, "words of a failed job stayed behind"


async def test_a_history_that_lags_is_waited_for(comfy_studio, comfyui):
    comfyui.faults.step_s = 0.0
    comfyui.faults.lag_s = 1.0
    studio = await comfy_studio(comfyui)
    book = Ledger(studio)
    await has_completed(book, await book.ask(model="drawn", num_images=2))
    assert posted(comfyui) == 2


async def test_huge_frames_and_files_that_break_off_half_way_do_no_harm(comfy_studio, comfyui):
    comfyui.faults.frame_bytes = LARGE_FRAME_BYTES
    comfyui.faults.cut_files = 1
    studio = await comfy_studio(comfyui)
    book = Ledger(studio)
    await has_completed(book, await book.ask(model="drawn", steps=4))
    assert posted(comfyui) == 1


async def test_an_answer_that_is_lost_makes_no_second_prompt(comfy_studio, comfyui):
    comfyui.faults.lost_answers = 1
    studio = await comfy_studio(comfyui)
    book = Ledger(studio)
    await has_completed(book, await book.ask(model="drawn", steps=4))
    assert posted(comfyui) == 1


async def test_another_worker_finds_the_prompts_of_a_killed_one_and_every_picture_is_made_once(
    comfy_studio, comfyui, kill
):
    studio = await comfy_studio(comfyui)
    book = Ledger(studio)
    job = await book.ask(num_images=2, **LONG)
    await has_begun(studio, job)
    (token,) = [row["checkpoint"] for row in await book.fetch("SELECT checkpoint FROM generations")]
    assert token.endswith(comfyui.url)
    kill(studio.workers[0].pid)
    studio.start_worker()
    await has_completed(book, job, attempt=2)
    assert posted(comfyui) == 2, "what ran was drawn again"
    await until(lambda: not studios.files_of(comfyui), "nothing is left")


async def test_what_was_finished_while_no_worker_was_there_is_fetched_by_the_next(comfy_studio, comfyui, kill):
    studio = await comfy_studio(comfyui)
    book = Ledger(studio)
    job = await book.ask(**LONG)
    await has_begun(studio, job)
    kill(studio.workers[0].pid)
    await until(lambda: len(studios.files_of(comfyui)) == 1, "the server finishes it")
    studio.start_worker()
    await has_completed(book, job, attempt=2)
    assert posted(comfyui) == 1


async def test_a_drain_leaves_the_prompt_running_and_the_next_worker_follows_it(comfy_studio, comfyui):
    studio = await comfy_studio(comfyui, TINTYPE_WORKER_DRAIN_S="0.2")
    book = Ledger(studio)
    job = await book.ask(**LONG)
    await has_begun(studio, job)
    studio.workers[0].terminate()
    studio.start_worker()
    await has_completed(book, job, attempt=2)
    assert posted(comfyui) == 1


@pytest.mark.parametrize("how", ["cancelled", "deleted"])
async def test_a_job_whose_worker_was_killed_is_ended_at_the_server_too(comfy_studio, comfyui, kill, how):
    studio = await comfy_studio(comfyui)
    book = Ledger(studio)
    job = await book.ask(model="drawn", steps=1000, ends=["cancelled"])
    await has_begun(studio, job)
    kill(studio.workers[0].pid)
    if how == "deleted":
        assert (await studio.http.delete(f"/api/generate/{job}")).status_code == 204
        book.forget(job)
    else:
        assert (await studio.http.post(f"/api/generate/{job}/cancel")).status_code == 200
    studio.start_worker()
    await until(lambda: comfyui.memory.running is None, "it is broken off")
    await book.check()
    await until(lambda: not comfyui.memory.history, "nothing is left of it")


async def test_while_the_server_is_away_jobs_wait_and_health_says_so(comfy_studio, comfyui):
    await comfyui.kill()
    studio = await comfy_studio(comfyui)

    async def said() -> str:
        health = (await studio.http.get("/health/detailed")).json()
        return health["providers"].get("comfyui", {}).get("detail", "")

    assert "cannot be reached" in await until(said, "health says so")
    book = Ledger(studio)
    job = await book.ask(model="drawn", steps=4)
    await asyncio.sleep(2)
    assert (await studio.read(job))["status"] == "queued"
    await comfyui.start()
    await has_completed(book, job)


async def test_where_there_are_two_servers_one_that_died_is_replaced_by_the_other(comfy_studio, comfyui, tmp_path):
    async with server.running(tmp_path / "other") as other:
        studio = await comfy_studio(comfyui, other)
        book = Ledger(studio)
        job = await book.ask(**LONG)
        await has_begun(studio, job)
        first, second = (comfyui, other) if posted(comfyui) else (other, comfyui)
        await first.kill()
        assert posted(second) == 0
        await has_completed(book, job)
        assert posted(second) == 1
        health = (await studio.http.get("/health/detailed")).json()
        assert "cannot be reached" in health["providers"][f"comfyui {first.url}"]["detail"]


async def test_jobs_go_to_the_server_that_has_least_to_do(comfy_studio, comfyui, tmp_path):
    async with server.running(tmp_path / "other") as other:
        other.faults.step_s = STEP_S
        studio = await comfy_studio(comfyui, other)
        book = Ledger(studio)
        for _ in range(4):
            await book.ask(model="drawn", steps=40)
            await asyncio.sleep(0.2)
        await book.check()
        assert (posted(comfyui), posted(other)) == (2, 2)


async def test_a_server_that_was_idle_for_long_is_asked_to_give_back_its_memory(comfy_studio, comfyui):
    comfyui.faults.step_s = 0.0
    studio = await comfy_studio(comfyui, TINTYPE_COMFY_FREE_AFTER_S="0.5")
    await asyncio.sleep(3)
    assert comfyui.freed == 0, "it was never used"
    book = Ledger(studio)
    await has_completed(book, await book.ask(model="drawn"))
    await until(lambda: comfyui.freed == 1, "it is asked")
    await asyncio.sleep(3)
    assert comfyui.freed == 1, "once is enough"
