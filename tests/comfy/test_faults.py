"""Runs through what goes wrong: sockets that break, servers that die, a history that lags, memory that runs out."""

import asyncio
import time

import pytest

from tests.comfy.conftest import SOON
from tests.comfy.events import all_of, new_prefix, perform, steps
from tests.standins.comfyui import graphs
from tests.standins.comfyui.server import ComfyUI
from tintype.comfy import cancelling, runs
from tintype.comfy.client import Server, Timeouts
from tintype.comfy.errors import (
    OutOfMemoryError,
    PromptForgottenError,
    PromptInterruptedError,
    StillRunningError,
    UnreachableError,
)
from tintype.comfy.messages import PreviewFrame
from tintype.comfy.runs import Done, Event

CHECKPOINT = "bench.safetensors"


def drawn(*, steps: int = 4, seed: int = 1) -> graphs.Graph:
    return graphs.text_to_image(CHECKPOINT, prefix=new_prefix(), steps=steps, seed=seed)


def asked(standin: ComfyUI, method: str, path: str) -> int:
    """How often the stand-in was asked for that."""
    return sum(each[0] == method and each[1].startswith(path) for each in standin.requests)


@pytest.mark.parametrize("after", [3, 12, 20])
async def test_a_dropped_socket_loses_no_job_and_sends_none_twice(standin: ComfyUI, client: Server, after: int):
    standin.faults.step_s, standin.faults.drop_after = 0.1, after
    events = await all_of(runs.perform(client, runs.book(client), drawn(steps=6)))
    assert isinstance(events[-1], Done)
    assert standin.faults.drop_after is None
    assert asked(standin, "POST", "/prompt") == 1


async def test_progress_goes_on_after_a_dropped_socket(standin: ComfyUI, client: Server):
    standin.faults.step_s = 0.1
    standin.faults.drop_after = 16
    events = await all_of(runs.perform(client, runs.book(client), drawn(steps=12)))
    assert standin.faults.drop_after is None
    assert steps(events)[-1].step == 12
    assert any(isinstance(event, PreviewFrame) for event in events[-8:])


async def test_a_job_that_ends_while_the_socket_is_away_is_found_in_the_history(standin: ComfyUI, client: Server):
    def drop(event: Event) -> None:
        if steps([event]) and not standin.faults.no_sockets:
            standin.faults.no_sockets = True
            standin.drop_sockets()

    standin.faults.step_s = 0.02
    events = await all_of(runs.perform(client, runs.book(client), drawn()), drop)
    assert isinstance(events[-1], Done)


async def test_a_job_that_ended_while_the_socket_was_away_is_found_when_it_is_back(standin: ComfyUI):
    async def end_unseen(event: Event) -> None:
        if steps([event]) and not standin.memory.history:
            standin.faults.no_sockets = True
            standin.drop_sockets()
            while not standin.memory.history:
                await asyncio.sleep(0.01)
            standin.faults.no_sockets = False

    standin.faults.step_s = 0.02
    async with Server(standin.url, Timeouts(silence_s=60, poll_s=60)) as client:
        events = runs.perform(client, runs.book(client), drawn())
        assert isinstance((await asyncio.wait_for(all_of(events, end_unseen), 10))[-1], Done)


async def test_a_server_without_sockets_is_asked_until_the_job_is_done(standin: ComfyUI, client: Server):
    standin.faults.no_sockets = True
    assert (await perform(client, drawn())).files


async def test_a_killed_server_that_comes_back_has_forgotten_and_runs_it_when_sent_again(
    standin: ComfyUI, client: Server
):
    async def revive() -> None:
        while standin.faults.die_after is not None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        await standin.start()

    standin.faults.die_after = 12
    reviving = asyncio.create_task(revive())
    with pytest.raises(PromptForgottenError) as caught:
        await perform(client, drawn())
    await reviving
    assert caught.value.retryable
    assert (await perform(client, drawn())).files


async def test_a_killed_server_that_stays_away_is_given_up_after_a_while(standin: ComfyUI):
    standin.faults.die_after = 12
    async with Server(standin.url, Timeouts(poll_s=0.05, absence_s=0.5)) as client:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="cannot be reached") as caught:
            await perform(client, drawn())
    assert caught.value.retryable
    assert 0.5 <= time.monotonic() - began < 5


