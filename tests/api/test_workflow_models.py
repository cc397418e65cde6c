"""A workflow is asked for like every model: what it does not take is refused, and its pictures pass every check."""

import json
import uuid

import pytest

from tests.api import pictures, problems
from tests.processes import SCRIPTED

IMAGE, EDIT = "/api/generate/image", "/api/generate/edit"
OPTIONS = {
    "type": "object",
    "required": ["pose"],
    "properties": {
        "pose": {"type": "string", "format": "picture", "title": "Pose"},
        "note": {"type": "string"},
        "echo": {"type": "boolean"},
    },
}
TAKES = ["prompt", "seed", "num_inference_steps"]


@pytest.fixture
def workflow(studio) -> str:
    """The id of a model that says of itself what a workflow does."""
    folder = studio.home / "models" / "posed"
    if not folder.exists():
        folder.mkdir()
        said = {**SCRIPTED, "id": "posed", "kind": "workflow", "loader": "comfy", "samplers": [], "features": []}
        said |= {"tasks": ["text_to_image", "image_to_image"], "takes": TAKES, "options": OPTIONS}
        said["defaults"] = {"width": 64, "height": 64, "steps": 2, "guidance_scale": 1}
        (folder / "manifest.json").write_text(json.dumps(said))
    return "posed"


async def ask(http, path=IMAGE, **fields):
    body = {"prompt": "x", "model": "posed", "options": {"pose": pictures.data_url(pictures.png())}, **fields}
    return await http.post(path, json=body)


@pytest.mark.parametrize(
    ("fields", "place", "says"),
    [
        ({"width": 64}, ("width",), "'posed' is a workflow that does not take it; leave it out"),
        ({"guidance_scale": 3}, ("guidance_scale",), "does not take it"),
        ({"sampler": "euler"}, ("sampler",), "it has its own, so leave it out"),
        ({"negative_prompt": "dogs"}, ("negative_prompt",), "does not offer this"),
        ({"loras": [{"model_id": "a"}]}, ("loras",), "does not offer this"),
        ({"options": {}}, ("options", "pose"), "is required"),
        ({"options": {"pose": "somewhere"}}, ("options", "pose"), "is no picture; send the id of one of yours"),
        ({"options": {"pose": 3}}, ("options", "pose"), "send a string"),
    ],
)
async def test_what_a_workflow_does_not_take_is_refused_with_a_clear_sentence(http, workflow, fields, place, says):
    problems.check_field(await ask(http, **fields), *place, says=says)


async def test_only_an_option_that_is_a_picture_may_be_as_long_as_one(http, workflow):
    url = pictures.data_url(bytes(30_000))
    answer = await ask(http, options={"pose": pictures.data_url(pictures.png()), "note": url})
    problems.check_field(answer, "options", "note", says="send at most 20000")


async def test_a_picture_among_the_options_comes_in_like_every_other(http, studio, workflow):
    done = await studio.wait((await ask(http, seed=5)).json()["id"])
    assert done["status"] == "completed", done["error"]
    media_id = done["parameters"]["options"]["pose"]
    assert (await http.get(f"/api/media/{media_id}")).json()["source"] == "uploaded"
    noted = [note for note in studio.notes(done["id"]) if note["what"] == "given"]
    assert (noted[0]["option pose"], noted[0]["option pose size"]) == ([255, 0, 0], [40, 30])
    named = await studio.wait((await ask(http, options={"pose": media_id})).json()["id"])
    assert named["parameters"]["options"] == {"pose": media_id}
    again = await studio.wait((await http.post(f"/api/generate/{named['id']}/retry")).json()["id"])
    assert (again["status"], again["parameters"]) == ("completed", named["parameters"])
    busy = (await ask(http, options={"pose": media_id}, num_inference_steps=2)).json()
    await studio.wait(busy["id"])


async def test_a_picture_that_is_not_there_is_named_with_its_option(http, workflow):
    found = problems.check(await ask(http, options={"pose": str(uuid.uuid4())}), 422, "picture_unknown")["errors"]
    assert [error["loc"] for error in found] == [["body", "options", "pose"]]


async def test_a_picture_among_the_options_is_judged_before_it_is_used(http, studio, workflow):
    bad = pictures.data_url(pictures.png("#ff00ff"))
    done = await studio.wait((await ask(http, options={"pose": bad})).json()["id"])
    assert (done["status"], done["error"]["code"]) == ("failed", "content_blocked")
    assert studio.notes(done["id"]) == [], "the provider never saw it"
    gone = done["parameters"]["options"]["pose"]
    assert (await http.get(f"/api/media/{gone}")).status_code == 404


async def test_a_person_among_the_options_counts_as_one(http, studio, workflow):
    first, second = (pictures.data_url(pictures.png("#ff8000", n=name)) for name in "ab")
    done = await studio.wait((await ask(http, EDIT, image=first, options={"pose": second})).json()["id"])
    assert (done["status"], done["error"]["code"]) == ("failed", "one_person_only")
    alone = await studio.wait((await ask(http, options={"pose": second})).json()["id"])
    assert alone["status"] == "completed", alone["error"]
