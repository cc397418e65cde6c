"""Studios whose pictures a ComfyUI makes: which workflows they have, and the environment that names the server."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.processes import PLUGINS, RunningStudio
from tests.standins.comfyui.server import ComfyUI

GRAPHS = Path(__file__).parents[1] / "data" / "comfyui" / "workflows"
CHECKPOINT = "bench.safetensors"
KSAMPLER, POSITIVE, SAVER, LOADER = "3", "positive", "9", "10"
SAMPLED: list[dict[str, Any]] = [
    {"name": "prompt", "type": "text", "to": [{"node": POSITIVE, "input": "text"}]},
    {"name": "negative_prompt", "type": "text", "to": [{"node": "7", "input": "text"}]},
    {"name": "seed", "type": "seed", "to": [{"node": KSAMPLER, "input": "seed"}]},
    {"name": "steps", "type": "integer", "to": [{"node": KSAMPLER, "input": "steps"}]},
    {
        "name": "checkpoint",
        "type": "model",
        "folder": "checkpoints",
        "default": CHECKPOINT,
        "to": [{"node": "4", "input": "ckpt_name"}],
    },
]
SIZED: list[dict[str, Any]] = [
    {"name": name, "type": "integer", "to": [{"node": "5", "input": name}]} for name in ("width", "height")
]
PICTURE: dict[str, Any] = {
    "name": "image",
    "type": "picture",
    "required": True,
    "to": [{"node": LOADER, "input": "image"}],
}
STRENGTH: dict[str, Any] = {"name": "strength", "type": "number", "to": [{"node": KSAMPLER, "input": "denoise"}]}
MASK: dict[str, Any] = {"name": "mask", "type": "mask", "required": True, "to": [{"node": LOADER, "input": "image"}]}
MANIFEST: dict[str, Any] = {
    "name": "A workflow",
    "description": "A workflow that somebody added.",
    "kind": "workflow",
    "family": "sd15",
    "provider": "comfyui",
    "loader": "comfy",
    "features": ["negative_prompt"],
    "licence": {"id": "unknown", "commercial": "unknown"},
    "prompt_languages": ["en"],
    "draws_people": True,
    "defaults": {"width": 64, "height": 64, "steps": 4, "guidance_scale": 7},
    "limits": {
        "min_side": 16,
        "max_side": 512,
        "multiple_of": 8,
        "max_pixels": 262144,
        "max_steps": 10000,
        "max_guidance_scale": 20,
    },
    "options": {"type": "object", "properties": {"checkpoint": {"type": "string", "default": CHECKPOINT}}},
}
WORKFLOWS: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "drawn": ("text_to_image", "txt2img", [*SAMPLED, *SIZED]),
    "redrawn": ("image_to_image", "img2img", [*SAMPLED, PICTURE, STRENGTH]),
    "mended": ("inpaint", "inpaint_vae_encode", [*SAMPLED, PICTURE, MASK]),
}
"""By the model's id: its task, its graph and its inputs."""


def environment(folder: Path, *servers: ComfyUI | str) -> dict[str, str]:
    """What names the servers, in a studio without the engine: a worker then starts without PyTorch."""
    metadata = folder / "lean" / "tintype-0.1.0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tintype\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[tintype.providers]\ncomfyui = tintype.comfy.provider:create\n")
    urls = [server if isinstance(server, str) else server.url for server in servers]
    return {
        "PYTHONPATH": f"{metadata.parent}{os.pathsep}{PLUGINS}",
        "PYTHONSAFEPATH": "1",
        "COMFYUI_URL": ",".join(urls),
    }


def add_workflows(studio: RunningStudio, *names: str) -> None:
    """Have these workflows installed, all of them where none is named."""
    for name in names or WORKFLOWS:
        task, graph, inputs = WORKFLOWS[name]
        bindings = {"inputs": inputs, "outputs": [{"node": SAVER}]}
        add_workflow(studio, name, read_graph(graph), bindings, tasks=[task])


def read_graph(name: str) -> dict[str, Any]:
    """A graph that a real server ran, with the checkpoint that the servers of tests have."""
    graph = json.loads((GRAPHS / f"{name}.json").read_text())
    graph["4"]["inputs"]["ckpt_name"] = CHECKPOINT
    return graph


def add_workflow(studio: RunningStudio, name: str, graph: dict[str, Any], bindings: Any, **manifest: Any) -> Path:
    """Install one workflow; the folder it lies in."""
    folder = studio.home / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workflow.json").write_text(json.dumps(graph))
    (folder / "bindings.json").write_text(json.dumps(bindings))
    (folder / "manifest.json").write_text(json.dumps({**MANIFEST, "id": name, **manifest}))
    return folder


def files_of(server: ComfyUI, *, kind: str = "output") -> list[Path]:
    """The files with something in them that lie in a folder of a server."""
    return sorted(path for path in server.folders[kind].rglob("*") if path.is_file() and path.stat().st_size)


@asynccontextmanager
async def running(folder: Path, url: str, comfyui: ComfyUI) -> AsyncIterator[RunningStudio]:
    """A studio with one worker and all `WORKFLOWS`, on the database at `url`."""
    studio = RunningStudio(home=folder / "home", url=url)
    add_workflows(studio)
    try:
        await studio.start(environment=environment(folder, comfyui))
        yield studio
    finally:
        await studio.stop()
