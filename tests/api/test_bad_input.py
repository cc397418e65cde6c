"""Whatever a client sends, it is told what is wrong, where, and what to send instead."""

import json
import time
import unicodedata
import uuid

import httpx
import pytest

from tests.api import pictures, problems
from tests.processes import SCRIPTED
from tintype.generations.schemas import ImageCreate

IMAGE = "/api/generate/image"
SMALL = pictures.data_url(pictures.png())
JSON = {"Content-Type": "application/json"}


async def send(http: httpx.AsyncClient, **fields: object) -> httpx.Response:
    return await http.post(
        IMAGE, content=json.dumps({"prompt": "x", "model": "scripted", **fields}).encode(), headers=JSON
    )


async def send_raw(http: httpx.AsyncClient, body: bytes, content_type: str | None = JSON["Content-Type"]):
    headers = {} if content_type is None else {"Content-Type": content_type}
    return await http.post(IMAGE, content=body, headers=headers)


async def test_an_unknown_model_is_told_which_are_installed(http):
    answer = await send(http, model="nope")
    problems.check_field(answer, "model", says="installed: scripted, sketch", code="model_unknown")


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"sampler": "dpm"}, "sampler", "send 'euler' or 'other'"),
        ({"style": "cubism"}, "style", "realism, lux, anime, chatgpt"),
        ({"width": 8}, "width", "send 16 instead of 8"),
        ({"height": 520}, "height", "from 16 to 512 pixels in steps of 8; send 512 instead of 520"),
        ({"width": 67}, "width", "send 64 instead of 67"),
        ({"width": 0}, "width", "greater than or equal to 1"),
        ({"num_inference_steps": 1001}, "num_inference_steps", "less than or equal to 1000"),
        ({"num_inference_steps": 0}, "num_inference_steps", "greater than or equal to 1"),
        ({"steps": 0}, "steps", "greater than or equal to 1"),
        ({"guidance_scale": 20.5}, "guidance_scale", "at most 20"),
        ({"cfg_scale": -1}, "cfg_scale", "greater than or equal to 0"),
        ({"num_images": 0}, "num_images", "greater than or equal to 1"),
        ({"num_images": 9}, "num_images", "less than or equal to 8"),
        ({"seed": -2}, "seed", "greater than or equal to -1; sent was -2"),
        ({"seed": 2**32}, "seed", "less than or equal to 4294967295"),
        ({"seed": 10**30}, "seed", "less than or equal to 4294967295"),
        ({"width": 10**30}, "width", "less than or equal to 16384"),
        ({"priority": 101}, "priority", "less than or equal to 100"),
        ({"output_format": "gif"}, "output_format", "'png', 'jpeg' or 'webp'"),
        ({"seed_mode": "lucky"}, "seed_mode", "'fast', 'bucket' or 'strict'"),
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"prompt": " \n\t "}, "prompt", "at least 1 character"),
        ({"prompt": "\u202e \ufeff\u2066"}, "prompt", "at least 1 character"),
        ({"prompt": "\u202e" + " " * 90_000}, "prompt", "at least 1 character"),
        ({"prompt": "\u202ea\x0c"}, "prompt", "control characters"),
        ({"prompt": "x\u202e" * 50_000}, "prompt", "at most 20000 characters"),
        ({"prompt": "x" * 4001}, "prompt", "has 4001 characters; 'scripted' reads at most 4000"),
        ({"colour": "red"}, "colour", "there is no such field"),
        ({"steps": 3, "num_inference_steps": 4}, "steps", "another says the same"),
        ({"loras": [{"model_id": "a"}] * 4}, "loras", "at most 3"),
        ({"prompt": "a\0b"}, "prompt", "control characters"),
        ({"prompt": "a\x1b[31mb"}, "prompt", "control characters"),
        ({"prompt": "a\x85b"}, "prompt", "control characters"),
        ({"negative_prompt": "\x07"}, "negative_prompt", "control characters"),
        ({"model": "\0"}, "model", "control characters"),
        ({"prompt": "a\ud800b"}, "prompt", "half of a surrogate pair"),
        ({"model": "\udfff"}, "model", "half of a surrogate pair"),
        ({"route": "cheap"}, "route", "leave it out"),
        ({"webhook": "http://127.0.0.1/"}, "webhook", "leave it out"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_value_outside_the_limits_names_the_field_and_the_limit(http, fields, field, says):
    problems.check_field(await send(http, **fields), field, says=says)


WRITTEN = [
    "👩‍👩‍👧 on a hill 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👍🏽",
    "ภาพวาดของน้ำตกในป่า",
    "قطة سوداء تحت شجرة می‌خواهم",
    "חתול שחור",
    "a cat\n\tin the rain",
]


@pytest.mark.parametrize("prompt", WRITTEN)
async def test_what_people_write_is_stored_as_they_wrote_it(http, studio, prompt):
    made = await studio.wait((await studio.generate(prompt, negative_prompt=prompt))["id"])
    assert (made["status"], made["prompt"]) == ("completed", unicodedata.normalize("NFC", prompt))
    assert made["parameters"]["negative_prompt"] == made["prompt"]


async def test_what_nobody_sees_is_gone_before_a_text_is_counted_and_stored(http, studio):
    hidden = {"prompt": "a \u202ecat\u2069\ufdd0" + "\u200e" * 30_000, "negative_prompt": "\ufeffdog\U0001ffff\r\nfog"}
    options = {"fail_\u2066times": 0, "step_s": 0}
    asked = await studio.generate(**hidden, model="scripted\u200f" + "\u200e" * 200, options=options)
    made = await studio.wait(asked["id"])
    assert (made["status"], made["prompt"], made["model"]) == ("completed", "a cat", "scripted")
    assert made["parameters"]["negative_prompt"] == "dog\nfog"
    assert made["parameters"]["options"] == {"fail_times": 0, "step_s": 0}


def test_texts_in_options_are_cleaned_at_every_depth():
    asked = ImageCreate(prompt="x", options={"a": [{"b\u202e": "\u2066c"}, "👩‍👧\ufeff", 1.5, None, True]})
    assert asked.options == {"a": [{"b": "c"}, "👩‍👧", 1.5, None, True]}


async def test_too_many_pixels_are_refused_though_each_side_fits(http, studio):
    folder = studio.home / "models" / "narrow"
    folder.mkdir()
    limits = {**SCRIPTED["limits"], "max_pixels": 64 * 64}
    (folder / "manifest.json").write_text(json.dumps({**SCRIPTED, "id": "narrow", "limits": limits}))
    answer = await send(http, model="narrow", width=128, height=64)
    problems.check_field(answer, "width", says="128×64 is more than the 4096 pixels")


async def test_all_that_is_wrong_is_reported_at_once(http):
    body = problems.check(await send(http, width=8, height=9, sampler="x", guidance_scale=99), 422, "invalid_request")
    assert [error["loc"][-1] for error in body["errors"]] == ["width", "height", "guidance_scale", "sampler"]


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"num_inference_steps": "abc"}, "num_inference_steps", "is no whole number; send one; sent was 'abc'"),
        ({"width": 128.5}, "width", "is no whole number; send one; sent was 128.5"),
        ({"guidance_scale": "much"}, "guidance_scale", "is no number; send one; sent was 'much'"),
        ({"prompt": 1}, "prompt", "is no text; send one; sent was 1"),
    ],
)
async def test_a_value_of_another_kind_is_told_in_words_and_with_what_to_send(http, fields, field, says):
    problems.check_field(await send(http, **fields), field, says=says)


