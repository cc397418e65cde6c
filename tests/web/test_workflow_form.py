"""The form of a workflow follows from what it takes and from the schema of its options."""

import json

import pytest
from playwright.async_api import expect

from tests.api import pictures
from tests.processes import SCRIPTED

OPTIONS = {
    "type": "object",
    "required": ["pose"],
    "properties": {
        "pose": {"type": "string", "format": "picture", "title": "Pose"},
        "picture_s": {"type": "number", "title": "Pause", "default": 0, "minimum": 0, "maximum": 2},
        "flavour": {"type": "string", "enum": ["sweet", "sour"], "default": "sweet"},
    },
}


@pytest.fixture
def workflow(studio) -> str:
    folder = studio.home / "models" / "posed"
    folder.mkdir(exist_ok=True)
    said = {**SCRIPTED, "id": "posed", "name": "Posed", "kind": "workflow", "loader": "comfy", "samplers": []}
    said |= {"features": [], "tasks": ["text_to_image"], "takes": ["prompt", "seed"], "options": OPTIONS}
    said["defaults"] = {"width": 64, "height": 64, "steps": 2, "guidance_scale": 1}
    (folder / "manifest.json").write_text(json.dumps(said))
    return "posed"


async def test_a_workflow_is_asked_for_with_its_own_fields_and_a_picture(studio, visitor, workflow, tmp_path):
    file = tmp_path / "pose.png"
    file.write_bytes(pictures.png("#00ff00"))
    page = await visitor.open(studio)
    await page.select_option("select[name=model]", workflow)
    for name in ("width", "num_inference_steps", "sampler", "negative_prompt"):
        await expect(page.locator(f"#composer [name={name}]")).to_be_hidden()
    await expect(page.get_by_label("Pose (needed)")).to_be_visible()
    await expect(page.locator("[name='options.picture_s']")).to_have_attribute("placeholder", "0")
    await page.fill("#prompt", "somebody waving")
    await page.set_input_files("[name='options.pose']", str(file))
    await page.select_option("[name='options.flavour']", "sour")
    await page.click("#draw")
    await expect(page.locator("#gallery").get_by_alt_text("somebody waving", exact=True)).to_have_count(1)
    made = (await studio.http.get("/api/generate", params={"model": "posed"})).json()["items"][0]
    assert made["parameters"]["options"]["flavour"] == "sour"
    (given,) = [note for note in studio.notes(made["id"]) if note["what"] == "given"]
    assert given["option pose"] == [0, 255, 0]
