"""The built-in model changes its own pictures where no detector is installed, and nobody else's."""

import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Servers
from tests.end_to_end.test_sketch_pictures import BLUE, GREEN, RED, WHITE, nearest
from tests.processes import RunningStudio


@pytest.fixture(scope="module")
async def studio(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStudio]:
    """A studio as it is installed: no plug-in, so no detector."""
    studio = RunningStudio(home=tmp_path_factory.mktemp("edits"), url=await servers.new_database())
    try:
        await studio.start(environment={"PYTHONPATH": ""})
        yield studio
    finally:
        await studio.stop()


async def edit(studio: RunningStudio, **fields: Any) -> np.ndarray:
    answer = await studio.http.post("/api/generate/edit", json=fields)
    assert answer.status_code == 202, answer.text
    done = await studio.wait(answer.json()["id"])
    assert done["status"] == "completed", done["error"]
    data = (await studio.http.get(done["output_paths"][0])).content
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def middle_of(picture: np.ndarray) -> np.ndarray:
    height, width, _ = picture.shape
    return np.median(picture[height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8], axis=(0, 1))


async def test_a_picture_of_its_own_is_drawn_over_and_continued_without_any_detector(studio: RunningStudio):
    asked = await studio.generate("a red circle on a blue background", model="sketch", seed=3)
    first = (await studio.wait(asked["id"]))["media"][0]
    changed = await edit(studio, image=first["id"], prompt="a green circle on a blue background", strength=0.9, seed=3)
    assert nearest(middle_of(changed), RED, GREEN, BLUE, WHITE) == GREEN
    wide = await edit(
        studio, image=first["id"], prompt="a red circle on a blue background", outpaint={"right": 64}, seed=4
    )
    assert wide.shape == (first["height"], first["width"] + 64, 3)
    before = np.asarray(Image.open(io.BytesIO((await studio.http.get(first["url"])).content)).convert("RGB"))
    kept = slice(0, first["width"] - 16)
    assert np.array_equal(wide[:, kept], before[:, kept]), "what was there before is still there"
    assert nearest(np.median(wide[:, -32:], axis=(0, 1)), RED, GREEN, BLUE, WHITE) == BLUE


async def test_an_upload_is_refused_until_a_detector_can_look_at_it(studio: RunningStudio):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    answer = await studio.http.post("/api/generate/edit", json={"prompt": "a tree", "image": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "safety_detector_missing")
    assert answer.json()["errors"][0]["loc"] == ["body", "image"]
    kept = (await studio.http.get("/api/generate")).json()["items"]
    assert "a tree" not in [generation["prompt"] for generation in kept]
