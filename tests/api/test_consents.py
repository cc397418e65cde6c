"""`/api/consents`: who agreed to the use of which pictures, and what goes when one is taken back."""

import base64
import uuid
from typing import Any

import pytest

from tests.api import problems
from tests.api.test_edits import drawn, picture
from tests.faults.ledger import files_in
from tintype.accounts.actors import local_owner
from tintype.consents import operations as consents
from tintype.db import session as db
from tintype.generations import lineage


async def upload(http, colour: str) -> str:
    data = base64.b64decode(picture(colour=colour).partition(",")[2])
    answer = await http.post("/api/media", files={"file": ("a.png", data, "image/png")})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def state(http, *media: str) -> dict[str, Any]:
    said = {"stated_by": "Ada Example", "statement": "You may use these pictures of me.", "media": media}
    answer = await http.post("/api/consents", json=said)
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
async def database(studio):
    connected = db.connect(studio.url)
    try:
        yield connected
    finally:
        await db.close(connected)


async def test_a_consent_is_on_record_with_who_when_and_for_what(http):
    first, second = await upload(http, "red"), await upload(http, "green")
    stated = await state(http, first, second, first)
    assert (stated["stated_by"], stated["media"]) == ("Ada Example", [first, second])
    assert stated["created_at"]
    listed = (await http.get("/api/consents", params={"limit": 1})).json()
    assert listed["items"] == [stated]
    assert (await http.delete(f"/api/consents/{stated['id']}")).status_code == 204
    assert stated["id"] not in (await http.get("/api/consents")).text
    problems.check(await http.delete(f"/api/consents/{stated['id']}"), 404, "consent_unknown")


async def test_a_consent_names_pictures_that_are_there(http):
    said = {"stated_by": "Ada", "statement": "Yes.", "media": [str(uuid.uuid4())]}
    problems.check_field(
        await http.post("/api/consents", json=said), "media", says="no picture", code="picture_unknown"
    )
    for missing in ({"stated_by": " "}, {"statement": ""}, {"media": []}):
        problems.check(await http.post("/api/consents", json={**said, **missing}), 422, "invalid_request")


async def test_revoking_deletes_the_pictures_and_all_that_was_ever_made_from_them(http, studio):
    person, tree = await upload(http, "red"), await upload(http, "green")
    consent = await state(http, person)
    first, _ = await drawn(http, studio, image=person)
    second, _ = await drawn(http, studio, image=first["media"][0]["id"])
    third, _ = await drawn(http, studio, image=tree, mask=second["media"][0]["id"])
    harmless, _ = await drawn(http, studio, image=tree)
    assert (await http.delete(f"/api/generate/{first['id']}")).status_code == 204, "a link between is gone"
    waiting = (
        await http.post(
            "/api/generate/edit",
            json={
                "prompt": "x",
                "model": "scripted",
                "image": second["media"][0]["id"],
                "options": {"step_s": 2},
            },
        )
    ).json()
    assert (await http.delete(f"/api/consents/{consent['id']}")).status_code == 204
    for generation in (second, third, waiting):
        assert (await http.get(f"/api/generate/{generation['id']}")).status_code == 404
    assert (await http.get(f"/api/media/{person}")).status_code == 404
    assert (await http.get(f"/api/media/{tree}")).status_code == 200
    assert (await studio.read(harmless["id"]))["status"] == "completed"
    left = "\n".join(str(path) for path in files_in(studio.home / "media"))
    assert not [one for one in (person, first["id"], second["id"], third["id"]) if one in left]
    assert tree in left


async def test_revoking_for_a_generated_picture_takes_its_generation_along(http, studio):
    tree = await upload(http, "green")
    made, _ = await drawn(http, studio, image=tree)
    later, _ = await drawn(http, studio, image=made["media"][0]["id"])
    consent = await state(http, made["media"][0]["id"], later["media"][0]["id"])
    assert (await http.delete(f"/api/consents/{consent['id']}")).status_code == 204
    assert (await http.get(f"/api/generate/{made['id']}")).status_code == 404
    assert (await http.get(f"/api/generate/{later['id']}")).status_code == 404
    assert (await http.get(f"/api/media/{tree}")).status_code == 200


async def test_learning_from_a_person_needs_a_consent_for_every_picture(http, database):
    first, second = await upload(http, "red"), await upload(http, "green")
    wanted = [uuid.UUID(first), uuid.UUID(second)]
    consent = await state(http, first)
    async with db.reading(database) as session:
        with pytest.raises(consents.ConsentMissingError, match="1 of these pictures"):
            await consents.require(session, local_owner(), wanted)
    await state(http, second)
    async with db.reading(database) as session:
        await consents.require(session, local_owner(), wanted)
    await http.delete(f"/api/consents/{consent['id']}")
    async with db.reading(database) as session:
        with pytest.raises(consents.ConsentMissingError):
            await consents.require(session, local_owner(), wanted)


async def test_an_upload_can_be_deleted_unless_a_generation_waits_for_it(http, studio):
    person = await upload(http, "red")
    busy = await http.post(
        "/api/generate/edit",
        json={"prompt": "x", "model": "scripted", "image": person, "options": {"step_s": 0.7}},
    )
    problems.check(await http.delete(f"/api/media/{person}"), 409, "media_in_use")
    done = await studio.wait(busy.json()["id"])
    assert done["status"] == "completed", done["error"]
    problems.check(await http.delete(f"/api/media/{done['media'][0]['id']}"), 409, "media_generated")
    assert (await http.delete(f"/api/media/{person}")).status_code == 204
    problems.check(await http.get(f"/api/media/{person}"), 404, "media_unknown")
    assert person not in "\n".join(str(path) for path in files_in(studio.home / "media"))


async def test_what_is_known_of_inputs_goes_once_nothing_came_of_them(http, studio, database):
    first, _ = await drawn(http, studio, image=await upload(http, "red"))
    second, _ = await drawn(http, studio, image=first["media"][0]["id"])
    kept = {}
    for name in ("first", "second"):
        await http.delete(f"/api/generate/{(first if name == 'first' else second)['id']}")
        async with db.transaction(database) as session:
            await lineage.forget_dead_ends(session)
            await lineage.forget_dead_ends(session)
            kept[name] = len(await lineage.inputs_of(session, uuid.UUID(first["id"])))
    assert kept == {"first": 1, "second": 0}
