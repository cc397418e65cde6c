"""`POST /generate`: one call that waits for the picture."""

import base64
import io

import pytest
from PIL import Image

from tests.api import pictures, problems

SCRIPTED = {"model": "scripted"}


async def test_a_picture_comes_back_in_the_answer(http, studio):
    body = {
        "mode": "free",
        "prompt": "waited for",
        "style": "lux",
        "extra_params": {**SCRIPTED, "seed": 0x0A141E, "steps": 1},
    }
    answer = await http.post("/generate", json=body)
    assert answer.status_code == 200
    done = answer.json()
    assert (done["status"], done["error"]) == ("done", None)
    image = Image.open(io.BytesIO(base64.b64decode(done["image"], validate=True)))
    assert (image.format, image.convert("RGB").getpixel((0, 0))) == ("PNG", (0x1E, 0x14, 0x0A))
    row = await studio.read(done["task_id"])
    assert (row["prompt"], row["style"], row["parameters"]["seed"]) == ("waited for", "lux", 0x0A141E)


async def test_a_failure_comes_back_with_its_reason(http):
    extra = {**SCRIPTED, "options": {"fail_code": "scripted_refused"}}
    done = (await http.post("/generate", json={"prompt": "x", "extra_params": extra})).json()
    assert (done["status"], done["image"], done["error"]) == ("failed", None, "asked to fail")


async def test_the_edit_mode_changes_a_picture(http, studio):
    extra = {**SCRIPTED, "options": {"echo": True}}
    body = {"mode": "edit", "prompt": "x", "target_image": base64.b64encode(pictures.png("blue")).decode()}
    done = (await http.post("/generate", json={**body, "extra_params": extra})).json()
    assert done["status"] == "done", done["error"]
    image = Image.open(io.BytesIO(base64.b64decode(done["image"]))).convert("RGB")
    assert (image.size, image.getpixel((9, 9))) == ((40, 24), (0, 0, 255))
    row = await studio.read(done["task_id"])
    assert row["parameters"]["task"] == "image_to_image"


@pytest.mark.parametrize(
    ("picture", "status", "code"),
    [("aGVsbG8=", 415, "not_an_image"), ("hello!", 422, "data_url_invalid"), (None, 422, "invalid_request")],
)
async def test_the_edit_mode_says_what_is_wrong_with_the_picture(http, picture, status, code):
    body = {"mode": "edit", "prompt": "x", "target_image": picture, "extra_params": SCRIPTED}
    problem = problems.check(await http.post("/generate", json=body), status, code)
    assert problem["errors"][0]["loc"] == ["body", "target_image"]
    assert picture is not None or problem["detail"] == "target_image: is required in mode 'edit'"


@pytest.mark.parametrize("mode", ["video", "FREE", ""])
async def test_a_mode_that_is_not_offered_is_refused(http, mode):
    body = {"mode": mode, "prompt": "x", "target_image": "aGVsbG8="}
    problems.check_field(await http.post("/generate", json=body), "mode", says="send 'free'", code="mode_not_offered")


async def test_the_free_mode_takes_no_picture(http):
    body = {"prompt": "x", "target_image": "aGVsbG8="}
    problems.check_field(await http.post("/generate", json=body), "target_image", says="leave it out")


@pytest.mark.parametrize(
    ("extra", "loc", "says"),
    [
        ({"width": "wide"}, ("extra_params", "width"), "no whole number; send one; sent was 'wide'"),
        ({"width": 8}, ("extra_params", "width"), "send 16 instead of 8"),
        ({"steps": 0}, ("extra_params", "steps"), "greater than or equal to 1"),
        ({"sampler": "dpm"}, ("extra_params", "sampler"), "'euler' or 'other'"),
        ({"colour": "red"}, ("extra_params", "colour"), "there is no such field"),
        ({"options": {"step_s": "x"}}, ("extra_params", "options", "step_s"), "send a number"),
        ({"style": "cubism"}, ("extra_params", "style"), "no style"),
        ({"prompt": "other"}, ("extra_params", "prompt"), "outside"),
        ({"num_images": 3}, ("extra_params", "num_images"), "one picture"),
        ([], ("extra_params",), "valid dictionary"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_extra_parameters_are_checked_where_they_stand(http, extra, loc, says):
    fields = {**SCRIPTED, **extra} if isinstance(extra, dict) else extra
    problems.check_field(await http.post("/generate", json={"prompt": "x", "extra_params": fields}), *loc, says=says)


@pytest.mark.parametrize("prompt", ["", "  ", 5, "a\0b", None])
async def test_the_prompt_is_checked_as_everywhere(http, prompt):
    problems.check_field(await http.post("/generate", json={"prompt": prompt}), "prompt", says="")


async def test_an_unknown_style_or_model_is_named(http):
    answer = await http.post("/generate", json={"prompt": "x", "style": "cubism", "extra_params": SCRIPTED})
    problems.check_field(answer, "style", says="realism")
    answer = await http.post("/generate", json={"prompt": "x", "extra_params": {"model": "nope"}})
    problems.check_field(answer, "extra_params", "model", says="installed", code="model_unknown")
