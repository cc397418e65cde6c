"""Pictures: their formats and bytes, ranges and validators, signed links, uploads."""

import hashlib
import io
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from PIL import Image

from tests.api import pictures, problems
from tintype.storage import signing


@pytest.fixture(scope="module")
async def picture(studio) -> AsyncIterator[dict]:
    """A finished picture: its metadata, and its bytes under `data`."""
    done = await studio.wait((await studio.generate("a picture", width=256, height=128, seed=0x3366CC))["id"])
    media = done["media"][0]
    yield {**media, "data": (await studio.http.get(media["url"])).content, "path": f"/api/media/{media['id']}/content"}
    await studio.http.delete(f"/api/generate/{done['id']}")


async def upload(http: httpx.AsyncClient, data: bytes, name: str = "a.png") -> httpx.Response:
    return await http.post("/api/media", files={"file": (name, data, "application/octet-stream")})


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_a_picture_comes_in_the_format_asked_for(http, studio, kind):
    done = await studio.wait((await studio.generate("a format", output_format=kind, seed=0x3366CC))["id"])
    [media] = done["media"]
    assert (media["content_type"], media["width"], media["height"]) == (f"image/{kind}", 64, 64)
    answer = await http.get(media["url"])
    assert answer.headers["content-type"] == f"image/{kind}"
    assert hashlib.sha256(answer.content).hexdigest() == media["sha256"]
    assert len(answer.content) == media["size_bytes"]
    decoded = Image.open(io.BytesIO(answer.content))
    assert (decoded.format, decoded.size) == (kind.upper(), (64, 64))
    shown = decoded.convert("RGB").getpixel((32, 32))
    assert all(abs(a - b) < 8 for a, b in zip(shown, (0xCC, 0x66, 0x33), strict=True))
    recalled = (await upload(http, answer.content)).json()["settings"]
    assert (recalled["prompt"], recalled["seed"], recalled["model"]) == ("a format", 0x3366CC, "scripted")
    await http.delete(f"/api/generate/{done['id']}")


async def test_a_thumbnail_is_a_small_webp(http, picture):
    answer = await http.get(picture["thumbnail_url"])
    assert answer.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(answer.content)).format == "WEBP"
    assert answer.headers["etag"] != f'"{picture["sha256"]}"'


async def test_metadata_can_be_read_by_id(http, picture):
    found = (await http.get(f"/api/media/{picture['id']}")).json()
    assert (found["sha256"], found["source"], found["seed"]) == (picture["sha256"], "generated", 0x3366CC)
    assert found["settings"]["prompt"] == "a picture"


async def test_bytes_come_with_all_a_cache_needs_and_no_power(http, picture):
    headers = (await http.get(picture["path"])).headers
    assert headers["etag"] == f'"{picture["sha256"]}"'
    assert headers["accept-ranges"] == "bytes"
    assert "immutable" in headers["cache-control"]
    assert headers["content-security-policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"
    assert headers["content-disposition"] == f'inline; filename="{picture["id"]}.png"'


@pytest.mark.parametrize("tag", ['"{0}"', 'W/"{0}"', '"other", "{0}"', "*"])
async def test_what_the_client_has_is_not_sent_again(http, picture, tag):
    answer = await http.get(picture["path"], headers={"If-None-Match": tag.format(picture["sha256"])})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == f'"{picture["sha256"]}"'


async def test_another_tag_is_no_reason_to_keep_it_back(http, picture):
    answer = await http.get(picture["path"], headers={"If-None-Match": '"other"'})
    assert (answer.status_code, answer.content) == (200, picture["data"])


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        *(("bytes=0-9", 0, 10), ("bytes=20-29", 20, 30), ("bytes=-7", -7, None), ("bytes=30-", 30, None)),
        *(("bytes=0-0", 0, 1), ("bytes=5-99999999", 5, None), ("bytes=-99999999", 0, None)),
    ],
)
async def test_a_range_gives_exactly_those_bytes(http, picture, asked, start, end):
    answer = await http.get(picture["path"], headers={"Range": asked})
    part = picture["data"][start:end]
    size = len(picture["data"])
    first = size + start if start < 0 else start
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{size}"
    assert int(answer.headers["content-length"]) == len(part)


@pytest.mark.parametrize("asked", ["bytes={size}-", "bytes=99999999-", "bytes=-0"])
async def test_a_range_behind_the_end_is_refused_with_the_size(http, picture, asked):
    size = len(picture["data"])
    answer = await http.get(picture["path"], headers={"Range": asked.format(size=size)})
    assert str(size) in problems.check(answer, 416, "range_not_satisfiable")["detail"]
    assert answer.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize("asked", ["bytes=9-3", "bytes=a-b", "bytes=-", "lines=0-3", "bytes=0-1,4-5", "", "bytes=0--1"])
async def test_a_range_that_is_none_or_several_gets_the_whole_file(http, picture, asked):
    answer = await http.get(picture["path"], headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, picture["data"])


@pytest.mark.parametrize(("tag", "status"), [('"{0}"', 206), ('"other"', 200), ('W/"{0}"', 200)])
async def test_a_range_of_another_version_gets_the_whole_file(http, picture, tag, status):
    headers = {"Range": "bytes=0-3", "If-Range": tag.format(picture["sha256"])}
    assert (await http.get(picture["path"], headers=headers)).status_code == status


