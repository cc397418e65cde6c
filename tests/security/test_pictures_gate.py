"""Pictures that come in: judged before a provider sees them, one person at most, and nothing left of a refused one."""

import asyncio
import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.faults.conftest import lean_environment
from tests.faults.ledger import files_in
from tests.processes import SCRIPTED, RunningStudio
from tests.security.test_content_gate import everything_in_the_database, rows

GREEN, MAGENTA, ORANGE, PINK = 0x00FF00, 0xFF00FF, 0x0080FF, 0xC080FF
"""As seeds of the scripted provider, whose lowest byte is red."""


def colour_of(seed: int) -> tuple[int, int, int]:
    return seed & 255, seed >> 8 & 255, seed >> 16 & 255


def picture(seed: int, size: tuple[int, int] = (64, 48), *, title: str = "") -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = title
    Image.new("RGB", size, colour_of(seed)).save(file, "PNG", exif=exif)
    return file.getvalue()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


async def uploaded(studio: RunningStudio, data: bytes) -> str:
    answer = await studio.http.post("/api/media", files={"file": ("a.png", data, "image/png")})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def edit(studio: RunningStudio, **fields: Any) -> dict[str, Any]:
    body = {"prompt": "a boat", "model": "scripted", **fields}
    answer = await studio.http.post("/api/generate/edit", json=body)
    assert answer.status_code == 202, answer.text
    return await studio.wait(answer.json()["id"])


def given(studio: RunningStudio, generation_id: str) -> dict[str, Any]:
    return next(note for note in studio.notes(generation_id) if note["what"] == "given")


