"""Studios that make videos: the model `moving`, whose provider is installed as a third party would install it."""

import io
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from tests.conftest import Servers
from tests.faults.conftest import lean_environment
from tests.faults.ledger import files_in
from tests.processes import PLUGINS, SCRIPTED, RunningStudio

MOVING = {
    **SCRIPTED,
    "id": "moving",
    "name": "Moving",
    "description": "A square crosses the picture.",
    "family": "moving",
    "provider": "moving",
    "tasks": ["text_to_video", "image_to_video"],
    "features": ["negative_prompt", "last_image"],
    "length": {"frames": 9, "fps": 8, "min_frames": 5, "max_frames": 49, "multiple_of": 4, "max_fps": 60},
    "options": {
        "type": "object",
        "properties": {
            "step_s": {"type": "number"},
            "die": {"type": "integer"},
            "die_after": {"type": "boolean"},
            "forbidden_at": {"type": "integer"},
            "person_at": {"type": "integer"},
            "as_file": {"type": "string"},
            "as_garbage": {"type": "boolean"},
            "as_picture": {"type": "boolean"},
        },
    },
}


def environment(folder: Path) -> dict[str, str]:
    """What a studio with this provider is started with, and without the engine."""
    lean = lean_environment(folder)
    aside = folder / "aside"
    aside.mkdir(exist_ok=True)
    plugins = os.pathsep.join([lean["PYTHONPATH"], str(PLUGINS / "moving")])
    return {**lean, "PYTHONPATH": plugins, "TMPDIR": str(aside)}


def put_aside(studio: RunningStudio) -> Path:
    """Where the processes of a studio put files aside."""
    return studio.home.parent / "aside"


@asynccontextmanager
async def studio(servers: Servers, folder: Path) -> AsyncIterator[RunningStudio]:
    """A studio with one worker that makes videos, on a database of its own, with its data under `folder`."""
    running = RunningStudio(home=folder / "home", url=await servers.new_database())
    try:
        await running.start(workers=1, environment=environment(folder))
        yield install(running)
    finally:
        await running.stop()


def install(studio: RunningStudio) -> RunningStudio:
    """Put the model into the studio's catalogue."""
    folder = studio.home / "models" / "moving"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(MOVING))
    return studio


async def ask(studio: RunningStudio, **fields: Any) -> dict[str, Any]:
    """Ask for a video; the waiting generation."""
    answer = await studio.http.post("/api/generate/video", json={"prompt": "a square", "model": "moving", **fields})
    assert answer.status_code == 202, answer.text
    return answer.json()


async def made(studio: RunningStudio, **fields: Any) -> dict[str, Any]:
    """A video that was made: its entry among the media of the generation."""
    done = await studio.wait((await ask(studio, **fields))["id"])
    assert done["status"] == "completed", done["error"]
    (video,) = done["media"]
    return video


def leftovers(studio: RunningStudio, generation_id: str) -> list[str]:
    """The files of a generation in storage, and whatever was put aside."""
    stored = [str(path) for path in files_in(studio.home / "media") if generation_id in str(path)]
    return [*stored, *map(str, files_in(put_aside(studio)))]


def png(colour: tuple[int, int, int], side: int = 64) -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return file.getvalue()


def frames_of(data: bytes) -> np.ndarray:
    """The frames of an MP4, as a player shows them."""
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def boxes_of(data: bytes) -> list[str]:
    """The names of an MP4's outermost boxes, in order."""
    names, at = [], 0
    while at < len(data):
        names.append(data[at + 4 : at + 8].decode("latin-1"))
        at += int.from_bytes(data[at : at + 4], "big")
    return names
