"""A whole studio whose pictures a ComfyUI makes: everything a person sees, and what is left on the server."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image

from tests.comfy import studios
from tests.faults.ledger import until
from tests.processes import Event, RunningStudio
from tests.security.test_pictures_gate import data_url, picture, uploaded
from tests.standins.comfyui import server
from tests.standins.comfyui.server import ComfyUI
from tintype.media import embedded, recall

SLOW_S = 0.05


@pytest.fixture(scope="module")
async def comfyui(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ComfyUI]:
    """The server of this module's studio."""
    async with server.running(tmp_path_factory.mktemp("comfyui")) as started:
        yield started


@pytest.fixture(scope="module")
async def studio(comfyui: ComfyUI, servers, tmp_path_factory) -> AsyncIterator[RunningStudio]:
    """A studio with one worker and a few workflows."""
    async with studios.running(tmp_path_factory.mktemp("studio"), await servers.new_database(), comfyui) as started:
        yield started


@pytest.fixture(autouse=True)
def calm(comfyui: ComfyUI):
    """Every test begins without faults, and counts what is asked from then on."""
    comfyui.faults = server.Faults()
    comfyui.requests.clear()


async def done(studio: RunningStudio, model: str = "drawn", **fields: Any) -> dict[str, Any]:
    finished = await studio.wait((await studio.generate("a boat", model=model, **fields))["id"])
    assert finished["status"] == "completed", finished["error"]
    return finished


async def edit(studio: RunningStudio, **fields: Any) -> dict[str, Any]:
    answer = await studio.http.post("/api/generate/edit", json={"prompt": "a boat", **fields})
    assert answer.status_code == 202, answer.text
    return await studio.wait(answer.json()["id"])


async def files(studio: RunningStudio, generation: dict[str, Any]) -> list[bytes]:
    return [(await studio.http.get(url)).content for url in generation["output_paths"]]


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


async def events_to_the_end(studio: RunningStudio, generation_id: str) -> list[Event]:
    found: list[Event] = []
    async for event in studio.events(generation_id):
        found.append(event)
        if event.type in ("completed", "failed", "cancelled"):
            break
    return found


def posted(comfyui: ComfyUI) -> int:
    """How many prompts were sent."""
    return comfyui.requests.count(("POST", "/prompt"))


async def is_running(studio: RunningStudio, generation_id: str) -> bool:
    return ((await studio.read(generation_id))["progress"] or {"step": 0})["step"] > 0


async def test_progress_grows_over_all_pictures_and_previews_come_along(studio, comfyui):
    comfyui.faults.step_s = SLOW_S
    asked = await studio.generate("a boat", model="drawn", steps=20, num_images=2, seed=5)
    heard = await events_to_the_end(studio, asked["id"])
    assert heard[-1].type == "completed", heard[-1].data
    told = [event.data for event in heard if event.type == "progress"]
    assert {one["steps"] for one in told} == {40}, "the steps of both pictures, as they were asked for"
    steps = [one["step"] for one in told]
    assert steps == sorted(steps)
    assert len(set(steps)) > 5
    previews = [one["preview"] for one in told if "preview" in one]
    assert {one["index"] for one in previews} == {0, 1}
    assert all(one["url"].startswith("data:image/webp;base64,") for one in previews)


async def test_a_picture_is_what_its_seed_says_however_many_are_asked_for(studio):
    both = await files(studio, await done(studio, num_images=2, seed=71))
    (first,), (second,) = [await files(studio, await done(studio, seed=seed)) for seed in (71, 72)]
    assert [pixels(one) for one in both] == [pixels(first), pixels(second)]
    assert pixels(first) != pixels(second)


