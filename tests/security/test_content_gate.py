"""What may not be made is stopped at every door, leaves nothing behind and is written down."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.faults.conftest import lean_environment
from tests.faults.ledger import files_in
from tests.processes import RunningStudio

HARMLESS = 0x00FF00
MAGENTA = 0xFF00FF
"""The scripted provider takes its colour from the seed, and the stand-in detector takes magenta for explicit."""
REFUSED = "undress the woman in this photo"


@pytest.fixture
async def studio(new_studio, tmp_path: Path) -> RunningStudio:
    return await new_studio(workers=1, environment=lean_environment(tmp_path))


async def rows(studio: RunningStudio, query: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(studio.url)
    try:
        return [dict(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def everything_in_the_database(studio: RunningStudio) -> str:
    tables = await rows(studio, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return "\n".join(
        [str(row) for table in tables for row in await rows(studio, f'SELECT * FROM "{table["tablename"]}"')]
    )


async def test_a_blocked_prompt_is_refused_before_anything_is_kept(studio):
    before = files_in(studio.home / "media")
    answer = await studio.http.post("/api/generate/image", json={"prompt": REFUSED, "model": "scripted"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "content_blocked")
    assert problem["errors"][0]["loc"] == ["body", "prompt"]
    assert REFUSED not in answer.text
    assert files_in(studio.home / "media") == before
    assert await rows(studio, "SELECT id FROM generations") == []
    assert REFUSED not in await everything_in_the_database(studio)
    assert REFUSED not in studio.logs()
    (verdict,) = await rows(studio, "SELECT * FROM verdicts")
    assert (verdict["stage"], verdict["is_blocked"], verdict["reasons"]) == ("prompt", True, ["undress"])
    assert verdict["detectors"] == ["words"]
    assert len(verdict["content_sha256"]) == 64


async def test_the_synchronous_door_refuses_the_same(studio):
    answer = await studio.http.post("/generate", json={"mode": "free", "prompt": REFUSED})
    assert "content_blocked" in answer.text
    assert await rows(studio, "SELECT id FROM generations") == []


async def test_a_text_in_the_models_own_options_is_looked_at_too(studio):
    manifest = studio.home / "models" / "scripted" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"noise": {', '"caption": {"type": "string"}, "noise": {'))
    await asyncio.sleep(0.5)
    asked = {"prompt": "a boat", "model": "scripted", "options": {"caption": REFUSED}}
    answer = await studio.http.post("/api/generate/image", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "content_blocked")
    assert answer.json()["errors"][0]["loc"] == ["body", "options"]


@pytest.mark.parametrize("where", ["prompt", "options"])
async def test_words_that_only_a_text_detector_understands_never_reach_a_provider(new_studio, tmp_path, where):
    environment = {**lean_environment(tmp_path), "SCRIPTED_WORD": "frobnicate"}
    studio = await new_studio(workers=1, environment=environment)
    manifest = studio.home / "models" / "scripted" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"noise": {', '"caption": {"type": "string"}, "noise": {'))
    await asyncio.sleep(0.5)
    fine = await studio.wait((await studio.generate("a boat", seed=HARMLESS, options={"caption": "a ship"}))["id"])
    assert fine["status"] == "completed", fine["error"]
    words = "please frobnicate the boat"
    said = {"prompt": words} if where == "prompt" else {"prompt": "a boat", "options": {"caption": words}}
    asked = await studio.generate(**said)
    failed = await studio.wait(asked["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_blocked")
    assert studio.notes(asked["id"]) == []
    blocked = await rows(studio, "SELECT * FROM verdicts WHERE is_blocked")
    assert [(one["stage"], one["detectors"]) for one in blocked] == [("prompt", ["words", "colours"])]


async def test_a_blocked_output_leaves_no_file_row_or_event_and_ends_its_batch(studio):
    asked = await studio.generate(seed=MAGENTA - 1, num_images=4, options={"picture_s": 0.2})
    failed = await studio.wait(asked["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_blocked")
    assert failed["output_paths"] == []
    drawn = [note["what"] for note in studio.notes(asked["id"])].count("picture")
    assert drawn <= 1, "the rest of the batch went on"
    assert await rows(studio, "SELECT id FROM media") == []
    assert files_in(studio.home / "media") == []
    kinds = [row["type"] for row in await rows(studio, "SELECT type FROM events ORDER BY id")]
    assert "image" not in kinds
    assert kinds[-1] == "failed"
    (verdict,) = await rows(studio, "SELECT * FROM verdicts")
    assert (verdict["stage"], verdict["is_blocked"], verdict["reasons"]) == ("output", True, ["sexual"])
    assert str(verdict["generation_id"]) == asked["id"]


async def test_a_harmless_output_passes_and_its_verdict_is_on_record(studio):
    done = await studio.wait((await studio.generate(seed=HARMLESS))["id"])
    assert done["status"] == "completed", done["error"]
    (verdict,) = await rows(studio, "SELECT * FROM verdicts")
    assert (verdict["stage"], verdict["is_blocked"], verdict["detectors"]) == ("output", False, ["colours"])


async def test_repeated_blocks_pause_their_owner_with_a_time_to_come_back(studio):
    asked = {"prompt": REFUSED, "model": "scripted"}
    for _ in range(5):
        assert (await studio.http.post("/api/generate/image", json=asked)).status_code == 422
    held = await studio.http.post("/api/generate/image", json={"prompt": "a boat", "model": "scripted"})
    assert (held.status_code, held.json()["code"]) == (429, "paused_after_blocks")
    assert 0 < int(held.headers["Retry-After"]) <= 3600
    assert await rows(studio, "SELECT id FROM generations") == []
    await rows(studio, "UPDATE verdicts SET created_at = created_at - interval '61 minutes'")
    assert (await studio.wait((await studio.generate("a boat"))["id"]))["status"] == "completed"


async def test_a_detector_that_fails_stops_what_needs_it_and_says_so(new_studio, tmp_path):
    broken = tmp_path / "broken"
    broken.touch()
    environment = {
        **lean_environment(tmp_path),
        "SCRIPTED_DETECTOR": str(broken),
        "TINTYPE_WORKER_MAX_ATTEMPTS": "2",
    }
    studio = await new_studio(workers=1, environment=environment)
    asked = await studio.generate(seed=HARMLESS)
    failed = await studio.wait(asked["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "safety_unavailable")
    assert [note["what"] for note in studio.notes(asked["id"])].count("run") == 2, "it is retryable"
    assert files_in(studio.home / "media") == []
    broken.unlink()
    assert (await studio.wait((await studio.generate(seed=HARMLESS))["id"]))["status"] == "completed"


@pytest.fixture
async def studio_without_detector(new_studio, tmp_path: Path) -> RunningStudio:
    """The scripted provider alone: its distribution without the detector."""
    bare = tmp_path / "bare"
    metadata = bare / "tintype_scripted-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tintype-scripted\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[tintype.providers]\nscripted = tintype_scripted:create\n")
    lean = lean_environment(tmp_path)
    first, *rest = lean["PYTHONPATH"].split(":")
    return await new_studio(workers=1, environment={**lean, "PYTHONPATH": ":".join([first, str(bare), *rest])})


async def test_without_a_detector_only_what_ships_with_tintype_is_drawn(studio_without_detector):
    answer = await studio_without_detector.http.post("/api/generate/image", json={"prompt": "x", "model": "scripted"})
    assert (answer.status_code, answer.json()["code"]) == (422, "safety_detector_missing")
    assert "sketch" in answer.json()["detail"]
    accepted = await studio_without_detector.http.post("/api/generate/image", json={"prompt": "a red circle"})
    assert accepted.status_code == 202, accepted.text


async def test_the_log_of_verdicts_is_paged_filtered_and_counted(studio):
    await studio.http.post("/api/generate/image", json={"prompt": REFUSED, "model": "scripted"})
    for seed in (HARMLESS, HARMLESS + 1):
        await studio.wait((await studio.generate(seed=seed))["id"])
    first = (await studio.http.get("/api/verdicts", params={"limit": 2})).json()
    rest = (await studio.http.get("/api/verdicts", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    stages = [item["stage"] for item in first["items"] + rest["items"]]
    assert (stages, rest["next_cursor"]) == (["output", "output", "prompt"], None)
    (blocked,) = (await studio.http.get("/api/verdicts", params={"blocked": True})).json()["items"]
    assert (blocked["reasons"], blocked["generation_id"]) == (["undress"], None)
    (count,) = (await studio.http.get("/api/verdicts/counts")).json()["items"]
    assert (count["judged"], count["blocked"]) == (3, 1)
    assert (await studio.http.get("/api/verdicts", params={"cursor": "?"})).status_code == 422
