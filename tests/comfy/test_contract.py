"""What Tintype relies on in ComfyUI: alike for the stand-in and, where COMFYUI_URL names one, a real server."""

import asyncio
import io
import uuid

import httpx
import pytest
from PIL import Image

from tests.comfy.events import all_of, new_prefix, perform, steps
from tests.standins.comfyui import graphs
from tintype.comfy import cancelling, files, runs
from tintype.comfy.client import File, Server
from tintype.comfy.errors import (
    ModelMissingError,
    NodeFailedError,
    NodeMissingError,
    PromptForgottenError,
    PromptInterruptedError,
    ResultMissingError,
    WorkflowRefusedError,
)
from tintype.comfy.messages import PreviewFrame
from tintype.comfy.runs import Done, Step

MOST_BYTES = 10 << 20
LONG = 5000
"""Steps that no test waits for."""

HEADS = {"SaveAnimatedWEBP": b"RIFF", "SaveWEBM": b"\x1aE\xdf\xa3", "SaveVideo": b"ftyp"}


@pytest.fixture
async def checkpoint(comfyui: Server) -> str:
    """A model the server has, the smallest by its name."""
    found = await comfyui.models("checkpoints")
    if not found:
        pytest.skip("the server has no checkpoint")
    return min(found, key=lambda name: ("tiny" not in name, "bench" not in name, name))


def new_seed() -> int:
    return uuid.uuid4().int % 2**32


