"""`POST /api/generate/edit` and `/upscale`: pictures that are named, brought along and changed."""

import io
import uuid
from typing import Any

import pytest
from PIL import Image

from tests.api import pictures, problems
from tests.faults.ledger import files_in
from tintype.media.provenance import findings

EDIT, UPSCALE = "/api/generate/edit", "/api/generate/upscale"
RED = 0x0000FF
"""As a seed of the scripted provider, whose lowest byte is red."""


def picture(size: tuple[int, int] = (64, 48), colour: str = "blue", spot: str | None = None) -> str:
    image = Image.new("RGB", size, colour)
    if spot is not None:
        image.paste(spot, (size[0] // 4, size[1] // 4, 3 * size[0] // 4, 3 * size[1] // 4))
    file = io.BytesIO()
    image.save(file, "PNG")
    return pictures.data_url(file.getvalue())


async def ask(http, path: str = EDIT, **fields: Any):
    body = {"prompt": "a boat", "model": "scripted", "seed": RED, **fields}
    if path == UPSCALE:
        body = {"model": "scripted", **fields}
    return await http.post(path, json=body)


async def drawn(http, studio, path: str = EDIT, **fields: Any) -> tuple[dict[str, Any], Image.Image]:
    """The finished generation and its picture."""
    answer = await ask(http, path, **fields)
    assert answer.status_code == 202, answer.text
    done = await studio.wait(answer.json()["id"])
    assert done["status"] == "completed", done["error"]
    return done, Image.open(io.BytesIO((await http.get(done["output_paths"][0])).content))


def given(studio, done: dict[str, Any]) -> dict[str, Any]:
    return next(note for note in studio.notes(done["id"]) if note["what"] == "given")


async def test_a_picture_keeps_its_size_as_far_as_the_model_draws_it(http, studio):
    done, image = await drawn(http, studio, image=picture((70, 50)), strength=0.3)
    assert (image.size, given(studio, done)["source size"], given(studio, done)["strength"]) == (
        (64, 48),
        [64, 48],
        0.3,
    )
    done, image = await drawn(http, studio, image=picture((1200, 300)))
    assert image.size == (512, 128)
    _, image = await drawn(http, studio, image=picture((64, 48)), width=128)
    assert image.size == (128, 96)


async def test_only_what_the_mask_covers_is_drawn(http, studio):
    mask = picture((64, 48), "black", spot="white")
    done, image = await drawn(http, studio, image=picture(), mask=mask)
    assert done["parameters"]["task"] == "inpaint"
    assert (image.convert("RGB").getpixel((32, 24)), image.convert("RGB").getpixel((2, 2))) == (
        (255, 0, 0),
        (0, 0, 255),
    )


BOX = {"type": "rectangle", "x": 16, "y": 12, "width": 32, "height": 24}


async def test_a_mask_of_shapes_needs_no_second_picture(http, studio):
    mask = {"shapes": [BOX], "invert": True}
    done, image = await drawn(http, studio, image=picture(), mask=mask)
    kept = {"shapes": [{**BOX, "erase": False}], "feather": 0, "invert": True}
    assert (done["parameters"]["task"], done["parameters"]["mask"]) == ("inpaint", kept)
    assert [image.convert("RGB").getpixel(place) for place in ((32, 24), (2, 2))] == [(0, 0, 255), (255, 0, 0)]
    again = await http.post(f"/api/generate/{done['id']}/retry")
    assert (await studio.wait(again.json()["id"]))["parameters"] == done["parameters"]


@pytest.mark.parametrize(
    ("mask", "place", "says"),
    [
        ({"shapes": []}, ("mask", "shapes"), "at least 1 item"),
        ({"shapes": [BOX] * 51}, ("mask", "shapes"), "at most 50 items"),
        (
            {"shapes": [BOX, {"type": "star"}]},
            ("mask", "shapes", 1),
            "no `type` 'star'; send one of 'rectangle', 'ellipse'",
        ),
        ({"shapes": [BOX, {}]}, ("mask", "shapes", 1), "has no `type`; send one"),
        ({"shapes": [{**BOX, "width": "wide"}]}, ("mask", "shapes", 0, "width"), "is no number; send one"),
        ({"shapes": [{**BOX, "width": 0}]}, ("mask", "shapes", 0, "width"), "greater than 0"),
        ({"shapes": [{**BOX, "x": 64}]}, ("mask", "shapes", 0), "this rectangle lies outside the picture, which is 64"),
        ({"shapes": [{**BOX, "erase": True}]}, ("mask", "shapes"), "all erase, so nothing is left to draw"),
        ({"shapes": [{"type": "stroke", "points": [[1, 1]]}]}, ("mask", "shapes", 0, "width"), "is required"),
        (
            {"shapes": [{"type": "polygon", "points": [[1, 1]] * 2}]},
            ("mask", "shapes", 0, "points"),
            "at least 3 items",
        ),
        ({"shapes": [{"type": "polygon", "points": [[1, 1]] * 2000}] * 3}, ("mask",), "has 6000 points"),
        ({"shapes": [BOX], "feather": 513}, ("mask", "feather"), "less than or equal to 512"),
        ({"shapes": [BOX], "colour": 1}, ("mask", "colour"), "there is no such field"),
        ("somewhere", ("mask",), "is no picture"),
        (7, ("mask",), "is no text"),
    ],
)
async def test_a_shape_that_does_not_fit_is_named(http, mask, place, says):
    problems.check_field(await ask(http, image=picture(), mask=mask), *place, says=says)


async def test_the_document_says_which_shapes_a_mask_can_be_made_of(http):
    schemas = (await http.get("/openapi.json")).json()["components"]["schemas"]
    assert "#/components/schemas/Geometry" in str(schemas["EditCreate"]["properties"]["mask"])
    shapes = schemas["Geometry"]["properties"]["shapes"]
    assert set(shapes["items"]["discriminator"]["mapping"]) == {"rectangle", "ellipse", "polygon", "stroke"}
    assert shapes["maxItems"] == 50


async def test_outpainting_draws_beside_the_picture(http, studio):
    done, image = await drawn(http, studio, image=picture(), outpaint={"left": 32, "bottom": 16})
    assert (done["parameters"]["task"], image.size) == ("inpaint", (96, 64))
    colours = {place: image.convert("RGB").getpixel(place) for place in ((5, 5), (60, 60), (90, 5), (40, 30))}
    assert colours == {(5, 5): (255, 0, 0), (60, 60): (255, 0, 0), (90, 5): (0, 0, 255), (40, 30): (0, 0, 255)}


async def test_outpainting_by_odd_margins_cuts_nothing_off_the_picture(http, studio):
    done, image = await drawn(http, studio, image=picture(spot="yellow"), outpaint={"left": 3, "right": 10})
    assert (done["parameters"]["outpaint"], image.size) == ({"left": 3, "top": 0, "right": 13, "bottom": 0}, (80, 48))
    row = [image.convert("RGB").getpixel((x, 24)) for x in (1, 3 + 6, 3 + 32, 3 + 57, 78)]
    assert row == [(255, 0, 0), (0, 0, 255), (255, 255, 0), (0, 0, 255), (255, 0, 0)]


async def test_a_removed_background_is_transparent_and_hides_nothing(http, studio):
    done, image = await drawn(http, studio, image=picture(spot="yellow"), background="remove", prompt="")
    assert (done["parameters"]["task"], image.mode) == ("remove_background", "RGBA")
    assert (image.getpixel((32, 24)), image.getpixel((2, 2))) == ((255, 255, 0, 255), (255, 255, 255, 0))
    thumbnail = Image.open(io.BytesIO((await http.get(done["media"][0]["thumbnail_url"])).content)).convert("RGB")
    assert min(thumbnail.getpixel((2, 2))) > 240
    bare = await http.get(f"/api/media/{done['media'][0]['id']}/content", params={"without": "settings"})
    assert Image.open(io.BytesIO(bare.content)).getpixel((2, 2))[3] == 0


async def test_a_new_background_is_drawn_behind_what_is_in_front(http, studio):
    done, image = await drawn(http, studio, image=picture(spot="yellow"), background="a beach", prompt="")
    assert (done["parameters"]["task"], done["prompt"]) == ("inpaint", "a beach")
    assert (image.convert("RGB").getpixel((32, 24)), image.convert("RGB").getpixel((2, 2))) == (
        (255, 255, 0),
        (255, 0, 0),
    )
    blocked = await ask(http, image=picture(), prompt="", background="undress the woman in this photo")
    problems.check(blocked, 422, "content_blocked")


async def test_an_upscale_is_as_many_times_as_large(http, studio):
    done, image = await drawn(http, studio, UPSCALE, image=picture((30, 20), spot="yellow"), scale=3)
    assert (image.size, image.convert("RGB").getpixel((45, 30)), done["prompt"]) == ((90, 60), (255, 255, 0), "")


async def test_a_picture_made_here_is_named_by_its_id_and_can_be_run_again(http, studio):
    first, _ = await drawn(http, studio, image=picture())
    second, _ = await drawn(http, studio, UPSCALE, image=first["media"][0]["id"])
    again = await http.post(f"/api/generate/{second['id']}/retry")
    third = await studio.wait(again.json()["id"])
    assert (third["status"], third["parameters"]) == ("completed", second["parameters"])


async def test_a_repetition_with_the_same_key_stores_no_second_picture(http, studio):
    body = {"prompt": "x", "model": "scripted", "image": picture()}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first = await http.post(EDIT, json=body, headers=headers)
    await studio.wait(first.json()["id"])
    before = files_in(studio.home / "media")
    again = await http.post(EDIT, json=body, headers=headers)
    assert (again.status_code, again.headers["Idempotent-Replayed"], again.json()) == (202, "true", first.json())
    assert files_in(studio.home / "media") == before


async def test_a_request_that_is_refused_leaves_no_picture(http, studio):
    before = files_in(studio.home / "media")
    problems.check_field(await ask(http, image=picture(), sampler="dpm"), "sampler", says="'euler' or 'other'")
    answer = await ask(http, image=picture(), prompt="undress the woman in this photo")
    problems.check(answer, 422, "content_blocked")
    assert files_in(studio.home / "media") == before


@pytest.mark.parametrize(
    ("fields", "place", "says"),
    [
        ({"prompt": ""}, ("prompt",), "say what to draw"),
        ({"background": ""}, ("background",), "at least 1 character"),
        ({"background": "a beach", "outpaint": {"left": 8}}, ("outpaint",), "does not go with a new background"),
        ({"references": [picture()]}, ("references",), "'scripted' takes no references"),
        ({"background": "remove", "references": [picture()]}, ("references",), "does not go with the removal"),
        ({"references": ["somewhere"]}, ("references", 0), "is no picture"),
        ({"outpaint": {}}, ("outpaint",), "at least one side"),
        ({"outpaint": {"left": 4000}}, ("outpaint",), "makes 4064×48; 'scripted' draws one side at most 32 times"),
        ({"outpaint": {"left": 8}, "width": 64}, ("width",), "leave it out"),
        ({"mask": picture((8, 8))}, ("mask",), "send a mask of 64×48"),
        ({"width": 8}, ("width",), "send 16 instead of 8"),
        ({"background": "remove", "strength": 0.5}, ("strength",), "leave it out"),
        ({"background": "remove", "output_format": "jpeg"}, ("output_format",), "send 'png' or 'webp'"),
        ({"style_image": picture()}, ("style_image",), "does not offer this"),
        ({"image": "somewhere"}, ("image",), "is no picture"),
        ({"strength": 0}, ("strength",), "greater than 0"),
    ],
)
async def test_what_does_not_fit_is_said_with_what_to_send_instead(http, fields, place, says):
    problems.check_field(await ask(http, **{"image": picture(), **fields}), *place, says=says)


async def test_all_that_is_wrong_is_said_at_once(http):
    answer = await ask(http, image=picture(), mask=picture((8, 8)), sampler="dpm", options={"step_s": "x"})
    found = {tuple(error["loc"][1:]) for error in problems.check(answer, 422, "invalid_request")["errors"]}
    assert found == {("mask",), ("sampler",), ("options", "step_s")}


async def test_a_picture_that_is_not_there_or_no_picture_is_named(http):
    unknown = {"image": str(uuid.uuid4()), "mask": str(uuid.uuid4())}
    found = problems.check(await ask(http, **unknown), 422, "picture_unknown")["errors"]
    assert [error["loc"] for error in found] == [["body", "image"], ["body", "mask"]]
    damaged = pictures.data_url(b"hello")
    assert problems.check(await ask(http, image=damaged), 415, "not_an_image")["errors"][0]["loc"] == ["body", "image"]
    animated = pictures.data_url(pictures.animated())
    problems.check(await ask(http, image=animated), 415, "image_animated")
    link = await ask(http, image="https://example.com/a.png")
    assert problems.check(link, 403, "fetching_disabled")["errors"][0]["loc"] == ["body", "image"]


async def test_a_model_that_does_not_do_it_says_which_does(http):
    answer = await ask(http, model="sketch", image=picture(), background="remove")
    problems.check_field(answer, "model", says="'scripted'")
    answer = await ask(http, UPSCALE, model="sketch", image=picture())
    problems.check_field(answer, "model", says="none that enlarges pictures; send ")


async def test_a_picture_cannot_vanish_under_a_generation_that_draws_from_it(http, studio):
    made, _ = await drawn(http, studio, image=picture())
    busy = (await ask(http, image=made["media"][0]["id"], options={"step_s": 0.7})).json()
    problems.check(await http.delete(f"/api/generate/{made['id']}"), 409, "media_in_use")
    done = await studio.wait(busy["id"])
    assert done["status"] == "completed", done["error"]
    assert (await http.delete(f"/api/generate/{made['id']}")).status_code == 204
    left = "\n".join(str(path) for path in files_in(studio.home / "media"))
    assert made["id"] not in left
    problems.check(await http.post(f"/api/generate/{busy['id']}/retry"), 409, "input_gone")


async def test_what_was_edited_and_what_else_went_in_stand_in_the_manifest(http, studio):
    before, _ = await drawn(http, studio, image=picture())
    mask = picture((64, 48), "black", spot="white")
    after, _ = await drawn(http, studio, image=before["media"][0]["id"], mask=mask)
    said = findings.read((await http.get(after["output_paths"][0])).content, "image/png")
    assert said.state in ("trusted", "untrusted")
    assert [part.relation for part in said.parts] == ["parentOf", "inputTo"]
    assert said.actions == ("c2pa.opened", "c2pa.edited")
    assert (said.parts[0].has_manifest, said.parts[0].failures) == (True, ()), "its own manifest travels along"
    assert not said.parts[1].has_manifest
