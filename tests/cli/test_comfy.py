"""`tintype comfy add`, `check`, `list` and `remove`: real processes, against a stand-in for ComfyUI."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import pictures
from tests.comfy.workflows.given import DATA, graph_json
from tests.end_to_end.commands import COMMAND, environment
from tests.standins.comfyui import server
from tests.standins.comfyui.server import ComfyUI

TXT2IMG = DATA / "workflows" / "txt2img.json"
CHECKPOINT = "tiny_sd15_tae.safetensors"


@pytest.fixture
async def comfyui(tmp_path: Path) -> AsyncIterator[ComfyUI]:
    """A server that has the checkpoint of the example."""
    async with server.running(tmp_path / "comfyui") as started:
        started.offer("checkpoints", CHECKPOINT)
        yield started


async def tintype(home: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """`tintype comfy ARGUMENTS` without a terminal."""
    return await asyncio.to_thread(
        subprocess.run,
        [*COMMAND, "comfy", *map(str, arguments)],
        env=environment(home, **more),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def manifest(home: Path, model_id: str) -> dict[str, Any]:
    return json.loads((home / "models" / model_id / "manifest.json").read_text())


def written(path: Path, nodes: dict[str, Any]) -> Path:
    path.write_text(json.dumps(nodes))
    return path


async def test_an_exported_workflow_becomes_a_model_without_a_question(tmp_path, comfyui):
    done = await tintype(tmp_path / "home", "add", TXT2IMG, COMFYUI_URL=comfyui.url)
    assert done.returncode == 0, done.stderr
    assert "added txt2img" in done.stdout
    said = manifest(tmp_path / "home", "txt2img")
    assert (said["tasks"], said["name"], "sampler" in said["takes"]) == (["text_to_image"], "Txt2img", False)
    assert set(said["options"]["properties"]) == {"scheduler", "checkpoint"}


async def test_every_question_has_a_flag(tmp_path, comfyui):
    flags = ["--id", "mine", "--name", "My own", "--accept", "prompt", "--accept", "steps,seed", "--limit", "steps=2:9"]
    flags += ["--description", "Draws.", "--family", "sd15", "--licence", "MIT", "--server", comfyui.url]
    done = await tintype(tmp_path, "add", TXT2IMG, *flags)
    assert done.returncode == 0, done.stderr
    said = manifest(tmp_path, "mine")
    assert (said["name"], said["description"], said["family"]) == ("My own", "Draws.", "sd15")
    assert said["takes"] == ["prompt", "num_inference_steps", "seed"]
    assert said["limits"]["max_steps"] == 9
    assert said["licence"] == {"id": "MIT", "commercial": "unknown"}


async def test_a_picture_made_with_a_workflow_is_added_like_the_workflow(tmp_path):
    picture = tmp_path / "made elsewhere.png"
    picture.write_bytes(pictures.png(prompt=json.dumps(graph_json("txt2img"))))
    done = await tintype(tmp_path, "add", picture)
    assert done.returncode == 0, done.stderr
    assert "not checked against a server" in done.stderr
    assert manifest(tmp_path, "made-elsewhere")["defaults"]["steps"] == 4
    plain = tmp_path / "plain.png"
    plain.write_bytes(pictures.png())
    refused = await tintype(tmp_path, "add", plain)
    assert (refused.returncode, "carries no ComfyUI workflow" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ({"nodes": [], "links": []}, "Export (API)"),
        ({**graph_json("txt2img"), "50": {"class_type": "ReActorFaceSwap", "inputs": {}}}, None),
        (graph_json("save_image_websocket"), "end it with `Save Image`"),
        (graph_json("lora"), "needs the file 'tiny_lora.safetensors' in the folder 'loras'"),
    ],
    ids=["editor", "identity", "saves nothing", "file missing"],
)
async def test_what_cannot_or_may_not_run_is_one_clear_line_and_adds_nothing(tmp_path, comfyui, nodes, says):
    if says is None:  # also where no output depends on it
        nodes = json.loads(json.dumps(nodes))
        nodes["9"]["inputs"]["images"] = ["50", 0]
        says = "'ReActorFaceSwap'"
    file = written(tmp_path / "w.json", nodes)
    done = await tintype(tmp_path / "home", "add", file, COMFYUI_URL=comfyui.url)
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
    assert list((tmp_path / "home").glob("models/*")) == []


async def test_check_says_of_each_workflow_whether_it_can_run(tmp_path, comfyui):
    home = tmp_path / "home"
    for name in ("fine", "lacking"):
        done = await tintype(home, "add", TXT2IMG, "--id", name)
        assert done.returncode == 0, done.stderr
    graph = home / "models" / "lacking" / "workflow.json"
    graph.write_text(graph.read_text().replace(CHECKPOINT, "gone.safetensors"))
    fine = await tintype(home, "check", "fine", COMFYUI_URL=comfyui.url)
    assert (fine.returncode, "can run" in fine.stdout) == (0, True), fine.stderr
    both = await tintype(home, "check", "--json", "fine", "lacking", COMFYUI_URL=comfyui.url)
    assert both.returncode == 1
    found = json.loads(both.stdout)
    assert found["fine"] == {comfyui.url: []}
    assert "'gone.safetensors' in the folder 'checkpoints'" in found["lacking"][comfyui.url][0]
    assert "1 of 2 workflows cannot run: lacking" in both.stderr


async def test_check_needs_a_server_that_answers(tmp_path):
    nowhere = await tintype(tmp_path, "check")
    assert (nowhere.returncode, "set COMFYUI_URL" in nowhere.stderr) == (1, True)
    away = await tintype(tmp_path, "check", COMFYUI_URL="http://127.0.0.1:9")
    assert (away.returncode, "http://127.0.0.1:9" in away.stderr, "Traceback" in away.stderr) == (1, True, False)


async def test_the_list_shows_ones_own_and_where_comfyui_is_set_up_those_that_ship(tmp_path):
    await tintype(tmp_path, "add", TXT2IMG, "--id", "mine")
    alone = json.loads((await tintype(tmp_path, "list", "--json")).stdout)
    assert [one["id"] for one in alone] == ["mine"]
    with_server = await tintype(tmp_path, "list", "--json", COMFYUI_URL="http://127.0.0.1:9")
    assert len(json.loads(with_server.stdout)) > 1
    table = (await tintype(tmp_path, "list")).stdout
    assert ("mine" in table, "you" in table) == (True, True)


async def test_only_what_was_added_is_removed(tmp_path):
    await tintype(tmp_path, "add", TXT2IMG, "--id", "mine")
    unasked = await tintype(tmp_path, "remove", "mine")
    assert unasked.returncode != 0
    assert (tmp_path / "models" / "mine").exists()
    done = await tintype(tmp_path, "remove", "mine", "--yes")
    assert (done.returncode, (tmp_path / "models" / "mine").exists()) == (0, False)
    unknown = await tintype(tmp_path, "remove", "sketch", "--yes")
    assert (unknown.returncode, "no workflow 'sketch' is installed" in unknown.stderr) == (1, True)