def picture(color: int, *, seed: int = 0) -> bytes:
    into = io.BytesIO()
    Image.new("RGB", (32, 24), (color, seed % 256, seed // 256 % 256)).save(into, format="PNG")
    return into.getvalue()


async def is_idle(server: Server) -> bool:
    return await server.remaining() == 0


async def test_a_workflow_runs_and_its_picture_comes_back_whole(comfyui: Server, checkpoint: str):
    graph = graphs.text_to_image(checkpoint, prefix=new_prefix(), seed=new_seed(), steps=3)
    events = await all_of(runs.perform(comfyui, runs.book(comfyui), graph))
    counted = [(step.step, step.steps) for step in steps(events) if step.node == "3"]
    assert counted[-1] == (3, 3)
    assert counted == sorted(set(counted))
    assert Step(node="8", step=0, steps=0) in events
    done = events[-1]
    assert isinstance(done, Done)
    assert [(file.node, file.kind, file.is_animated) for file in done.files] == [("9", "images", False)]
    data = await files.read(comfyui, done.files[0], most_bytes=MOST_BYTES)
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (64, 64)
        assert "prompt" in image.info


async def test_a_batch_gives_as_many_pictures_under_names_of_their_own(comfyui: Server, checkpoint: str):
    done = await perform(comfyui, graphs.text_to_image(checkpoint, prefix=new_prefix(), seed=new_seed(), batch=3))
    assert len({file.name for file in done.files}) == 3
    contents = {await files.read(comfyui, file, most_bytes=MOST_BYTES) for file in done.files}
    assert len(contents) == 3


@pytest.mark.parametrize("kind", sorted(HEADS))
async def test_a_video_comes_among_the_pictures_and_is_known_as_one(comfyui: Server, kind: str):
    if kind not in await comfyui.object_info():
        pytest.skip(f"the server has no {kind}")
    done = await perform(comfyui, graphs.video(kind, prefix=new_prefix()))
    assert [(file.kind, file.is_animated) for file in done.files] == [("images", True)]
    assert HEADS[kind] in (await files.read(comfyui, done.files[0], most_bytes=MOST_BYTES))[:12]


async def test_a_repeated_workflow_gives_the_old_file_unless_its_prefix_is_new(comfyui: Server):
    color = new_seed() % 0xFFFFFF
    first = await perform(comfyui, graphs.flat(prefix=(prefix := new_prefix()), color=color))
    again = await perform(comfyui, graphs.flat(prefix=prefix, color=color))
    assert (again.files, set(again.cached)) == (first.files, {"1", "2"})
    other = await perform(comfyui, graphs.flat(prefix=new_prefix(), color=color))
    assert other.cached == ("1",)
    assert other.files[0].subfolder != first.files[0].subfolder


async def test_a_result_that_was_removed_is_no_longer_there(comfyui: Server):
    done = await perform(comfyui, graphs.flat(prefix=new_prefix()))
    assert await files.remove(comfyui, done.files[0]) == "emptied"
    with pytest.raises(ResultMissingError, match="no longer has"):
        await files.read(comfyui, done.files[0], most_bytes=MOST_BYTES)


async def test_a_result_that_never_was_is_missing(comfyui: Server):
    with pytest.raises(ResultMissingError):
        await files.read(comfyui, File(name="never.png", subfolder="tintype-tests"), most_bytes=MOST_BYTES)


async def test_an_upload_is_what_a_workflow_reads_and_is_named_by_its_content(comfyui: Server):
    data = picture(10, seed=new_seed())
    name = await files.upload(comfyui, data, suffix=".png")
    assert await files.upload(comfyui, data, suffix=".png") == name
    assert await files.upload(comfyui, picture(20, seed=new_seed()), suffix=".png") != name
    done = await perform(comfyui, graphs.loaded(name, prefix=new_prefix()))
    with Image.open(io.BytesIO(await files.read(comfyui, done.files[0], most_bytes=MOST_BYTES))) as image:
        with Image.open(io.BytesIO(data)) as sent:
            assert image.convert("RGB").tobytes() == sent.tobytes()


async def test_an_upload_whose_name_is_taken_goes_by_the_name_the_server_gives(comfyui: Server):
    data = picture(30, seed=new_seed())
    expected = await files.upload(comfyui, data, suffix=".png")
    folder, _, name = expected.rpartition("/")
    await comfyui.ask(
        "POST",
        "upload/image",
        data={"subfolder": folder, "overwrite": "true"},
        files={"image": (name, b"something else")},
    )
    given = await files.upload(comfyui, data, suffix=".png")
    assert given != expected
    assert await files.upload(comfyui, data, suffix=".png") == given
    await perform(comfyui, graphs.loaded(given, prefix=new_prefix()))


async def test_a_running_prompt_ends_when_cancelled_and_the_next_one_runs(comfyui: Server, checkpoint: str):
    long = graphs.text_to_image(checkpoint, prefix=new_prefix(), seed=new_seed(), steps=LONG)
    ticket, is_running = runs.book(comfyui), asyncio.Event()
    first = asyncio.create_task(
        all_of(runs.perform(comfyui, ticket, long), lambda event: is_running.set() if steps([event]) else None)
    )
    await is_running.wait()
    second = asyncio.create_task(perform(comfyui, graphs.flat(prefix=new_prefix())))
    assert await cancelling.cancel(comfyui, ticket.prompt_id) == "running"
    with pytest.raises(PromptInterruptedError, match="Sampler"):
        await first
    assert (await second).files
    assert await cancelling.cancel(comfyui, ticket.prompt_id) == "ended"


async def test_a_waiting_prompt_leaves_the_queue_when_cancelled_and_the_running_one_stays(
    comfyui: Server, checkpoint: str
):
    long = graphs.text_to_image(checkpoint, prefix=new_prefix(), seed=new_seed(), steps=LONG)
    running, waiting = runs.book(comfyui), runs.book(comfyui)
    for ticket, graph in ((running, long), (waiting, graphs.flat(prefix=new_prefix()))):
        await comfyui.submit(graph, prompt_id=ticket.prompt_id, client_id=ticket.client_id)
    try:
        while await cancelling.locate(comfyui, running.prompt_id) != "running":
            await asyncio.sleep(0.01)
        assert (await comfyui.queue()).waiting == (waiting.prompt_id,)
        assert await cancelling.cancel(comfyui, waiting.prompt_id) == "waiting"
        assert await cancelling.locate(comfyui, waiting.prompt_id) == "unknown"
        assert await cancelling.locate(comfyui, running.prompt_id) == "running"
    finally:
        await cancelling.cancel(comfyui, running.prompt_id)
    assert await is_idle(comfyui)


async def test_cancelling_what_was_never_there_touches_nothing(comfyui: Server):
    assert await cancelling.cancel(comfyui, str(uuid.uuid4())) == "unknown"


async def test_a_workflow_at_fault_in_part_is_refused_and_nothing_of_it_stays(comfyui: Server):
    ticket = runs.book(comfyui)
    with pytest.raises(WorkflowRefusedError, match=r"'Wrong canvas' .EmptyImage.: 'width' is 0, and 1 is the least"):
        await perform(comfyui, graphs.half_wrong(prefix=new_prefix()), ticket)
    assert await cancelling.locate(comfyui, ticket.prompt_id) in ("unknown", "ended")
    assert await is_idle(comfyui)


async def test_a_model_that_is_missing_is_named_with_its_node(comfyui: Server):
    with pytest.raises(ModelMissingError, match=r"'Checkpoint' .CheckpointLoaderSimple.*'none-such.safetensors'"):
        await perform(comfyui, graphs.text_to_image("none-such.safetensors", prefix=new_prefix()))


async def test_a_node_that_is_missing_is_named(comfyui: Server):
    graph = graphs.flat(prefix=new_prefix())
    graph["1"]["class_type"] = "NoSuchNode"
    with pytest.raises(NodeMissingError, match="has no node 'NoSuchNode'"):
        await perform(comfyui, graph)


async def test_a_workflow_that_stores_nothing_is_refused(comfyui: Server):
    graph = graphs.flat(prefix=new_prefix())
    del graph["2"]
    with pytest.raises(WorkflowRefusedError, match="stores nothing"):
        await perform(comfyui, graph)


async def test_a_node_that_fails_is_named_with_its_reason(comfyui: Server):
    name = await files.upload(comfyui, b"no picture at all", suffix=".png")
    with pytest.raises(NodeFailedError, match=r"'Source' .LoadImage. failed: cannot identify image file"):
        await perform(comfyui, graphs.loaded(name, prefix=new_prefix()))


async def test_a_prompt_can_be_taken_up_by_its_ticket_while_it_runs_and_afterwards(comfyui: Server, checkpoint: str):
    graph = graphs.text_to_image(checkpoint, prefix=new_prefix(), seed=new_seed(), steps=20)
    ticket = runs.book(comfyui)
    async for event in runs.perform(comfyui, ticket, graph):
        if steps([event]):
            break
    taken_up = await all_of(runs.follow(comfyui, runs.Ticket.parse(ticket.token)))
    assert steps(taken_up)
    assert taken_up[-1] == (await all_of(runs.follow(comfyui, ticket)))[-1]


async def test_a_prompt_the_server_has_forgotten_is_to_be_sent_again(comfyui: Server):
    ticket = runs.book(comfyui)
    await perform(comfyui, graphs.flat(prefix=new_prefix()), ticket)
    await comfyui.forget(ticket.prompt_id)
    with pytest.raises(PromptForgottenError, match="Send it again") as caught:
        await all_of(runs.follow(comfyui, ticket))
    assert (caught.value.code, caught.value.retryable) == ("prompt_forgotten", True)


async def test_two_prompts_at_once_hear_of_themselves_only(comfyui: Server, checkpoint: str):
    made = [graphs.text_to_image(checkpoint, prefix=new_prefix(), seed=new_seed(), steps=count) for count in (3, 5)]
    found = await asyncio.gather(*(all_of(runs.perform(comfyui, runs.book(comfyui), graph)) for graph in made))
    assert [{step.steps for step in steps(events)} for events in found] == [{3}, {5}]
    assert found[0][-1] != found[1][-1]


async def test_pictures_that_are_sent_and_not_stored_arrive_as_frames(comfyui: Server, checkpoint: str):
    if "SaveImageWebsocket" not in await comfyui.object_info():
        pytest.skip("the server has no SaveImageWebsocket")
    graph = graphs.text_to_image(checkpoint, prefix="", seed=new_seed(), steps=2, batch=2, save="SaveImageWebsocket")
    events = await all_of(runs.perform(comfyui, runs.book(comfyui), graph))
    sent = [event for event in events if isinstance(event, PreviewFrame) and event.media_type == "image/png"]
    assert [frame.node for frame in sent] == ["9", "9"]
    for frame in sent:
        with Image.open(io.BytesIO(frame.data)) as image:
            assert image.size == (64, 64)


async def test_models_are_dropped_on_request_and_what_nodes_gave_with_them(comfyui: Server):
    graph = graphs.flat(prefix=new_prefix(), color=new_seed() % 0xFFFFFF)
    await perform(comfyui, graph)
    await comfyui.free()
    await asyncio.sleep(0.5)
    assert (await perform(comfyui, graph)).cached == ()


async def test_a_server_says_what_it_is_and_has(comfyui: Server):
    stats = await comfyui.stats()
    assert stats.version[0].isdigit()
    assert stats.devices[0].memory_bytes > 0
    assert (await comfyui.object_info())["SaveImage"]["output_node"] is True
    assert "checkpoints" in await comfyui.model_folders()
    assert await comfyui.models("none-such") == ()


async def test_a_foreign_origin_is_refused_and_the_client_sends_none(comfyui: Server):
    async with httpx.AsyncClient(base_url=comfyui.url) as browser:
        answer = await browser.get("/prompt", headers={"Origin": "http://127.0.0.1:1"})
    assert answer.status_code == 403
    assert await comfyui.remaining() >= 0