async def test_a_prompt_whose_answer_was_lost_runs_once(standin: ComfyUI, client: Server):
    standin.faults.lost_answers = 1
    assert (await perform(client, drawn())).files
    assert asked(standin, "POST", "/prompt") == 1
    assert len(standin.memory.history) == 1


async def test_memory_that_runs_out_is_named_and_worth_another_try(standin: ComfyUI, client: Server):
    standin.faults.out_of_memory = 1
    with pytest.raises(OutOfMemoryError, match=r"'Sampler' .KSampler.: the device of ComfyUI ran out") as caught:
        await perform(client, drawn())
    assert (caught.value.code, caught.value.retryable) == ("out_of_memory", True)
    assert (await perform(client, drawn())).files


async def test_memory_that_a_real_server_ran_out_of_is_recognised(client: Server):
    with pytest.raises(OutOfMemoryError, match=r"'Canvas' .EmptyImage."):
        await perform(client, graphs.too_large(prefix=new_prefix()))


@pytest.mark.parametrize("lag_s", [0.0, 0.011, 0.3])
async def test_a_history_that_lags_is_waited_for(standin: ComfyUI, client: Server, lag_s: float):
    standin.faults.lag_s = lag_s
    assert (await perform(client, drawn())).files


async def test_a_history_that_lags_behind_the_news_of_success_is_waited_for(standin: ComfyUI, client: Server):
    standin.faults.race_s = 0.2
    assert (await perform(client, drawn())).files


async def test_pictures_still_under_way_when_the_history_tells_of_the_end_are_waited_for(standin: ComfyUI):
    standin.faults.step_s, standin.faults.late_s = 0.2, 0.4
    graph = graphs.text_to_image(CHECKPOINT, prefix="", batch=3, save="SaveImageWebsocket")
    async with Server(standin.url, Timeouts(silence_s=0.05)) as client:
        events = await all_of(runs.perform(client, runs.book(client), graph))
    sent = [event for event in events if isinstance(event, PreviewFrame) and event.media_type == "image/png"]
    assert len(sent) == 3
    assert isinstance(events[-1], Done)


@pytest.mark.parametrize("size", [(1 << 20) + 1, 17 << 20])
@pytest.mark.parametrize("has_flags", [True, False], ids=["described", "bare"])
async def test_huge_frames_arrive_whole(
    standin: ComfyUI, client: Server, size: int, has_flags: bool, monkeypatch: pytest.MonkeyPatch
):
    if not has_flags:
        monkeypatch.setattr("tintype.comfy.sockets.HELLO", "{}")
    standin.faults.frame_bytes = size
    events = await all_of(runs.perform(client, runs.book(client), drawn()))
    frames = [event for event in events if isinstance(event, PreviewFrame)]
    assert frames
    assert {(frame.media_type, len(frame.data)) for frame in frames} == {("image/jpeg", size)}
    assert {frame.node for frame in frames} == {"3" if has_flags else None}


async def test_who_is_slow_to_take_previews_holds_nobody_up_and_gets_the_newest(standin: ComfyUI, client: Server):
    standin.faults.frame_bytes = 1 << 20
    ticket = runs.book(client)

    async def dawdle(event: Event) -> None:
        if isinstance(event, PreviewFrame):
            while await cancelling.locate(client, ticket.prompt_id) != "ended":
                await asyncio.sleep(0.01)

    events = await asyncio.wait_for(all_of(runs.perform(client, ticket, drawn(steps=60)), dawdle), 20)
    assert sum(isinstance(event, PreviewFrame) for event in events) < 10
    assert steps(events)[-1].step == 60
    assert isinstance(events[-1], Done)


async def test_a_socket_whose_client_id_another_took_over_still_learns_the_outcome(standin: ComfyUI, client: Server):
    standin.faults.step_s = 0.05
    ticket = runs.book(client)
    first = asyncio.create_task(all_of(runs.perform(client, ticket, drawn(steps=20))))
    while standin.memory.running is None:
        await asyncio.sleep(0.01)
    second = asyncio.create_task(all_of(runs.follow(client, ticket)))
    done = await asyncio.gather(first, second)
    assert done[0][-1] == done[1][-1]
    assert steps(done[1])[-1].step == 20
    assert len(steps(done[0])) < 20


