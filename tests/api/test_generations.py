"""Ask for pictures, read and list them, cancel, run again, delete."""

import asyncio
import io
import uuid
from datetime import datetime

import pytest
from PIL import Image

from tests import processes
from tests.api import problems
from tintype.accounts import actors

FIELDS = {
    *("id", "kind", "status", "prompt", "parameters", "model", "style", "progress", "output_paths", "media", "error"),
    *("cost", "attempt", "retry_of", "created_at", "started_at", "completed_at"),
    *("position", "cancel_requested", "warnings"),
}


async def pages(http, **query) -> list[list[dict]]:
    found, cursor = [], None
    while True:
        asked = {**query, **({"cursor": cursor} if cursor else {})}
        answer = await http.get("/api/generate", params=asked)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        found.append(body["items"])
        if (cursor := body["next_cursor"]) is None:
            return found


async def test_a_request_is_answered_with_the_whole_generation(http, studio):
    answer = await http.post("/api/generate/image", json={"prompt": "  a hue ", "model": "scripted", "seed": 7})
    assert answer.status_code == 202
    asked = answer.json()
    assert set(asked) == FIELDS
    assert asked["prompt"] == "a hue"
    assert asked["warnings"] == []
    assert (asked["kind"], asked["status"], asked["model"], asked["attempt"]) == ("image", "queued", "scripted", 0)
    assert (asked["started_at"], asked["completed_at"], asked["error"], asked["media"]) == (None, None, None, [])
    assert uuid.UUID(asked["id"]).version == 7
    expected = {"width": 64, "height": 64, "num_images": 1, "seed": 7, "seeds": [7], "num_inference_steps": 2}
    assert asked["parameters"].items() >= {**expected, "sampler": "euler", "output_format": "png"}.items()
    done = await studio.wait(asked["id"])
    assert (asked["position"], asked["cancel_requested"]) == (1, False)
    assert (done["status"], done["attempt"], done["progress"]) == ("completed", 1, None)
    assert (done["position"], done["cancel_requested"]) == (None, False)
    times = [datetime.fromisoformat(done[name]) for name in ("created_at", "started_at", "completed_at")]
    assert times == sorted(times)
    assert all(time.utcoffset().total_seconds() == 0 for time in times)
    assert done["output_paths"] == [done["media"][0]["url"]]


async def test_a_running_generation_that_was_cancelled_says_so_until_it_stops(http, studio):
    asked = await studio.generate(steps=2, options={"step_s": 1.0})
    running = await studio.wait_for(asked["id"], "processing")
    assert (running["position"], running["cancel_requested"]) == (None, False)
    answer = (await http.post(f"/api/generate/{asked['id']}/cancel")).json()
    assert (answer["status"], answer["cancel_requested"]) == ("processing", True)
    assert (await studio.wait(asked["id"]))["status"] == "cancelled"


async def test_progress_is_told_while_it_runs_and_not_of_what_has_ended(http, studio):
    asked = await studio.generate(steps=20, options={"step_s": 0.1})
    seen = []
    while (now := await studio.read(asked["id"]))["status"] in ("queued", "processing"):
        seen += [now["progress"]] if now["progress"] else []
        await asyncio.sleep(0.1)
    assert seen
    assert all(item["steps"] == 20 and item["percent"] == 5 * item["step"] for item in seen)
    assert [item["step"] for item in seen] == sorted(item["step"] for item in seen)
    assert (now["status"], now["progress"]) == ("completed", None)


async def test_the_short_names_of_other_tools_are_understood(http, studio):
    asked = await studio.generate(steps=3, cfg_scale=2.5)
    assert (asked["parameters"]["num_inference_steps"], asked["parameters"]["guidance_scale"]) == (3, 2.5)
    await studio.wait(asked["id"])


async def test_seed_minus_one_draws_one_and_none_twice_the_same(http, studio):
    drawn = await asyncio.gather(*(studio.generate(seed=-1) for _ in range(4)), studio.generate())
    seeds = {asked["parameters"]["seed"] for asked in drawn}
    assert len(seeds) == len(drawn)
    assert all(0 <= seed < 2**32 for seed in seeds)
    await asyncio.gather(*(studio.wait(asked["id"]) for asked in drawn))


async def test_several_pictures_have_consecutive_seeds_that_wrap_around(http, studio):
    done = await studio.wait((await studio.generate(num_images=3, seed=2**32 - 2))["id"])
    assert [picture["seed"] for picture in done["media"]] == [2**32 - 2, 2**32 - 1, 0]
    assert [picture["index"] for picture in done["media"]] == [0, 1, 2]
    assert len(set(done["output_paths"])) == 3