@pytest.mark.parametrize("wrong", [[], {}, True, "a few", 1.5], ids=repr)
@pytest.mark.parametrize(
    "field", ["width", "height", "num_images", "seed", "num_inference_steps", "guidance_scale", "priority"]
)
async def test_a_number_of_another_type_is_refused(http, field, wrong):
    if (field, wrong) == ("guidance_scale", 1.5):
        wrong = "1.5 or so"
    problems.check_field(await send(http, **{field: wrong}), field, says="")


@pytest.mark.parametrize("wrong", [5, [], {"a": 1}, True], ids=repr)
@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "model", "style", "sampler", "output_format"])
async def test_a_text_of_another_type_is_refused(http, field, wrong):
    problems.check_field(await send(http, **{field: wrong}), field, says="")


@pytest.mark.parametrize("wrong", [5, "all", {"a": 1}], ids=repr)
@pytest.mark.parametrize("field", ["loras", "controls"])
async def test_a_list_of_another_type_is_refused(http, field, wrong):
    problems.check_field(await send(http, **{field: wrong}), field, says="")


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_that_are_none_are_refused(http, word):
    body = f'{{"prompt": "x", "model": "scripted", "guidance_scale": {word}}}'
    problems.check_field(await send_raw(http, body.encode()), "guidance_scale", says="finite")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"loras": [{"model_id": "a", "weight": 1}]}, "loras"),
        ({"model_id": "a", "lora_weight": 0.5}, "model_id"),
        ({"controls": [{"type": "canny", "image": SMALL}]}, "controls"),
        ({"hires": {"scale": 2}}, "hires"),
        ({"refiner": {"model": "a"}}, "refiner"),
        ({"style_image": SMALL}, "style_image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_the_model_does_not_offer_is_refused(http, fields, field):
    problems.check_field(await send(http, **fields), field, says="'scripted' does not offer this")


@pytest.mark.parametrize(
    ("options", "loc", "says"),
    [
        ({"nope": 1}, ("options", "nope"), "there are step_s, fail_times"),
        ({"\ud800": 1}, ("options", "\ufffd" * 3, "[key]"), "surrogate pair"),
        ({"step_s": "soon"}, ("options", "step_s"), "send a number"),
        ({"step_s": True}, ("options", "step_s"), "send a number"),
        ({"step_s": None}, ("options", "step_s"), "send a number"),
        ({"die": 1.5}, ("options", "die"), "send an integer"),
        ({"fail_code": 3}, ("options", "fail_code"), "send a string"),
        ({"fail_code": "a\0"}, ("options",), "control characters"),
        ({"fail_code": "x" * 20_001}, ("options",), "20000 characters"),
        ({"die": 10**30}, ("options",), "beyond 2^53"),
        ({"step_s": float("nan")}, ("options",), "not finite"),
        ({"step_s": [[[[[[[[[[]]]]]]]]]]}, ("options",), "more than 8 levels"),
        ({"step_s": [0] * 1001}, ("options",), "1000 values"),
        ([], ("options",), "valid dictionary"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_options_are_held_to_the_models_schema(http, options, loc, says):
    problems.check_field(await send(http, options=options), *loc, says=says)


async def test_options_nested_a_hundred_thousand_deep_are_refused(http):
    deep = b"[" * 100_000 + b"]" * 100_000
    answer = await send_raw(http, b'{"prompt": "x", "model": "scripted", "options": {"step_s": ' + deep + b"}}")
    problems.check(answer, 422, "invalid_request")


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b"", "application/json", "is required"),
        (b"{nope", "application/json", "not valid JSON"),
        (b'{"prompt": "x"} trailing', "application/json", "not valid JSON"),
        (b"[]", "application/json", "send a JSON object"),
        (b"null", "application/json", ""),
        (b'"x"', "application/json", "send a JSON object"),
        (b'{"prompt": "\xff\xfe"}', "application/json", "not UTF-8"),
        (b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", "application/json", "too long"),
        (b'{"prompt": "x"}', "text/plain", "Content-Type: application/json"),
        (b'{"prompt": "x"}', None, "Content-Type: application/json"),
        (b"prompt=x", "application/x-www-form-urlencoded", "Content-Type: application/json"),
        (b'{"\\ud800": 1, "prompt": "x"}', "application/json", "surrogate"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_body_that_is_no_json_object_is_told_so(http, body, content_type, says):
    problems.check_field(await send_raw(http, body, content_type), says=says)


async def test_ten_megabytes_of_prompt_are_refused_quickly(http):
    body = json.dumps({"prompt": "x" * 10_000_000, "model": "scripted"}).encode()
    began = time.monotonic()
    problems.check_field(await send_raw(http, body), "prompt", says="at most 20000 characters")
    assert time.monotonic() - began < 10


async def test_a_body_over_the_limit_is_refused_by_its_length(http):
    body = problems.check(await send_raw(http, b"x" * 40_000_000), 413, "body_too_large")
    assert "33554432 bytes" in body["detail"]


@pytest.mark.parametrize("path", [IMAGE, "/api/media"])
async def test_a_body_over_the_limit_is_refused_though_its_length_is_not_told(http, path):
    kind = "application/json" if path == IMAGE else "multipart/form-data; boundary=b"
    head = (
        b'{"prompt": "'
        if path == IMAGE
        else b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    )

    async def chunks():
        yield head
        for _ in range(35):
            yield b"x" * 1_000_000

    answer = await http.post(path, content=chunks(), headers={"Content-Type": kind})
    problems.check(answer, 413, "body_too_large")


async def test_an_unknown_id_is_not_found_on_every_route(http):
    path = f"/api/generate/{uuid.uuid4()}"
    for method, route in [("GET", path), ("POST", f"{path}/cancel"), ("POST", f"{path}/retry"), ("DELETE", path)]:
        problems.check(await http.request(method, route), 404, "generation_unknown")
    problems.check(await http.get(f"{path}/events"), 404, "generation_unknown")
    for end in ("", "/content", "/thumbnail"):
        problems.check(await http.get(f"/api/media/{uuid.uuid4()}{end}"), 404, "media_unknown")


async def test_a_malformed_id_is_told_from_an_unknown_one(http):
    for route in ("/api/generate/12", "/api/generate/%00", "/api/generate/12/events", "/api/media/x/content"):
        body = problems.check(await http.get(route), 422, "invalid_request")
        assert body["errors"][0]["loc"][0] == "path"


@pytest.mark.parametrize("body", [b"--x\r\nnonsense--x--\r\n", b"--x\r\n\x18#b--x--\r\n"])
async def test_a_form_that_cannot_be_taken_apart_says_so(http, body):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = problems.check(await http.post("/api/media", content=body, headers=headers), 422, "invalid_request")
    assert "cannot be taken apart" in answer["detail"]


async def test_an_unknown_route_leads_to_the_documentation(http):
    body = problems.check(await http.get("/api/nothing"), 404, "route_unknown")
    assert "/docs" in body["detail"]


async def test_a_wrong_method_is_told_the_right_one(http):
    answer = await http.put(IMAGE, json={})
    assert "POST" in problems.check(answer, 405, "method_not_allowed")["detail"]
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("cursor=zz", "cursor_invalid"),
        ("cursor=%C3%A9", "cursor_invalid"),
        ("cursor=%00", "cursor_invalid"),
        ("cursor=" + "A" * 101, "invalid_request"),
        ("limit=0", "invalid_request"),
        ("limit=201", "invalid_request"),
        ("limit=ten", "invalid_request"),
        ("status=done", "invalid_request"),
        ("q=%00", "invalid_request"),
        ("model=%00", "invalid_request"),
        ("style=%00", "invalid_request"),
        ("kind=%00", "invalid_request"),
        ("q=" + "x" * 501, "invalid_request"),
    ],
)
async def test_a_bad_question_for_a_page_is_refused(http, query, code):
    problems.check(await http.get(f"/api/generate?{query}"), 422, code)


@pytest.mark.parametrize(
    ("path", "name", "says"),
    [
        ("/api/generate?stat=done", "stat", "send status, kind, model"),
        ("/api/models?tasks=upscale", "tasks", "send kind, task at most"),
        ("/api/models?task=nope", "task", "'text_to_image'"),
        ("/api/styles?id=lux", "id", "this route takes none"),
    ],
)
async def test_a_parameter_that_a_route_would_ignore_is_refused(http, path, name, says):
    (problem,) = problems.check(await http.get(path), 422, "invalid_request")["errors"]
    assert problem["loc"] == ["query", name]
    assert says in problem["msg"]


async def test_after_all_that_the_connection_still_serves(http):
    assert (await http.get("/health")).json()["status"] == "ok"
