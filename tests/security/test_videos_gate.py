"""A video is judged by its frames: one that may not be shown takes all of it along, and nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests import videos
from tests.conftest import Servers
from tests.faults.ledger import until
from tests.processes import RunningStudio
from tests.security.test_content_gate import rows
from tests.videos import ask, made

MARKED = "a prompt like no other: quokka"


@pytest.fixture(scope="module")
async def studio(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStudio]:
    """One for all tests here, whose processes keep what they put aside in a folder of its own."""
    async with videos.studio(servers, tmp_path_factory.mktemp("videos")) as running:
        yield running


@pytest.fixture(autouse=True)
async def an_hour_later(studio: RunningStudio) -> AsyncIterator[None]:
    """Refusals of one test hold nobody back in the next."""
    yield
    await rows(studio, "UPDATE verdicts SET created_at = created_at - interval '61 minutes'")


async def tables_that_name(studio: RunningStudio, text: str) -> set[str]:
    """The tables in whose rows a text stands."""
    tables = [
        row["tablename"] for row in await rows(studio, "SELECT tablename FROM pg_tables WHERE schemaname='public'")
    ]
    return {table for table in tables if text in str(await rows(studio, f'SELECT * FROM "{table}"'))}


@pytest.mark.parametrize("place", [0, 4, 8, 16], ids=["first", "half a second", "a second", "last"])
@pytest.mark.parametrize("kind", [None, "gif"], ids=["frames", "file"])
async def test_one_forbidden_frame_blocks_the_video_and_leaves_nothing(studio, place, kind):
    options = {"forbidden_at": place, **({"as_file": kind} if kind else {})}
    asked = await ask(studio, prompt=MARKED, frames=17, options=options)
    failed = await studio.wait(asked["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "content_blocked")
    assert "video" in failed["error"]["message"]
    assert (failed["media"], failed["output_paths"]) == ([], [])
    assert videos.leftovers(studio, asked["id"]) == []
    mine = f"generation_id = '{asked['id']}'"
    assert await rows(studio, f"SELECT id FROM media WHERE {mine}") == []
    kinds = [row["type"] for row in await rows(studio, f"SELECT type FROM events WHERE {mine} ORDER BY id")]
    assert kinds == ["queued", "started", "failed"]
    assert await tables_that_name(studio, f"{asked['id']}-1-0") <= {"doomed_files"}
    assert await tables_that_name(studio, "quokka") == {"generations"}, (
        "as of a refused picture, its request alone stays"
    )
    blocked = await rows(studio, f"SELECT stage, reasons FROM verdicts WHERE {mine} AND is_blocked")
    assert [(row["stage"], row["reasons"]) for row in blocked] == [("frame", ["sexual"])]


async def test_a_harmless_video_has_its_first_last_and_two_frames_a_second_on_record(studio):
    video = await made(studio, frames=17, fps=8)
    query = f"SELECT stage, is_blocked, detectors FROM verdicts WHERE generation_id = '{video['generation_id']}'"
    found = await rows(studio, query)
    assert len(found) == 5  # of two seconds and one frame: at 0, 0.5, 1, 1.5 and 2 s
    assert {(row["stage"], row["is_blocked"], *row["detectors"]) for row in found} == {("frame", False, "colours")}


async def test_a_person_in_one_frame_makes_it_a_video_of_a_person(studio):
    for options, shows_person in (({}, False), ({"person_at": 4}, True)):
        video = await made(studio, frames=17, options=options)
        (row,) = await rows(studio, f"SELECT * FROM media WHERE id = '{video['id']}'")
        assert (row["shows_person"], row["is_foreign"]) == (shows_person, True)


async def test_a_video_of_two_people_is_not_made(studio):
    pictures = []
    for side in (64, 72):
        answer = await studio.http.post("/api/media", files={"file": videos.png((255, 128, 0), side)})
        pictures.append(answer.json()["id"])
    asked = await ask(studio, image=pictures[0], last_image=pictures[1])
    failed = await studio.wait(asked["id"])
    assert failed["error"]["code"] == "one_person_only"
    assert studio.notes(asked["id"]) == []


async def test_what_is_no_video_fails_by_name_and_a_picture_instead_of_one_too(studio):
    for options, code in (({"as_garbage": True}, "video_unreadable"), ({"as_picture": True}, "output_unexpected")):
        asked = await ask(studio, options=options)
        failed = await studio.wait(asked["id"])
        assert failed["error"]["code"] == code
        assert videos.leftovers(studio, asked["id"]) == []


async def test_a_cancelled_video_stops_within_a_step_and_leaves_nothing(studio):
    asked = await ask(studio, num_inference_steps=200, options={"step_s": 0.1})
    await until(lambda: studio.notes(asked["id"]), "it runs")
    assert (await studio.http.post(f"/api/generate/{asked['id']}/cancel")).status_code == 200
    ended = await studio.wait(asked["id"])
    assert ended["status"] == "cancelled"
    steps = len(studio.notes(asked["id"]))
    await asyncio.sleep(0.3)
    assert len(studio.notes(asked["id"])) == steps < 100
    assert videos.leftovers(studio, asked["id"]) == []


async def test_a_video_is_deleted_with_its_poster_and_storyboard_and_can_be_made_again(studio):
    video = await made(studio, seed=7)
    generation_id = video["generation_id"]
    await studio.http.get(f"/api/media/{video['id']}/content?without=settings")
    assert len(videos.leftovers(studio, generation_id)) == 5
    again = (await studio.http.post(f"/api/generate/{generation_id}/retry")).json()
    done = await studio.wait(again["id"])
    assert (done["kind"], done["media"][0]["video"]["frames"]) == ("video", 9)
    assert (await studio.http.delete(f"/api/generate/{generation_id}")).status_code == 204
    assert videos.leftovers(studio, generation_id) == []
    assert (await studio.http.get(f"/api/media/{video['id']}/storyboard")).status_code == 404
