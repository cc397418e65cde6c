"""The same `Idempotency-Key` gives the same answer and changes nothing a second time."""

import asyncio
import io
import uuid

import pytest
from PIL import Image

from tests.api import problems

REPLAYED = "idempotent-replayed"
BODY = {"prompt": "once", "model": "scripted"}


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def picture(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(file, "PNG")
    return file.getvalue()


async def count(http, prompt: str) -> int:
    return len((await http.get("/api/generate", params={"q": prompt, "limit": 200})).json()["items"])


async def test_a_repeated_request_is_answered_as_before_and_marked(http, studio):
    headers, body = key(), {**BODY, "prompt": "only one of these"}
    first = await http.post("/api/generate/image", json=body, headers=headers)
    await studio.wait(first.json()["id"])
    again = await http.post("/api/generate/image", json=body, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert await count(http, "only one of these") == 1


async def test_many_at_once_with_one_key_make_one_generation(http, studio):
    headers, body = key(), {**BODY, "prompt": "a crowd of one"}
    answers = await asyncio.gather(*(http.post("/api/generate/image", json=body, headers=headers) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(REPLAYED in answer.headers for answer in answers) == 7
    assert await count(http, "a crowd of one") == 1
    await studio.wait(answers[0].json()["id"])


async def test_a_key_cannot_be_used_for_another_request(http, studio):
    headers = key()
    first = await http.post("/api/generate/image", json=BODY, headers=headers)
    await studio.wait(first.json()["id"])
    other = await http.post("/api/generate/image", json={**BODY, "prompt": "twice"}, headers=headers)
    problems.check(other, 422, "idempotency_key_reused")
    route = await http.post(f"/api/generate/{first.json()['id']}/retry", headers=headers)
    problems.check(route, 422, "idempotency_key_reused")


async def test_a_refused_request_leaves_its_key_free(http, studio):
    headers = key()
    problems.check(
        await http.post("/api/generate/image", json={**BODY, "width": 3}, headers=headers), 422, "invalid_request"
    )
    answer = await http.post("/api/generate/image", json=BODY, headers=headers)
    assert answer.status_code == 202
    assert REPLAYED not in answer.headers
    await studio.wait(answer.json()["id"])


@pytest.mark.parametrize("bad", ["", "x" * 201, "a\tb"], ids=["empty", "long", "tab"])
async def test_an_unusable_key_is_refused(http, bad):
    answer = await http.post("/api/generate/image", json=BODY, headers={"Idempotency-Key": bad})
    problems.check(answer, 422, "idempotency_key_invalid")


async def test_running_again_happens_once(http, studio):
    done = await studio.wait((await studio.generate("run again once"))["id"])
    headers = key()
    first = await http.post(f"/api/generate/{done['id']}/retry", headers=headers)
    again = await http.post(f"/api/generate/{done['id']}/retry", headers=headers)
    assert first.json() == again.json()
    assert again.headers[REPLAYED] == "true"
    assert await count(http, "run again once") == 2
    await studio.wait(first.json()["id"])


async def test_cancelling_is_answered_as_before(http, studio):
    asked = await studio.generate(steps=1000, options={"step_s": 0.1})
    headers = key()
    first = await http.post(f"/api/generate/{asked['id']}/cancel", headers=headers)
    await studio.wait(asked["id"])
    again = await http.post(f"/api/generate/{asked['id']}/cancel", headers=headers)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers[REPLAYED] == "true"


async def test_deleting_twice_with_one_key_is_no_error(http, studio):
    done = await studio.wait((await studio.generate())["id"])
    headers = key()
    first = await http.delete(f"/api/generate/{done['id']}", headers=headers)
    again = await http.delete(f"/api/generate/{done['id']}", headers=headers)
    assert (first.status_code, again.status_code, again.content) == (204, 204, b"")
    assert again.headers[REPLAYED] == "true"
    problems.check(await http.delete(f"/api/generate/{done['id']}"), 404, "generation_unknown")


async def test_an_upload_is_stored_once(http, studio):
    headers, folder = key(), studio.home / "media"
    files = {"file": ("a.png", picture(), "image/png")}
    first = await http.post("/api/media", files=files, headers=headers)
    stored = sorted(path for path in folder.rglob("*") if path.is_file())
    again = await http.post("/api/media", files=files, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers[REPLAYED] == "true"
    other = await http.post("/api/media", files={"file": ("a.png", picture("blue"), "image/png")}, headers=headers)
    problems.check(other, 422, "idempotency_key_reused")
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == stored


async def test_the_waiting_form_makes_one_picture_for_one_key(http):
    headers, body = key(), {"prompt": "waited for once", "extra_params": {"model": "scripted"}}
    first = await http.post("/generate", json=body, headers=headers)
    again = await http.post("/generate", json=body, headers=headers)
    assert first.json() == again.json()
    assert again.headers[REPLAYED] == "true"
    assert await count(http, "waited for once") == 1