async def test_every_finished_state_can_be_filtered_for(http, studio):
    good, bad, stopped = await asyncio.gather(
        studio.generate("filter me"),
        studio.generate("filter me", options={"fail_code": "scripted_refused"}),
        studio.generate("filter me", steps=500, options={"step_s": 0.1}),
    )
    await http.post(f"/api/generate/{stopped['id']}/cancel")
    for asked, status in ((good, "completed"), (bad, "failed"), (stopped, "cancelled")):
        await studio.wait_for(asked["id"], status)
        [page] = await pages(http, status=status, q="FILTER me")
        assert [item["id"] for item in page] == [asked["id"]]
    failed = await studio.read(bad["id"])
    assert failed["error"] == {"code": "scripted_refused", "message": "asked to fail"}
    assert failed["media"] == []


async def test_model_style_and_kind_filter_the_list(http, studio):
    plain, styled = await asyncio.gather(studio.generate("hued"), studio.generate("hued", style="lux"))
    assert [i["id"] for i in (await pages(http, q="hued", style="lux"))[0]] == [styled["id"]]
    assert [i["id"] for i in (await pages(http, q="hued", model="scripted", kind="image"))[0]] == [
        styled["id"],
        plain["id"],
    ]
    assert await pages(http, q="hued", model="sketch") == [[]]
    assert await pages(http, q="hued", kind="video") == [[]]
    assert len((await pages(http, q="hued", owner=str(actors.OWNER_ID)))[0]) == 2
    assert await pages(http, q="hued", owner=str(uuid.uuid4())) == [[]]
    await asyncio.gather(studio.wait(plain["id"]), studio.wait(styled["id"]))


@pytest.mark.parametrize(
    ("q", "matches"), [("100%", ["a 100% b"]), ("x_y", ["an x_y z"]), ("\\", ["back\\slash"]), ("STRAßE", ["straße"])]
)
async def test_signs_of_the_search_language_mean_themselves(http, studio, q, matches):
    prompts = ["a 100% b", "a 1000 b", "an x_y z", "an xay z", "back\\slash", "straße"]
    made = [await studio.generate(prompt) for prompt in prompts]
    [found] = await pages(http, q=q)
    assert sorted({item["prompt"] for item in found}) == matches
    await asyncio.gather(*(studio.wait(asked["id"]) for asked in made))


async def test_a_list_read_page_by_page_neither_skips_nor_repeats_while_it_grows(http, studio):
    before = [(await studio.generate("paged"))["id"] for _ in range(7)]
    answer = (await http.get("/api/generate", params={"q": "paged", "limit": 3})).json()
    seen = [item["id"] for item in answer["items"]]
    meanwhile = []
    while answer["next_cursor"]:
        meanwhile.append((await studio.generate("paged"))["id"])
        query = {"q": "paged", "limit": 3, "cursor": answer["next_cursor"]}
        answer = (await http.get("/api/generate", params=query)).json()
        seen += [item["id"] for item in answer["items"]]
    assert seen == before[::-1]
    assert [len(page) for page in await pages(http, q="paged", limit=3)] == [3, 3, 3]
    await asyncio.gather(*(studio.wait(name) for name in before + meanwhile))


async def test_a_page_of_exactly_the_limit_is_the_last(http, studio):
    made = [await studio.generate("exactly") for _ in range(2)]
    assert [len(page) for page in await pages(http, q="exactly", limit=2)] == [2]
    await asyncio.gather(*(studio.wait(asked["id"]) for asked in made))