async def test_previews_of_prompts_without_a_client_are_nobodys(standin: ComfyUI, client: Server):
    """They go to everybody, without the name of their prompt."""
    standin.faults.step_s = 0.02
    body = {"prompt": graphs.text_to_image(CHECKPOINT, prefix=new_prefix(), seed=5, steps=9)}
    assert (await client.ask("POST", "prompt", json=body)).status_code == 200
    events = await all_of(runs.perform(client, runs.book(client), drawn(steps=3)))
    assert {step.steps for step in steps(events)} == {3}
    frames = [event for event in events if isinstance(event, PreviewFrame)]
    assert len(frames) <= 3
    assert {frame.node for frame in frames} == {"3"}


async def test_a_prompt_is_not_asked_about_while_its_server_talks(standin: ComfyUI, client: Server):
    standin.faults.step_s = 0.1
    await perform(client, drawn(steps=15))
    assert asked(standin, "GET", "/history") == 1
    assert asked(standin, "GET", "/queue") == 0


async def test_a_prompt_that_waits_long_is_asked_about_now_and_then(standin: ComfyUI, client: Server):
    standin.faults.step_s = 0.1
    ahead = asyncio.create_task(perform(client, drawn(steps=20)))
    await asyncio.sleep(0.1)
    await perform(client, graphs.flat(prefix=new_prefix()))
    await ahead
    assert 1 <= asked(standin, "GET", "/queue") <= 6


async def test_closing_the_iterator_closes_the_socket_and_ends_nothing(standin: ComfyUI, client: Server):
    standin.faults.step_s = 0.05
    ticket = runs.book(client)
    events = runs.perform(client, ticket, drawn(steps=10))
    await anext(events)
    assert list(standin.memory.sockets) == [ticket.client_id]
    await events.aclose()
    await asyncio.sleep(0.05)
    assert standin.memory.sockets == {}
    assert await cancelling.locate(client, ticket.prompt_id) == "running"
    assert isinstance((await all_of(runs.follow(client, ticket)))[-1], Done)


async def test_a_prompt_that_begins_while_it_is_cancelled_ends_all_the_same(standin: ComfyUI, client: Server):
    standin.faults.step_s, standin.faults.begins_first = 0.05, True
    ticket = runs.book(client)
    ahead = asyncio.create_task(perform(client, drawn(steps=4)))
    while standin.memory.running is None:
        await asyncio.sleep(0.001)
    await client.submit(drawn(steps=5000), prompt_id=ticket.prompt_id, client_id=ticket.client_id)
    assert await cancelling.cancel(client, ticket.prompt_id) == "waiting"
    assert await cancelling.locate(client, ticket.prompt_id) == "ended"
    assert (await ahead).files


async def test_a_node_that_cannot_be_broken_off_is_reported(standin: ComfyUI):
    standin.faults.step_s = 1.5
    async with Server(standin.url, Timeouts(cancel_s=0.3)) as client:
        ticket = runs.book(client)
        running = asyncio.create_task(perform(client, drawn(steps=2), ticket))
        while standin.memory.running is None:
            await asyncio.sleep(0.01)
        with pytest.raises(StillRunningError, match=r"still runs 0\.3 s after") as caught:
            await cancelling.cancel(client, ticket.prompt_id)
        assert caught.value.retryable
        with pytest.raises(PromptInterruptedError):
            await running


async def test_two_jobs_at_once_each_get_their_own_through_a_dropped_socket(standin: ComfyUI, client: Server):
    standin.faults.step_s, standin.faults.drop_after = 0.02, 14
    found = await asyncio.gather(
        *(all_of(runs.perform(client, runs.book(client), drawn(steps=count, seed=count))) for count in (7, 9))
    )
    assert [{step.steps for step in steps(events)} for events in found] == [{7}, {9}]
    assert found[0][-1] != found[1][-1]


async def test_a_queue_that_somebody_emptied_is_noticed(standin: ComfyUI, client: Server):
    standin.faults.step_s = 0.2
    ahead = asyncio.create_task(perform(client, drawn(steps=12)))
    await asyncio.sleep(0.1)
    waiting = asyncio.create_task(perform(client, graphs.flat(prefix=new_prefix())))
    await asyncio.sleep(0.2)
    await client.ask("POST", "queue", json={"clear": True})
    with pytest.raises(PromptForgottenError):
        await waiting
    await ahead


async def test_no_connection_is_left_open(standin: ComfyUI):
    async with Server(standin.url, SOON) as client:
        await perform(client, drawn())
    await asyncio.sleep(0.05)
    assert standin.memory.sockets == {}
    assert standin.connections == 0
