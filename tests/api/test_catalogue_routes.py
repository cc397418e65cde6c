"""Models and styles as the API tells them, and a catalogue that changes while the studio runs."""

import asyncio
import json
import shutil

from tests import processes
from tests.api import problems
from tests.processes import SCRIPTED
from tintype.catalog.operations import LOOK_S


async def test_the_installed_models_are_listed_with_what_they_allow(http):
    page = (await http.get("/api/models")).json()
    found = {model["id"]: model for model in page["items"]}
    assert page["next_cursor"] is None
    assert found["scripted"]["limits"]["max_side"] == 512
    assert found["scripted"]["options"]["properties"]["step_s"] == {"type": "number"}
    assert found["sketch"]["draws_people"] is False
    assert found["sketch"]["disk_bytes"] > 1 << 20
    assert found["sketch"]["licence"]["id"] == "Apache-2.0"


async def test_models_can_be_filtered_by_kind_and_task(http):
    for query, is_there in [("kind=checkpoint", True), ("kind=lora", False), ("task=text_to_video", False)]:
        ids = [model["id"] for model in (await http.get(f"/api/models?{query}")).json()["items"]]
        assert ("scripted" in ids) is is_there, query


async def test_one_model_can_be_read_and_an_unknown_one_cannot(http):
    assert (await http.get("/api/models/scripted")).json()["samplers"] == ["euler", "other"]
    for name in ("nope", "%00", "..", "x" * 500):
        problems.check(await http.get(f"/api/models/{name}".replace("..", "%2e%2e%5c")), 404, "model_unknown")


async def test_the_styles_are_listed(http):
    assert [style["id"] for style in (await http.get("/api/styles")).json()["items"]] == [
        "realism",
        "lux",
        "anime",
        "chatgpt",
    ]


async def test_a_model_that_appears_is_served_without_a_restart_and_one_that_goes_is_not(http, studio):
    folder = studio.home / "models" / "late"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({**SCRIPTED, "id": "late"}))
    asked = await studio.generate("late", model="late")
    done = await studio.wait(asked["id"], timeout_s=20)
    assert (done["status"], done["model"]) == ("completed", "late")
    shutil.rmtree(folder)
    answer = await http.post("/api/generate/image", json={"prompt": "x", "model": "late"})
    problems.check_field(answer, "model", says="installed: ", code="model_unknown")
    problems.check(await http.post(f"/api/generate/{asked['id']}/retry"), 404, "model_unknown")
    assert (await studio.read(asked["id"]))["model"] == "late"


async def test_a_manifest_that_breaks_is_left_out_and_said_in_the_log(http, studio):
    path = studio.home / "models" / "broken" / "manifest.json"
    path.parent.mkdir()
    path.write_text('{"id": "broken"')
    await asyncio.sleep(LOOK_S + 0.05)
    ids = [model["id"] for model in (await http.get("/api/models")).json()["items"]]
    assert "broken" not in ids
    assert "scripted" in ids
    written = (studio.home / "api.log").read_text().splitlines()
    lines = [json.loads(line) for line in written if line.startswith("{")]
    [line] = [line for line in lines if line["event"] == "model left out"]
    assert str(path) in line["error"]
    path.write_text(json.dumps({**SCRIPTED, "id": "broken"}))
    await asyncio.sleep(LOOK_S + 0.05)
    assert (await http.get("/api/models/broken")).status_code == 200
    shutil.rmtree(path.parent)


async def test_a_model_whose_detector_is_missing_is_refused_at_once(http, studio):
    path = studio.home / "models" / "people" / "manifest.json"
    path.parent.mkdir()
    path.write_text(json.dumps({**SCRIPTED, "id": "people"}))
    done = await studio.wait((await studio.generate("nobody", model="people"))["id"])
    path.write_text(json.dumps({**SCRIPTED, "id": "people", "dependencies": ["seer"]}))
    answer = await http.post("/api/generate/image", json={"prompt": "a portrait", "model": "people"})
    problems.check_field(answer, "model", says="'sketch'", code="safety_detector_missing")
    problems.check(await http.post(f"/api/generate/{done['id']}/retry"), 422, "safety_detector_missing")
    answer = await http.post("/generate", json={"prompt": "a portrait", "extra_params": {"model": "people"}})
    problems.check(answer, 422, "safety_detector_missing")
    shutil.rmtree(path.parent)


async def test_the_worker_refuses_such_a_model_too_when_it_became_one_in_line(http, studio):
    path = studio.home / "models" / "turning" / "manifest.json"
    path.parent.mkdir()
    path.write_text(json.dumps({**SCRIPTED, "id": "turning"}))
    blockers = [await studio.generate(steps=1000, options={"step_s": 0.5}) for _ in range(processes.HELD)]
    await asyncio.gather(*(studio.wait_for(asked["id"], "processing") for asked in blockers))
    asked = await studio.generate(model="turning")
    path.write_text(json.dumps({**SCRIPTED, "id": "turning", "dependencies": ["seer"]}))
    for blocker in blockers:
        await http.delete(f"/api/generate/{blocker['id']}")
    done = await studio.wait(asked["id"], timeout_s=20)
    assert (done["status"], done["error"]["code"]) == ("failed", "safety_detector_missing")
    assert not studio.notes(asked["id"])
    shutil.rmtree(path.parent)