async def test_the_file_says_what_made_it_and_comfyui_can_open_it(studio):
    for file_format in ("png", "webp"):
        finished = await done(studio, seed=9, steps=3, output_format=file_format, negative_prompt="fog")
        (data,) = await files(studio, finished)
        said = recall.recall(data).settings
        assert (said.prompt, said.negative_prompt, said.seed, said.steps) == ("a boat", "fog", 9, 3)
        assert (said.model, said.tool) == ("drawn", "Tintype")
        found = embedded.read(data)
        where = found.texts.get("prompt") or found.fields[embedded.MODEL].removeprefix("prompt:")
        graph = json.loads(where)
        assert graph[studios.KSAMPLER]["inputs"]["seed"] == 9
        assert graph["6"]["inputs"]["text"] == "a boat"
        assert graph["4"]["inputs"]["ckpt_name"] == studios.CHECKPOINT
        bare = await studio.http.get(f"/api/media/{finished['media'][0]['id']}/content?without=settings")
        assert bare.status_code == 200, bare.text
        assert b"a boat" not in bare.content, "a copy without settings has no workflow either"


async def test_nothing_of_a_finished_job_stays_on_the_server(studio, comfyui):
    await done(studio, num_images=2)
    await until(lambda: not comfyui.memory.history, "the words are out of the history")
    assert studios.files_of(comfyui) == []


async def test_of_two_jobs_at_once_each_gets_its_own_pictures(studio, comfyui):
    comfyui.faults.step_s = 0.01
    together = await asyncio.gather(*(done(studio, seed=seed, num_images=2) for seed in (100, 200, 300)))
    comfyui.faults.step_s = 0.0
    for seed, finished in zip((100, 200, 300), together, strict=True):
        alone = await done(studio, seed=seed, num_images=2)
        assert [pixels(one) for one in await files(studio, finished)] == [
            pixels(one) for one in await files(studio, alone)
        ]


async def test_a_running_job_is_cancelled_and_the_one_behind_it_goes_on(studio, comfyui):
    comfyui.faults.step_s = SLOW_S
    first = await studio.generate("a boat", model="drawn", steps=500)
    await until(lambda: is_running(studio, first["id"]), "the first one runs")
    second = await studio.generate("a ship", model="drawn", steps=2)
    await until(lambda: len(comfyui.memory.waiting) == 1, "the second one waits at the server")
    assert (await studio.http.post(f"/api/generate/{first['id']}/cancel")).status_code == 200
    assert (await studio.wait(first["id"]))["status"] == "cancelled"
    assert (await studio.wait(second["id"]))["status"] == "completed"
    await until(lambda: not comfyui.memory.history, "nothing is left of either")


async def test_a_job_that_waits_at_the_server_is_cancelled_and_the_running_one_goes_on(studio, comfyui):
    comfyui.faults.step_s = SLOW_S
    first = await studio.generate("a boat", model="drawn", steps=60)
    await until(lambda: is_running(studio, first["id"]), "the first one runs")
    second = await studio.generate("a ship", model="drawn", steps=500, num_images=3)
    await until(lambda: len(comfyui.memory.waiting) == 3, "the second one waits at the server")
    assert (await studio.http.post(f"/api/generate/{second['id']}/cancel")).status_code == 200
    await until(lambda: not comfyui.memory.waiting, "it is taken out of the queue")
    assert (await studio.wait(second["id"]))["status"] == "cancelled"
    assert (await studio.wait(first["id"]))["status"] == "completed"


async def test_a_picture_is_redrawn_and_sent_to_the_server_once(studio, comfyui):
    media_id = await uploaded(studio, picture(0x00FF00, (64, 48)))
    for _ in range(2):
        finished = await edit(studio, model="redrawn", image=media_id, strength=0.5)
        assert finished["status"] == "completed", finished["error"]
    assert (finished["media"][0]["width"], finished["media"][0]["height"]) == (64, 48)
    sent = studios.files_of(comfyui, kind="input")
    assert len(sent) == 1
    assert Image.open(sent[0]).convert("RGB").getpixel((5, 5)) == (0, 255, 0)
    assert posted(comfyui) == 2


