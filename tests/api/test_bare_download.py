"""`?without=settings`: a picture to give away, without the prompt it was made with."""

import asyncio
import hashlib
import io

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.api import pictures, problems
from tintype import settings
from tintype.media import recall
from tintype.media.provenance import inspect

PROMPT = "a heron under the bridge"
BARE = {"without": "settings"}


async def made(studio, **fields) -> dict:
    asked = {"width": 256, "height": 256, "options": {"noise": True}, "seed": 7, **fields}  # some noise drowns the mark
    return await studio.wait((await studio.generate(PROMPT, **asked))["id"])


def address(done: dict, index: int = 0) -> str:
    return f"/api/media/{done['media'][index]['id']}/content"


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def files_of(studio, done: dict) -> list[str]:
    return sorted(path.name for path in (studio.home / "media").rglob(f"{done['id']}*"))


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_the_file_shows_the_same_and_says_all_but_prompt_and_settings(http, studio, kind):
    done = await made(studio, output_format=kind)
    whole = (await http.get(address(done))).content
    answer = await http.get(address(done), params=BARE)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == f"image/{kind}"
    assert recall.recall(whole).settings.prompt == PROMPT
    data = answer.content
    for form in ("utf-8", "utf-16-be", "utf-16-le"):
        assert "heron".encode(form) not in data
    assert np.array_equal(pixels_of(data), pixels_of(whole))
    assert recall.recall(data) == recall.NothingFound(reason="the file carries no settings")
    trust = inspect.trust(studio.home, settings.Provenance())
    found, before = inspect.inspect(data, trust), inspect.inspect(whole, trust)
    assert (found.manifest.state, found.manifest.model) == ("trusted", "scripted")
    assert found.xmp == before.xmp
    assert found.xmp.source_type.endswith("/trainedAlgorithmicMedia")
    assert found.mark == before.mark
    assert found.mark.state == "created"
    assert (await http.get(address(done))).content == whole, "the first file stays as it was"
    await http.delete(f"/api/generate/{done['id']}")


async def test_it_is_made_once_though_many_ask_at_once(http, studio):
    done = await made(studio)
    answers = await asyncio.gather(*(http.get(address(done), params=BARE) for _ in range(12)))
    assert len({(answer.status_code, answer.headers["etag"], answer.content) for answer in answers}) == 1
    assert answers[0].headers["etag"] == f'"{hashlib.sha256(answers[0].content).hexdigest()}"'
    again = await http.get(address(done), params=BARE)
    assert (again.content, again.headers["etag"]) == (answers[0].content, answers[0].headers["etag"])
    await http.delete(f"/api/generate/{done['id']}")


async def test_ranges_and_etags_are_those_of_the_second_file(http, studio):
    done = await made(studio)
    first = (await http.get(address(done))).headers["etag"]
    head = await http.head(address(done), params=BARE)
    answer = await http.get(address(done), params=BARE)
    tag = answer.headers["etag"]
    assert tag != first
    assert (head.headers["etag"], int(head.headers["content-length"])) == (tag, len(answer.content))
    part = await http.get(address(done), params=BARE, headers={"Range": "bytes=10-29", "If-Range": tag})
    assert (part.status_code, part.content) == (206, answer.content[10:30])
    assert part.headers["content-range"] == f"bytes 10-29/{len(answer.content)}"
    other = await http.get(address(done), params=BARE, headers={"Range": "bytes=10-29", "If-Range": first})
    assert (other.status_code, other.content) == (200, answer.content)
    assert (await http.get(address(done), params=BARE, headers={"If-None-Match": tag})).status_code == 304
    assert (await http.get(address(done), params=BARE, headers={"If-None-Match": first})).status_code == 200
    await http.delete(f"/api/generate/{done['id']}")


async def test_a_signed_link_opens_it_too(studio):
    done = await made(studio)
    async with httpx.AsyncClient(base_url=studio.address) as stranger:
        answer = await stranger.get(done["media"][0]["url"] + "&without=settings")
        assert answer.status_code == 200
        assert b"heron" not in answer.content
        forged = done["media"][0]["url"].replace("signature=", "signature=A") + "&without=settings"
        problems.check(await stranger.get(forged), 403, "link_invalid")
    await studio.http.delete(f"/api/generate/{done['id']}")


async def test_it_goes_with_the_picture(http, studio):
    done = await made(studio, num_images=2)
    for index in (0, 1):
        assert (await http.get(address(done, index), params=BARE)).status_code == 200
    assert len(files_of(studio, done)) == 8
    await http.delete(f"/api/generate/{done['id']}")
    assert files_of(studio, done) == []
    problems.check(await http.get(address(done), params=BARE), 404, "media_unknown")


async def test_nothing_stays_when_it_is_asked_for_while_the_picture_is_deleted(http, studio):
    for turn in range(6):
        done = await made(studio)

        async def later(done: dict = done, wait_s: float = turn * 0.004) -> None:
            await asyncio.sleep(wait_s)
            await http.delete(f"/api/generate/{done['id']}")

        answers = await asyncio.gather(later(), *(http.get(address(done), params=BARE) for _ in range(3)))
        assert {answer.status_code for answer in answers[1:]} <= {200, 404}
        assert files_of(studio, done) == []


async def test_a_copy_that_a_crash_cut_off_is_made_anew(http, studio):
    done = await made(studio)
    await http.get(address(done), params=BARE)
    [copy] = (studio.home / "media").rglob(f"{done['id']}*.bare.png")
    copy.write_bytes(copy.read_bytes()[:100])
    copy.with_suffix(".sha256").write_bytes(b"")
    answer = await http.get(address(done), params=BARE)
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    assert len(answer.content) > 100
    await http.delete(f"/api/generate/{done['id']}")


async def test_an_upload_has_no_file_without_settings(http):
    files = {"file": ("a.png", pictures.png(parameters="a cat\nSteps: 20, Sampler: Euler"), "image/png")}
    media = (await http.post("/api/media", files=files)).json()
    body = problems.check(
        await http.get(f"/api/media/{media['id']}/content", params=BARE), 422, "upload_is_given_back_unchanged"
    )
    [error] = body["errors"]
    assert error["loc"] == ["query", "without"]


async def test_only_settings_can_be_left_out(http, studio):
    done = await made(studio)
    body = problems.check(await http.get(address(done), params={"without": "mark"}), 422, "invalid_request")
    assert body["errors"][0]["loc"] == ["query", "without"]
    await http.delete(f"/api/generate/{done['id']}")


async def test_the_document_says_what_it_does(http):
    document = (await http.get("/openapi.json")).json()
    parameters = document["paths"]["/api/media/{media_id}/content"]["get"]["parameters"]
    [described] = [one for one in parameters if one["name"] == "without"]
    assert "prompt" in described["description"]
    assert not described["required"]
