"""A picture that ComfyUI made elsewhere is dropped in: its workflow is shown, becomes a model and draws."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from tests.api import pictures, problems
from tests.comfy import studios
from tests.comfy.workflows.given import graph_json
from tests.processes import RunningStudio
from tests.standins.comfyui import server
from tests.standins.comfyui.server import ComfyUI


@pytest.fixture
async def comfyui(tmp_path: Path) -> AsyncIterator[ComfyUI]:
    async with server.running(tmp_path / "comfyui") as started:
        yield started


@pytest.fixture
async def studio(new_studio, comfyui, tmp_path) -> RunningStudio:
    return await new_studio(workers=1, environment=studios.environment(tmp_path, comfyui))


def graph(**changes):
    nodes = graph_json("txt2img")
    nodes["4"]["inputs"]["ckpt_name"] = studios.CHECKPOINT
    return {**nodes, **changes}


async def dropped(studio, nodes) -> str:
    """The id of an uploaded picture that carries this workflow as ComfyUI writes it."""
    file = pictures.png(prompt=json.dumps(nodes), workflow='{"nodes": []}')
    answer = await studio.http.post("/api/media", files={"file": ("p.png", file, "image/png")})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def test_a_dropped_picture_shows_its_workflow_becomes_a_model_and_draws_again(studio, comfyui):
    media_id = await dropped(studio, graph())
    shown = (await studio.http.get(f"/api/media/{media_id}")).json()["settings"]
    assert (shown["prompt"], shown["steps"], shown["graph"]["3"]["class_type"]) == ("a cat", 4, "KSampler")
    offered = (await studio.http.get(f"/api/media/{media_id}/workflow")).json()
    assert (offered["problem"], [one["name"] for one in offered["inputs"]][:2]) == (None, ["prompt", "negative_prompt"])
    added = await studio.http.post(f"/api/media/{media_id}/workflow", json={"name": "Cats again"})
    assert (added.status_code, added.json()["id"]) == (201, "cats-again"), added.text
    listed = (await studio.http.get("/api/models")).json()["items"]
    assert "cats-again" in [model["id"] for model in listed]
    await asyncio.sleep(1.5)  # the worker looks for new models every now and then
    waiting = await studio.generate("a red cat", model="cats-again", width=64, height=64, steps=2, seed=5)
    done = await studio.wait(waiting["id"])
    assert done["status"] == "completed", (done["error"], studio.logs())
    file = (await studio.http.get(done["output_paths"][0])).content
    image = Image.open(io.BytesIO(file))
    assert (image.size, json.loads(image.info["prompt"])["6"]["inputs"]["text"]) == ((64, 64), "a red cat")
    again = await studio.http.post("/api/media", files={"file": ("p.png", file, "image/png")})
    assert again.json()["settings"]["graph"]["6"]["inputs"]["text"] == "a red cat"


async def test_what_may_not_run_is_said_and_adds_nothing(studio):
    swapped = graph(**{"8": {"class_type": "ReActorFaceSwap", "inputs": {"input_image": ["3", 0]}}})
    media_id = await dropped(studio, swapped)
    offered = await studio.http.get(f"/api/media/{media_id}/workflow")
    problems.check(offered, 422, "identity_transfer_refused")
    answer = await studio.http.post(f"/api/media/{media_id}/workflow", json={})
    problems.check(answer, 422, "identity_transfer_refused")
    assert [path.name for path in (studio.home / "models").iterdir()] == ["scripted"]


async def test_a_picture_without_a_workflow_an_id_that_is_taken_and_a_strange_input_are_answered(studio):
    plain = await studio.http.post("/api/media", files={"file": ("p.png", pictures.png(), "image/png")})
    problems.check(await studio.http.get(f"/api/media/{plain.json()['id']}/workflow"), 404, "workflow_unknown")
    media_id = await dropped(studio, graph())
    where = f"/api/media/{media_id}/workflow"
    problems.check(await studio.http.post(where, json={"accept": ["colour"]}), 422, "workflow_answer_invalid")
    problems.check(await studio.http.post(where, json={"id": "../up"}), 422, "workflow_answer_invalid")
    assert (await studio.http.post(where, json={"id": "mine"})).status_code == 201
    problems.check(await studio.http.post(where, json={"id": "mine"}), 409, "workflow_exists")
    problems.check(await studio.http.post(where, json={"id": "sketch"}), 409, "workflow_exists")
