"""Files that are two things at once: what is served is one of them, and a browser is told so."""

import io
import zipfile

import pytest
from PIL import Image

from tests.security import hostile

HTML = b"<html><script>alert(document.domain)</script></html>"
SCRIPT = b"GIF89a/*" + bytes(20) + b"*/=1;alert(document.domain)"


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("evil.class", "x")
    return buffer.getvalue()


def both(kind: str) -> bytes:
    image = hostile.picture()
    comment = hostile.saved(image, "JPEG", comment=HTML)
    png = hostile.saved(image, "PNG")
    return {
        "jpeg and html": comment,
        "jpeg, then html": hostile.saved(image, "JPEG") + HTML,
        "png and html": hostile.with_chunks(png, hostile.chunk(b"tEXt", b"Comment\0" + HTML)),
        "png and zip": png + zipped(),
        "webp and html": hostile.saved(image, "WEBP", xmp=HTML),
    }[kind]


@pytest.mark.parametrize("kind", ["jpeg and html", "jpeg, then html", "png and html", "png and zip", "webp and html"])
@pytest.mark.parametrize("name", ["a.html", "a.svg", "../../a.zip"])
async def test_a_picture_that_is_something_else_as_well_is_served_as_a_picture_only(http, kind, name):
    content = both(kind)
    answer = await http.post("/api/media", files={"file": (name, content, "text/html")})
    assert answer.status_code == 201, answer.text
    media = answer.json()
    expected = "image/" + kind.split()[0].strip(",")
    assert media["content_type"] == expected
    for url, served_as in ((media["url"], expected), (media["thumbnail_url"], "image/webp")):
        served = await http.get(url)
        assert served.headers["content-type"] == served_as
        assert served.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in served.headers["content-security-policy"]
        assert "script-src" not in served.headers["content-security-policy"]
        assert name not in served.headers["content-disposition"]
    thumbnail = (await http.get(media["thumbnail_url"])).content
    assert HTML not in thumbnail
    assert b"PK\x03\x04" not in thumbnail
    assert Image.open(io.BytesIO(thumbnail)).format == "WEBP"


@pytest.mark.parametrize(
    "content",
    [
        SCRIPT,
        HTML,
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"%!PS\n",
        b"%PDF-1.7",
        zipped(),
        b"II*\0" + bytes(40),
        b"8BPS\0\1" + bytes(40),
        b"#define x_width 9\n",
        b"P6 9 9 255\n" + bytes(243),
    ],
    ids=["gif and script", "html", "svg", "postscript", "pdf", "zip", "tiff", "psd", "xbm", "ppm"],
)
async def test_what_is_none_of_the_formats_is_refused_whatever_it_is_called(http, content):
    answer = await http.post("/api/media", files={"file": ("a.png", content, "image/png")})
    assert (answer.status_code, answer.json()["code"]) == (415, "not_an_image")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
async def test_an_animation_is_refused_where_one_picture_is_asked_for(http, kind):
    frames = [hostile.picture(), hostile.picture().rotate(180)]
    data = hostile.saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    answer = await http.post("/api/media", files={"file": ("a", data)})
    assert answer.status_code == 415
    assert answer.json()["code"] == ("not_an_image" if kind == "GIF" else "image_animated")
