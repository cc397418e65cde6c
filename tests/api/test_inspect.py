"""`POST /api/media/inspect`: what a picture says about how it was made, without keeping it."""

import io

import numpy as np
from PIL import Image

from tests.api import problems
from tintype import settings
from tintype.media.provenance import gate
from tintype.media.provenance.manifest import Facts


def sealed(studio) -> bytes:
    issuer = gate.open(studio.home, settings.Provenance())
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    return gate.seal(pixels, "png", None, Facts(model="sketch"), issuer)


async def test_a_signed_picture_is_trusted_where_it_was_made(http, studio):
    answer = await http.post("/api/media/inspect", files={"file": ("a.png", sealed(studio))})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["manifest"]["state"], found["mark"]["state"]) == ("trusted", "created")
    assert found["xmp"]["source_type"].endswith("/trainedAlgorithmicMedia")
    assert found["is_labelled"]


async def test_nothing_of_an_inspected_picture_is_kept(http, studio):
    before = sorted((studio.home / "media").rglob("*"))
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "JPEG")
    answer = await http.post("/api/media/inspect", files={"file": ("a.jpg", file.getvalue())})
    assert (answer.json()["manifest"]["state"], answer.json()["is_labelled"]) == ("absent", False)
    assert sorted((studio.home / "media").rglob("*")) == before


async def test_what_is_no_picture_is_told_so_not_refused(http):
    answer = await http.post("/api/media/inspect", files={"file": ("a.txt", b"hello")})
    assert (answer.status_code, answer.json()["content_type"]) == (200, None)
    assert answer.json()["manifest"]["state"] == "unread"


async def test_too_large_a_file_is_refused(http):
    answer = await http.post("/api/media/inspect", files={"file": ("a.png", bytes(31 << 20))})
    problems.check(answer, 413, "image_too_large")


async def test_no_file_is_told_what_is_missing(http):
    problems.check_field(await http.post("/api/media/inspect"), "file", says="")