@pytest.fixture(scope="module")
async def studio(servers, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("gate")
    running = RunningStudio(home=folder / "home", url=await servers.new_database())
    try:
        await running.start(workers=1, environment=lean_environment(folder))
        yield running
    finally:
        await running.stop()


@pytest.fixture(autouse=True)
async def no_pause(studio: RunningStudio):
    """Refusals of the test before do not count."""
    await rows(studio, "DELETE FROM verdicts")


async def test_a_picture_as_data_url_is_stored_judged_and_drawn_from(studio):
    done = await edit(studio, image=data_url(picture(GREEN)), seed=0x102030, options={"echo": True})
    assert done["status"] == "completed", done["error"]
    assert (done["parameters"]["task"], done["media"][0]["width"], done["media"][0]["height"]) == (
        "image_to_image",
        64,
        48,
    )
    seen = given(studio, done["id"])
    assert (seen["task"], seen["source"], seen["source size"]) == ("image_to_image", [0, 255, 0], [64, 48])
    stages = {row["stage"] for row in await rows(studio, "SELECT * FROM verdicts") if row["detectors"] == ["colours"]}
    assert stages == {"input", "output"}
    (source,) = await rows(studio, f"SELECT * FROM media WHERE id = '{done['parameters']['image']}'")
    assert (source["source"], source["shows_person"], source["is_foreign"]) == ("uploaded", False, True)


async def test_a_blocked_input_reaches_no_provider_and_nothing_of_it_is_left(studio):
    before = files_in(studio.home / "media")
    data = picture(MAGENTA, title="Zanzibar")
    failed = await edit(studio, image=data_url(data))
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_blocked")
    assert "the picture you sent" in failed["error"]["message"]
    assert studio.notes(failed["id"]) == [], "the provider was asked"
    assert files_in(studio.home / "media") == before
    everything = await everything_in_the_database(studio)
    assert failed["parameters"]["image"] not in {str(row["id"]) for row in await rows(studio, "SELECT id FROM media")}
    assert "Zanzibar" not in everything
    for path in studio.home.glob("*.log"):
        assert base64.b64encode(data)[:60] not in path.read_bytes()
        assert b"Zanzibar" not in path.read_bytes()
    assert base64.b64encode(data)[:60].decode() not in everything
    blocked = await rows(studio, "SELECT * FROM verdicts WHERE is_blocked")
    assert [(one["stage"], one["reasons"]) for one in blocked] == [("input", ["sexual"])]


async def test_an_upload_that_is_refused_when_it_is_used_goes_too(studio):
    media_id = await uploaded(studio, picture(MAGENTA))
    failed = await edit(studio, image=media_id)
    assert failed["error"]["code"] == "content_blocked"
    assert (await studio.http.get(f"/api/media/{media_id}")).status_code == 404
    again = await studio.http.post(f"/api/generate/{failed['id']}/retry")
    assert (again.status_code, again.json()["code"]) == (409, "input_gone")


async def test_a_made_picture_that_is_refused_as_an_input_stays_and_nothing_comes_of_it(studio):
    made = (await edit(studio, image=data_url(picture(GREEN)), seed=GREEN))["media"][0]
    (row,) = await rows(studio, f"SELECT key FROM media WHERE id = '{made['id']}'")
    (studio.home / "media" / row["key"]).write_bytes(picture(MAGENTA))  # as a detector sees it that has learnt since
    before = files_in(studio.home / "media")
    failed = await edit(studio, image=made["id"])
    assert (failed["status"], failed["error"]["code"], failed["media"]) == ("failed", "content_blocked", [])
    assert studio.notes(failed["id"]) == [], "the provider was asked"
    assert files_in(studio.home / "media") == before
    assert (await studio.http.get(f"/api/media/{made['id']}")).status_code == 200


async def test_what_is_made_of_a_persons_picture_may_not_be_suggestive(studio):
    fine = await edit(studio, image=data_url(picture(GREEN)), seed=PINK)
    assert fine["status"] == "completed", "of a landscape it may"
    failed = await edit(studio, image=data_url(picture(ORANGE)), seed=PINK)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_blocked")
    assert failed["output_paths"] == []
    blocked = await rows(studio, "SELECT * FROM verdicts WHERE is_blocked")
    assert [(one["stage"], one["reasons"]) for one in blocked] == [("output", ["person"])]


async def test_a_person_stays_in_the_lineage_of_what_is_made_from_what_was_made(studio):
    first = await edit(studio, image=data_url(picture(ORANGE)), seed=GREEN)
    second = await edit(studio, image=first["media"][0]["id"], seed=GREEN + 1)
    assert second["status"] == "completed", second["error"]
    (row,) = await rows(studio, f"SELECT * FROM media WHERE id = '{second['media'][0]['id']}'")
    assert (row["shows_person"], row["person_in_lineage"], row["is_foreign"]) == (False, True, True)
    failed = await edit(studio, image=second["media"][0]["id"], seed=PINK)
    assert failed["error"]["code"] == "content_blocked"


async def test_at_most_one_picture_may_show_a_person(studio, one_more_model):
    person, other, tree = [picture(ORANGE), picture(ORANGE, (64, 64)), picture(GREEN)]
    fine = await edit(studio, model="styled", image=data_url(person), style_image=data_url(tree))
    assert fine["status"] == "completed", fine["error"]
    assert (given(studio, fine["id"])["source"], given(studio, fine["id"])["style"]) == ([255, 128, 0], [0, 255, 0])
    twice = await edit(studio, model="styled", image=data_url(person), style_image=data_url(person))
    assert twice["status"] == "completed", "the same picture twice is one person"
    failed = await edit(studio, model="styled", image=data_url(person), style_image=data_url(other))
    assert (failed["status"], failed["error"]["code"]) == ("failed", "one_person_only")
    assert "run" not in [note["what"] for note in studio.notes(failed["id"])]
    known = {"image": failed["parameters"]["image"], "style_image": failed["parameters"]["style_image"]}
    refused = await studio.http.post("/api/generate/edit", json={"prompt": "x", "model": "styled", **known})
    assert (refused.status_code, refused.json()["code"]) == (422, "one_person_only"), "known by now"


async def test_a_reference_is_judged_before_anything_sees_it_and_a_refused_one_is_deleted(studio, one_more_model):
    before = files_in(studio.home / "media")
    fields = {
        "image": data_url(picture(GREEN)),
        "references": [data_url(picture(GREEN + 1)), data_url(picture(MAGENTA))],
    }
    failed = await edit(studio, model="styled", **fields)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_blocked")
    assert studio.notes(failed["id"]) == [], "the provider was asked"
    assert failed["parameters"]["references"][1] not in {
        str(row["id"]) for row in await rows(studio, "SELECT id FROM media")
    }
    assert len(files_in(studio.home / "media")) == len(before) + 4, "the two harmless uploads and their thumbnails"
    (blocked,) = await rows(studio, "SELECT * FROM verdicts WHERE is_blocked")
    assert blocked["stage"] == "input"


async def test_a_person_in_a_reference_counts_like_any_other(studio, one_more_model):
    person, other, tree = [data_url(picture(ORANGE, size)) for size in ((64, 48), (64, 64))] + [
        data_url(picture(GREEN))
    ]
    fine = await edit(studio, model="styled", image=tree, references=[person], seed=GREEN)
    assert fine["status"] == "completed", fine["error"]
    (row,) = await rows(studio, f"SELECT * FROM media WHERE id = '{fine['media'][0]['id']}'")
    assert (row["person_in_lineage"], row["is_foreign"]) == (True, True)
    suggestive = await edit(studio, model="styled", image=tree, references=[person], seed=PINK)
    assert suggestive["error"]["code"] == "content_blocked"
    for image, references in ((person, [other]), (tree, [person, other])):
        failed = await edit(studio, model="styled", image=image, references=references)
        assert (failed["status"], failed["error"]["code"]) == ("failed", "one_person_only")
        known = {"image": failed["parameters"]["image"], "references": failed["parameters"]["references"]}
        refused = await studio.http.post("/api/generate/edit", json={"prompt": "x", "model": "styled", **known})
        assert (refused.status_code, refused.json()["code"]) == (422, "one_person_only"), "known by now"


async def test_a_lora_of_a_person_counts_as_one(studio, one_more_model):
    alone = await studio.wait((await studio.generate(model="styled", loras=[{"model_id": "somebody"}]))["id"])
    assert alone["status"] == "completed", alone["error"]
    assert given(studio, alone["id"])["loras"] == ["somebody"]
    failed = await edit(studio, model="styled", image=data_url(picture(ORANGE)), loras=[{"model_id": "somebody"}])
    assert failed["error"]["code"] == "one_person_only"
    suggestive = await studio.generate(model="styled", seed=PINK, loras=[{"model_id": "somebody"}])
    assert (await studio.wait(suggestive["id"]))["error"]["code"] == "content_blocked"


async def test_a_preview_is_judged_before_it_is_shown_and_never_stored(studio):
    slow = {"step_s": 0.3, "previews": GREEN}
    asked = await studio.generate(steps=4, options=slow)
    shown = [event.data["preview"] async for event in ended(studio, asked["id"]) if "preview" in event.data]
    assert shown, "no preview came"
    data = base64.b64decode(shown[0]["url"].partition(",")[2])
    red, green, blue = Image.open(io.BytesIO(data)).convert("RGB").getpixel((5, 5))
    assert (shown[0]["index"], green > 200, red + blue < 80) == (0, True, True)
    assert "data:image" not in await everything_in_the_database(studio)
    before = files_in(studio.home / "media")
    asked = await studio.generate(seed=GREEN, steps=4, options={**slow, "previews": MAGENTA})
    assert [event.data for event in [e async for e in ended(studio, asked["id"])] if "preview" in event.data] == []
    failed = await studio.read(asked["id"])
    assert failed["error"]["code"] == "content_blocked"
    assert files_in(studio.home / "media") == before
    blocked = await rows(studio, "SELECT * FROM verdicts WHERE is_blocked")
    assert [one["stage"] for one in blocked] == ["preview"]


async def ended(studio: RunningStudio, generation_id: str):
    """The events of a generation until it ends."""
    async for event in studio.events(generation_id):
        yield event
        if event.type in ("completed", "failed"):
            return


async def test_an_upscale_is_judged_again(studio):
    media_id = await uploaded(studio, picture(GREEN))
    asked = await studio.http.post("/api/generate/upscale", json={"image": media_id, "model": "scripted", "scale": 2})
    done = await studio.wait(asked.json()["id"])
    assert done["status"] == "completed", done["error"]
    assert (done["media"][0]["width"], done["media"][0]["height"]) == (128, 96)
    stages = [row["stage"] for row in await rows(studio, "SELECT * FROM verdicts ORDER BY id")]
    assert stages == ["input", "output"]


@pytest.fixture
async def blind_studio(new_studio, tmp_path: Path) -> RunningStudio:
    """A studio whose detector knows no people."""
    return await new_studio(workers=1, environment={**lean_environment(tmp_path), "SCRIPTED_BLIND": "yes"})


async def test_without_a_detector_of_people_every_upload_counts_as_one(blind_studio):
    await add_models(blind_studio)
    one = await edit(blind_studio, image=data_url(picture(GREEN)), seed=PINK)
    assert one["error"]["code"] == "content_blocked", "nobody can say that it shows no person"
    first, second = data_url(picture(GREEN)), data_url(picture(GREEN, (64, 64)))
    failed = await edit(blind_studio, model="styled", image=first, style_image=second)
    assert failed["error"]["code"] == "one_person_only"
    assert "detector of people" in failed["error"]["message"]
    masked = await edit(blind_studio, image=first, mask=data_url(picture(0xFFFFFF)), seed=5)
    assert masked["status"] == "completed", masked["error"]
    (row,) = await rows(blind_studio, f"SELECT * FROM media WHERE id = '{failed['parameters']['image']}'")
    assert row["shows_person"] is None


async def test_a_detector_that_fails_lets_no_picture_in(new_studio, tmp_path):
    broken = tmp_path / "broken"
    broken.touch()
    environment = {
        **lean_environment(tmp_path),
        "SCRIPTED_DETECTOR": str(broken),
        "TINTYPE_WORKER_MAX_ATTEMPTS": "1",
    }
    studio = await new_studio(workers=1, environment=environment)
    failed = await edit(studio, image=data_url(picture(GREEN)))
    assert (failed["status"], failed["error"]["code"]) == ("failed", "safety_unavailable")
    assert studio.notes(failed["id"]) == []


async def test_the_verdict_of_an_input_names_its_pixels_by_hash_alone(studio):
    await edit(studio, image=data_url(picture(GREEN)))
    verdict = (await rows(studio, "SELECT * FROM verdicts WHERE stage = 'input'"))[0]
    assert verdict["content_sha256"] == hashlib.sha256(bytes(colour_of(GREEN)) * 64 * 48).hexdigest()


@pytest.fixture
async def one_more_model(studio: RunningStudio) -> None:
    """A model that takes LoRAs and style images, a LoRA of a person, and a style adapter."""
    await add_models(studio)


async def add_models(studio: RunningStudio) -> None:
    limits = {**SCRIPTED["limits"], "max_loras": 3, "max_references": 2}
    part = {
        name: SCRIPTED[name] for name in ("name", "description", "provider", "loader", "licence", "prompt_languages")
    }
    part |= {"draws_people": False, "tasks": [], "family": "scripted"}
    for manifest in (
        {**SCRIPTED, "id": "styled", "features": ["loras", "style_image", "references"], "limits": limits},
        {**part, "id": "somebody", "kind": "lora", "depicts_person": True},
        {**part, "id": "adapter", "kind": "style_adapter"},
    ):
        folder = studio.home / "models" / manifest["id"]
        folder.mkdir(exist_ok=True)
        (folder / "manifest.json").write_text(json.dumps(manifest))
    await asyncio.sleep(0.5)