async def test_head_tells_all_but_the_bytes(http, picture):
    whole, part = (
        await http.head(picture["path"]),
        await http.head(picture["path"], headers={"Range": "bytes=0-9"}),
    )
    assert (whole.status_code, whole.content, int(whole.headers["content-length"])) == (200, b"", len(picture["data"]))
    assert (part.status_code, part.content, part.headers["content-length"]) == (206, b"", "10")


async def test_a_signed_link_works_alone_and_carries_its_end(studio, picture):
    url = httpx.URL(picture["url"])
    assert 3500 < int(url.params["expires"]) - time.time() <= 3600
    async with httpx.AsyncClient(base_url=studio.address) as stranger:
        assert (await stranger.get(picture["url"])).content == picture["data"]
        assert (await stranger.get(picture["url"], headers={"Range": "bytes=0-3"})).status_code == 206


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.copy_set_param("expires", int(url.params["expires"]) + 60),
        lambda url: url.copy_set_param("signature", url.params["signature"][:-4] + "AAAA"),
        lambda url: url.copy_set_param("signature", ""),
        lambda url: url.copy_set_param("signature", "é" * 20),
        lambda url: url.copy_remove_param("signature"),
        lambda url: url.copy_remove_param("expires"),
        lambda url: url.copy_with(path=url.path.replace("/content", "/thumbnail")),
    ],
    ids=["later", "other signature", "empty", "not ascii", "no signature", "no end", "other file"],
)
async def test_a_link_that_was_changed_opens_nothing(http, picture, change):
    answer = await http.get(str(change(httpx.URL(picture["url"]))))
    problems.check(answer, 403, "link_invalid")


async def test_an_expired_link_says_so(http, studio, picture):
    query = signing.sign_path(signing.load_secret(studio.home), picture["path"], int(time.time()) - 1)
    problems.check(await http.get(picture["path"] + query), 403, "link_expired")


async def test_an_upload_comes_back_byte_for_byte(http):
    data = pictures.png("green")
    answer = await upload(http, data)
    assert answer.status_code == 201
    media = answer.json()
    expected = ("image/png", 40, 30, "uploaded", None, None)
    assert tuple(media[n] for n in ("content_type", "width", "height", "source", "settings", "seed")) == expected
    assert (await http.get(f"/api/media/{media['id']}/content")).content == data
    assert (await http.get(media["thumbnail_url"])).headers["content-type"] == "image/webp"


@pytest.mark.parametrize(("kind", "wire"), [("JPEG", "jpeg"), ("WEBP", "webp"), ("PNG", "png")])
async def test_what_an_upload_is_follows_from_its_bytes_not_its_name(http, kind, wire):
    media = (await upload(http, pictures.encoded(kind), name="it.txt")).json()
    assert media["content_type"] == f"image/{wire}"


async def test_the_settings_another_tool_wrote_are_recalled(http):
    fields = "Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 123, Size: 512x768, Model: foo"
    text = f"a cat\nNegative prompt: a dog\n{fields}"
    found = (await upload(http, pictures.png(parameters=text))).json()["settings"]
    assert (found["prompt"], found["negative_prompt"], found["seed"], found["steps"]) == ("a cat", "a dog", 123, 20)
    assert (found["sampler"], found["guidance_scale"], found["model"]) == ("Euler a", 7.5, "foo")
    assert (found["width"], found["height"]) == (512, 768)


@pytest.mark.parametrize(
    "texts",
    [
        {"parameters": "a\0cat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64"},
        {"parameters": "cat\nSteps: 20, Sampler: \0, CFG scale: nan, Seed: 99999999999999999999999, Size: 64x64"},
        {"tintype": '{"format": 1, "prompt": "a\\u0000b", "seed": 3, "extra": {"Note": "\\u0000"}}'},
        {"tintype": '{"format": 1, "prompt": "a\\ud800b", "seed": 3}'},
        {"tintype": "[" * 50_000},
        {"prompt": '{"1": {"class_type": "KSampler", "inputs": {"seed": 1e400}}}'},
    ],
    ids=["NUL", "NUL and numbers", "our NUL", "our surrogate", "deep", "comfy infinity"],
)
async def test_hostile_settings_do_not_keep_a_good_picture_out(http, texts):
    answer = await upload(http, pictures.png(**texts))
    assert answer.status_code == 201, answer.text
    assert "\\u0000" not in answer.text


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"hello", 415, "not_an_image"),
        (b"", 415, "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not_an_image"),
        (pictures.encoded("GIF"), 415, "not_an_image"),
        (pictures.png()[:60], 422, "image_damaged"),
        (pictures.encoded("JPEG")[:-20], 422, "image_damaged"),
        (pictures.bomb(), 413, "image_too_large"),
        (pictures.animated(), 415, "image_animated"),
        (pictures.png() + b"x" * (31 << 20), 413, "image_too_large"),
    ],
    ids=["text", "empty", "svg", "gif", "cut png", "cut jpeg", "bomb", "animated", "31 MB"],
)
async def test_what_is_no_good_picture_is_refused_and_nothing_is_kept(http, studio, data, status, code):
    before = sorted((studio.home / "media").rglob("*"))
    problems.check(await upload(http, data), status, code)
    assert sorted((studio.home / "media").rglob("*")) == before


@pytest.mark.parametrize(
    "request_",
    [{}, {"json": {"file": "x"}}, {"data": {"file": "x"}}, {"files": {"picture": ("a", b"x")}}],
    ids=["empty", "json", "text part", "other name"],
)
async def test_an_upload_without_a_file_is_told_what_is_missing(http, request_):
    problems.check_field(await http.post("/api/media", **request_), "file", says="")
