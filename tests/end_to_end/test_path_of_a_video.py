"""The whole path of a video with real processes: HTTP in, events out, a signed file that plays at the end."""

import io
from collections.abc import AsyncIterator

import av
import numpy as np
import pytest
from PIL import Image

from tests import videos
from tests.api.pictures import data_url
from tests.conftest import Servers, on_both_kinds
from tests.processes import RunningStudio
from tests.videos import ask, boxes_of, frames_of, made
from tintype import settings
from tintype.media.provenance import inspect

GREEN = 0x20C830
"""As the seed: red in the lowest byte."""


@pytest.fixture(scope="module")
async def studio(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStudio]:
    """One for all tests here: each makes a video and changes nothing else."""
    async with videos.studio(servers, tmp_path_factory.mktemp("videos")) as running:
        yield running


def places_of_the_square(frames: np.ndarray) -> list[float]:
    """Where its middle is in each frame, in pixels from the left."""
    green = frames[..., 1].astype(int) - frames[..., 0]
    return [float(np.nonzero(frame > 80)[1].mean()) for frame in green]


@on_both_kinds
async def test_a_request_becomes_a_video_in_which_the_square_moves(new_studio, tmp_path):
    studio = videos.install(await new_studio(workers=1, environment=videos.environment(tmp_path)))
    asked = await ask(studio, seed=GREEN, seconds=2, fps=8, options={"step_s": 0.1})
    assert (asked["status"], asked["kind"]) == ("queued", "video")
    assert {name: asked["parameters"][name] for name in ("frames", "fps", "seconds", "num_images")} == {
        "frames": 17,
        "fps": 8,
        "seconds": 2.125,
        "num_images": 1,
    }
    seen = [event async for event in studio.events(asked["id"])]
    assert [event.type for event in seen if event.id is not None] == ["queued", "started", "image", "completed"]
    assert any(event.type == "progress" for event in seen)
    (video,) = (await studio.read(asked["id"]))["media"]
    data = (await studio.http.get(video["url"])).content
    assert boxes_of(data)[:3] == ["ftyp", "uuid", "moov"], "a player must be able to begin before it has all"
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 8)
        assert float(container.duration / av.time_base) == pytest.approx(17 / 8, abs=0.05)
        assert "a square" in container.metadata["comment"]
        assert len(container.streams) == 1
    frames = frames_of(data)
    assert frames.shape == (17, 64, 64, 3)
    places = places_of_the_square(frames)
    assert places == pytest.approx(np.linspace(8, 56, 17), abs=2)
    assert np.abs(frames[0, 30, 6].astype(int) - (0x30, 0xC8, 0x20)).max() < 16
    about = video["video"]
    assert (about["seconds"], about["fps"], about["frames"], about["codec"]) == (2.125, 8.0, 17, "h264")


async def test_a_video_says_by_every_layer_what_made_it(studio):
    video = await made(studio, seed=GREEN, width=256, height=256, frames=17)
    data = (await studio.http.get(video["url"])).content
    found = inspect.inspect(data, inspect.trust(studio.home, settings.Provenance()))
    assert (found.content_type, found.manifest.state, found.manifest.model) == ("video/mp4", "trusted", "moving")
    assert found.xmp is not None
    assert found.xmp.source_type.endswith("/trainedAlgorithmicMedia")
    assert found.mark.state == "created"
    written = found.settings.settings
    assert written is not None
    assert (written.prompt, written.seed, written.extra) == ("a square", GREEN, {"Frames": "17", "FPS": "8"})


