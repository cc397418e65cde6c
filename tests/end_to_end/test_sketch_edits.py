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

MARK_CHANGES = 12
"""How far the invisible mark moves a channel at most: what stays was marked already and is marked once more."""


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


async def test_only_what_shapes_cover_is_drawn_anew_without_any_upload_or_detector(studio: RunningStudio):
    asked = await studio.generate("a red circle on a blue background", width=128, height=128, model="sketch", seed=3)
    first = (await studio.wait(asked["id"]))["media"][0]
    before = np.asarray(Image.open(io.BytesIO((await studio.http.get(first["url"])).content)).convert("RGB"))
    brush = {"type": "stroke", "points": [[50, 64], [78, 64]], "width": 40}
    corner = {"type": "rectangle", "x": 60, "y": 60, "width": 8, "height": 8, "erase": True}
    after = await edit(
        studio,
        image=first["id"],
        prompt="a green circle on a blue background",
        mask={"shapes": [brush, corner]},
        seed=3,
    )
    across, down = np.meshgrid(np.arange(128) + 0.5, np.arange(128) + 0.5)
    away = np.hypot(across - np.clip(across, 50, 78), down - 64)
    is_erased = (abs(across - 64) < 4) & (abs(down - 64) < 4)
    changed = (after != before).any(axis=2)
    assert not changed[(away > 21) | is_erased].any(), "below 256 pixels there is no mark, so what stays is bit-equal"
    assert changed[(away < 19) & ~is_erased].mean() > 0.5


async def test_from_256_pixels_on_the_invisible_mark_is_all_that_changes_outside_a_mask(studio: RunningStudio):
    asked = await studio.generate("a red circle on a blue background", width=256, height=256, model="sketch", seed=3)
    first = (await studio.wait(asked["id"]))["media"][0]
    before = np.asarray(Image.open(io.BytesIO((await studio.http.get(first["url"])).content)).convert("RGB"))
    mask = {"shapes": [{"type": "ellipse", "x": 160, "y": 160, "width": 80, "height": 80}], "feather": 8}
    after = await edit(studio, image=first["id"], prompt="a yellow star", mask=mask, seed=3)
    beyond = np.abs(after - before).max(axis=2)[:150]
    assert beyond.max() <= MARK_CHANGES


async def test_an_upload_is_refused_until_a_detector_can_look_at_it(studio: RunningStudio):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    answer = await studio.http.post("/api/generate/edit", json={"prompt": "a tree", "image": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "safety_detector_missing")
    assert answer.json()["errors"][0]["loc"] == ["body", "image"]
    kept = (await studio.http.get("/api/generate")).json()["items"]
    assert "a tree" not in [generation["prompt"] for generation in kept]