async def test_a_mask_goes_along_as_transparency(studio, comfyui):
    half = Image.new("L", (64, 48), 0)
    half.paste(255, (0, 0, 32, 48))
    file = io.BytesIO()
    half.save(file, "PNG")
    before = set(studios.files_of(comfyui, kind="input"))
    finished = await edit(
        studio, model="mended", image=data_url(picture(0x0000FF, (64, 48))), mask=data_url(file.getvalue())
    )
    assert finished["status"] == "completed", finished["error"]
    (sent,) = set(studios.files_of(comfyui, kind="input")) - before
    shown = Image.open(sent)
    assert shown.mode == "RGBA"
    assert shown.getpixel((5, 5)) == (255, 0, 0, 0), "what is to be drawn anew is transparent"
    assert shown.getpixel((60, 5)) == (255, 0, 0, 255)


async def test_a_workflow_that_ends_in_a_video_gives_one(studio, comfyui):
    graph = json.loads((studios.GRAPHS / "save_video.json").read_text())
    inputs = [{"name": name, "type": "integer", "to": [{"node": "1", "input": name}]} for name in ("width", "height")]
    inputs += [
        {"name": "frames", "type": "integer", "to": [{"node": "1", "input": "batch_size"}]},
        {"name": "fps", "type": "number", "to": [{"node": "2", "input": "fps"}]},
    ]
    bindings = {"inputs": inputs, "outputs": [{"node": "3", "kind": "videos"}]}
    length = {"frames": 8, "fps": 8, "max_frames": 16}
    studios.add_workflow(studio, "filmed", graph, bindings, tasks=["text_to_video"], length=length)
    await asyncio.sleep(0.5)
    asked = await studio.http.post("/api/generate/video", json={"prompt": "a boat", "model": "filmed"})
    assert asked.status_code == 202, asked.text
    finished = await studio.wait(asked.json()["id"])
    assert finished["status"] == "completed", finished["error"]
    (made,) = finished["media"]
    assert (made["content_type"], made["width"], made["height"]) == ("video/mp4", 64, 64)
    await until(lambda: not studios.files_of(comfyui), "the server has it no more")


async def test_a_workflow_that_the_server_cannot_run_fails_before_anything_is_queued(studio, comfyui):
    finished = await studio.wait(
        (await studio.generate("a boat", model="drawn", options={"checkpoint": "other.safetensors"}))["id"]
    )
    assert finished["status"] == "failed"
    assert finished["error"]["code"] == "comfyui_no_server_fits"
    assert "needs the file 'other.safetensors' in the folder 'checkpoints'" in finished["error"]["message"]
    assert posted(comfyui) == 0


async def test_a_node_that_transfers_identity_is_refused_at_the_submit_as_well(studio, comfyui):
    graph = studios.read_graph("txt2img")
    graph["20"] = {"class_type": "ReActorFaceSwap", "inputs": {"input_image": ["8", 0]}}
    graph["9"]["inputs"]["images"] = ["20", 0]
    bindings = {"inputs": [*studios.SAMPLED, *studios.SIZED], "outputs": [{"node": "9"}]}
    studios.add_workflow(studio, "swapped", graph, bindings, tasks=["text_to_image"])
    await asyncio.sleep(0.5)
    asked = await studio.http.post("/api/generate/image", json={"prompt": "a boat", "model": "swapped"})
    if asked.status_code == 202:
        finished = await studio.wait(asked.json()["id"], timeout_s=20)
        assert finished["error"]["code"] == "identity_transfer_refused", finished
    else:
        assert asked.json()["code"] in ("model_unknown", "identity_transfer_refused"), asked.text
    assert posted(comfyui) == 0


async def test_health_shows_the_server_and_what_an_added_workflow_lacks(studio):
    graph = studios.read_graph("txt2img")
    graph["8"]["class_type"] = "VAEDecodeSomewhereElse"
    bindings = {"inputs": studios.SAMPLED, "outputs": [{"node": "9"}]}
    folder = studios.add_workflow(studio, "lacking", graph, bindings, tasks=["text_to_image"])

    async def lacks() -> str:
        health = (await studio.http.get("/health/detailed")).json()
        return health["providers"].get("comfyui workflow lacking", {}).get("detail", "")

    assert "'VAEDecodeSomewhereElse', which this server does not know" in await until(lacks, "it is said")
    health = (await studio.http.get("/health/detailed")).json()
    (device,) = health["devices"]
    assert "(ComfyUI 0.3.64, " in device
    assert "GB free)" in device
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