async def test_poster_and_storyboard_show_the_video_and_are_labelled(studio):
    video = await made(studio, seed=GREEN, frames=17)
    poster = (await studio.http.get(video["thumbnail_url"])).content
    sheet = video["video"]["storyboard"]
    storyboard = (await studio.http.get(sheet["url"])).content
    assert (sheet["tiles"], sheet["columns"], sheet["tile_width"], sheet["tile_height"]) == (17, 5, 64, 64)
    image = np.asarray(Image.open(io.BytesIO(storyboard)).convert("RGB"))
    assert image.shape == (4 * 64, 5 * 64, 3)
    tiles = np.stack([image[64 * (n // 5) : 64 * (n // 5) + 64, 64 * (n % 5) : 64 * (n % 5) + 64] for n in range(17)])
    assert places_of_the_square(tiles) == pytest.approx(np.linspace(8, 56, 17), abs=2)
    for data in (poster, storyboard):
        found = inspect.inspect(data, inspect.trust(studio.home, settings.Provenance()))
        assert (found.content_type, found.manifest.state) == ("image/webp", "trusted")


@pytest.mark.parametrize("kind", ["mp4", "webm", "gif", "webp"])
async def test_a_finished_file_leaves_as_one_of_ours_without_its_texts_and_sound(studio, kind):
    video = await made(studio, seed=GREEN, width=96, options={"as_file": kind})
    data = (await studio.http.get(video["url"])).content
    assert b"somebody" not in data
    with av.open(io.BytesIO(data)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    frames = frames_of(data)
    assert frames.shape == (9, 64, 96, 3)
    assert places_of_the_square(frames) == pytest.approx(np.linspace(8, 88, 9), abs=2)
    assert video["video"]["fps"] == pytest.approx(8, rel=0.05), "a GIF counts hundredths of a second"


@pytest.mark.parametrize("kind", ["gif", "webp"])
async def test_a_video_is_written_as_an_animation_on_request(studio, kind):
    video = await made(studio, seed=GREEN, output_format=kind)
    answer = await studio.http.get(video["url"])
    assert (answer.headers["content-type"], video["video"]["codec"]) == (f"image/{kind}", kind)
    image = Image.open(io.BytesIO(answer.content))
    assert (image.n_frames, image.size) == (9, (64, 64))
    found = inspect.inspect(answer.content, inspect.trust(studio.home, settings.Provenance()))
    assert found.manifest.state == "trusted"
    assert found.xmp is not None
    assert found.settings.settings is not None


async def test_a_video_begins_and_ends_with_the_pictures_that_were_sent(studio):
    first, last = [await uploaded(studio, colour) for colour in ((200, 30, 30), (30, 30, 200))]
    asked = await ask(studio, image=first, last_image=last, seed=GREEN, prompt="", width=96, height=64)
    done = await studio.wait(asked["id"])
    assert done["status"] == "completed", done["error"]
    data = (await studio.http.get(done["media"][0]["url"])).content
    frames = frames_of(data)
    assert np.abs(frames[0, 32, 48].astype(int) - (200, 30, 30)).max() < 12
    assert np.abs(frames[-1, 32, 48].astype(int) - (30, 30, 200)).max() < 12
    (note,) = [note for note in studio.notes(asked["id"]) if note["what"] == "run"]
    assert note["task"] == "image_to_video"
    found = inspect.inspect(data, inspect.trust(studio.home, settings.Provenance()))
    assert found.xmp is not None
    assert found.xmp.source_type.endswith("/compositeWithTrainedAlgorithmicMedia")
    assert [part.relation for part in found.manifest.parts] == ["parentOf", "inputTo"]


async def uploaded(studio: RunningStudio, colour: tuple[int, int, int]) -> str:
    file = io.BytesIO()
    Image.new("RGB", (96, 64), colour).save(file, "PNG")
    answer = await studio.http.post("/api/media", files={"file": file.getvalue()})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def test_a_picture_sent_along_gives_the_video_its_shape(studio):
    file = io.BytesIO()
    Image.new("RGB", (120, 40), (200, 30, 30)).save(file, "PNG")
    video = await made(studio, image=data_url(file.getvalue()))
    assert (video["width"], video["height"]) == (104, 32)


async def test_a_part_of_a_video_is_given_for_a_range_and_nothing_for_what_is_known(studio):
    video = await made(studio)
    whole = await studio.http.get(video["url"])
    part = await studio.http.get(video["url"], headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["content-type"] == "video/mp4"
    known = await studio.http.get(video["url"], headers={"If-None-Match": whole.headers["ETag"]})
    assert known.status_code == 304
    assert whole.headers["Content-Disposition"].endswith('.mp4"')
    sheet = await studio.http.get(video["video"]["storyboard"]["url"])
    assert sheet.headers["content-type"] == "image/webp"


async def test_a_video_leaves_without_its_prompt_when_that_is_asked_for(studio):
    video = await made(studio, seed=GREEN)
    url = f"/api/media/{video['id']}/content"
    whole, bare = (await studio.http.get(url)).content, (await studio.http.get(f"{url}?without=settings")).content
    assert b"a square" in whole
    assert b"a square" not in bare
    assert np.array_equal(frames_of(whole), frames_of(bare)), "the frames must stay as they are, to the last bit"
    found = inspect.inspect(bare, inspect.trust(studio.home, settings.Provenance()))
    assert (found.manifest.state, found.settings.settings) == ("trusted", None)
    assert found.xmp is not None


async def test_the_same_request_with_the_same_key_makes_one_video_that_the_list_shows_by_its_kind(studio):
    body = {"prompt": "asked for twice", "model": "moving", "seed": 5}
    answers = [
        await studio.http.post("/api/generate/video", json=body, headers={"Idempotency-Key": "a video"})
        for _ in range(2)
    ]
    first, second = (answer.json()["id"] for answer in answers)
    assert (first, answers[1].headers["Idempotent-Replayed"]) == (second, "true")
    await studio.wait(first)
    for kind, expected in (("video", [first]), ("image", [])):
        page = (await studio.http.get("/api/generate", params={"kind": kind, "q": "asked for twice"})).json()
        assert [item["id"] for item in page["items"]] == expected


async def test_what_no_video_can_be_made_of_is_refused_with_what_to_send(studio):
    video = await made(studio)
    for fields, status, loc in (
        ({"prompt": "undress the woman in this photo"}, 422, ["body", "prompt"]),
        ({"prompt": "x", "image": video["id"]}, 422, ["body", "image"]),
        ({"prompt": "x", "seconds": 100}, 422, ["body", "seconds"]),
        ({"prompt": "x", "num_images": 2}, 422, ["body", "num_images"]),
        ({"prompt": "x", "model": "scripted"}, 422, ["body", "model"]),
    ):
        answer = await studio.http.post("/api/generate/video", json={"model": "moving", **fields})
        problem = answer.json()
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert problem["errors"][0]["loc"] == loc, problem


async def test_a_video_cannot_be_uploaded(studio):
    video = await made(studio)
    data = (await studio.http.get(video["url"])).content
    answer = await studio.http.post("/api/media", files={"file": data})
    assert answer.status_code == 415


async def test_a_picture_a_video_was_made_from_takes_it_along_when_a_consent_is_withdrawn(studio):
    picture = await uploaded(studio, (120, 120, 40))
    asked = await ask(studio, image=picture)
    await studio.wait(asked["id"])
    consent = await studio.http.post(
        "/api/consents", json={"media": [picture], "statement": "I agree", "stated_by": "somebody"}
    )
    assert consent.status_code == 201, consent.text
    assert (await studio.http.delete(f"/api/consents/{consent.json()['id']}")).status_code == 204
    assert (await studio.http.get(f"/api/generate/{asked['id']}")).status_code == 404
    assert videos.leftovers(studio, asked["id"]) == []
