"""The whole path with real processes: HTTP in, events out, a file with its settings at the end."""

import io

from PIL import Image

from tests.conftest import on_both_kinds


@on_both_kinds
async def test_a_request_becomes_a_picture_with_events_in_order(new_studio):
    studio = await new_studio()
    asked = await studio.generate("a hue", seed=0x0A141E, steps=4, options={"step_s": 0.15})
    assert asked["status"] == "queued"
    seen = [event async for event in studio.events(asked["id"])]
    kept = [event.type for event in seen if event.id is not None]
    assert kept == ["queued", "started", "image", "completed"]
    assert any(event.type == "progress" for event in seen)
    finished = await studio.read(asked["id"])
    assert finished["status"] == "completed"
    data = (await studio.http.get(finished["output_paths"][0])).content
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (64, 64)
    assert picture.convert("RGB").getpixel((5, 5)) == (0x1E, 0x14, 0x0A)
    assert "a hue" in picture.text["parameters"]
    assert f"Seed: {0x0A141E}" in picture.text["parameters"]