async def test_cancelling_stops_a_running_generation_within_a_step(http, studio):
    asked = await studio.generate(steps=1000, options={"step_s": 0.1})
    await studio.wait_for(asked["id"], "processing")
    answer = await http.post(f"/api/generate/{asked['id']}/cancel")
    assert (answer.status_code, answer.json()["id"]) == (200, asked["id"])
    done = await studio.wait(asked["id"], timeout_s=10)
    assert (done["status"], done["media"], done["error"]) == ("cancelled", [], None)
    steps = len(studio.notes(asked["id"]))
    await asyncio.sleep(0.4)
    assert len(studio.notes(asked["id"])) == steps
    again = await http.post(f"/api/generate/{asked['id']}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_what_has_finished_cannot_be_cancelled(http, studio):
    good, bad = await studio.generate(), await studio.generate(options={"fail_code": "no"})
    for asked, state in ((good, "completed"), (bad, "failed")):
        await studio.wait(asked["id"])
        answer = await http.post(f"/api/generate/{asked['id']}/cancel")
        assert state in problems.check(answer, 409, "generation_already_finished")["detail"]


async def test_running_again_gives_the_same_pixels_under_a_new_id(http, studio):
    first = await studio.wait((await studio.generate("again", num_images=2, seed=0x112233))["id"])
    answer = await http.post(f"/api/generate/{first['id']}/retry")
    assert answer.status_code == 202
    asked = answer.json()
    assert asked["id"] != first["id"]
    assert (asked["retry_of"], asked["parameters"], asked["prompt"]) == (first["id"], first["parameters"], "again")
    second = await studio.wait(asked["id"])
    for old, new in zip(first["output_paths"], second["output_paths"], strict=True):
        pictures = [Image.open(io.BytesIO((await http.get(path)).content)).tobytes() for path in (old, new)]
        assert pictures[0] == pictures[1]


async def test_what_failed_or_was_cancelled_can_run_again_but_not_what_runs(http, studio):
    failed = await studio.wait((await studio.generate(options={"fail_code": "no"}))["id"])
    running = await studio.generate(steps=1000, options={"step_s": 0.1})
    problems.check(await http.post(f"/api/generate/{running['id']}/retry"), 409, "generation_active")
    await http.post(f"/api/generate/{running['id']}/cancel")
    await studio.wait(running["id"])
    for old in (failed, running):
        answer = await http.post(f"/api/generate/{old['id']}/retry")
        assert answer.status_code == 202
        await http.delete(f"/api/generate/{answer.json()['id']}")


async def test_deleting_removes_row_pictures_and_files(http, studio):
    done = await studio.wait((await studio.generate(num_images=2))["id"])
    path = done["output_paths"][0]
    files = [file for file in (studio.home / "media").rglob("*") if done["id"] in file.name]
    assert len(files) == 4
    answer = await http.delete(f"/api/generate/{done['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    problems.check(await http.get(f"/api/generate/{done['id']}"), 404, "generation_unknown")
    problems.check(await http.get(path), 404, "media_unknown")
    assert not [file for file in files if file.exists()]
    problems.check(await http.delete(f"/api/generate/{done['id']}"), 404, "generation_unknown")


async def test_deleting_what_runs_stops_it_and_leaves_nothing_behind(http, studio):
    asked = await studio.generate(steps=1000, options={"step_s": 0.1})
    await studio.wait_for(asked["id"], "processing")
    assert (await http.delete(f"/api/generate/{asked['id']}")).status_code == 204
    problems.check(await http.get(f"/api/generate/{asked['id']}"), 404, "generation_unknown")
    await asyncio.sleep(0.3)
    steps = len(studio.notes(asked["id"]))
    await asyncio.sleep(0.4)
    assert len(studio.notes(asked["id"])) == steps


async def test_a_higher_priority_runs_first(http, studio):
    blockers = [await studio.generate(steps=1000, options={"step_s": 0.5}) for _ in range(processes.HELD)]
    for asked in blockers:
        await studio.wait_for(asked["id"], "processing")
    crowd = [await studio.generate(priority=-5) for _ in range(processes.HELD + 8)]  # more than one worker has in hand
    urgent = await studio.generate(priority=50)
    detailed = (await http.get("/health/detailed")).json()
    assert sum(detailed["queue_depth"].values()) >= 1
    for asked in blockers:
        await http.post(f"/api/generate/{asked['id']}/cancel")
    done = {asked["id"]: await studio.wait(asked["id"]) for asked in (*crowd, urgent)}
    last_started = max(done[asked["id"]]["started_at"] for asked in crowd)
    assert done[urgent["id"]]["started_at"] < last_started


async def test_a_script_that_the_model_does_not_read_is_drawn_and_warned_of(http, studio):
    answer = await http.post("/api/generate/image", json={"prompt": "красный круг, ดวงจันทร์", "model": "scripted"})
    assert answer.status_code == 202
    (warning,) = answer.json()["warnings"]
    assert warning["code"] == "language_unread"
    assert "'scripted' reads English only" in warning["message"]
    assert "Cyrillic and Thai" in warning["message"]
    assert "warnings" not in answer.json()["parameters"]
    read = (await http.get(f"/api/generate/{answer.json()['id']}")).json()
    assert read["warnings"] == [warning]
