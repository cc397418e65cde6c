"""Frames into files: what a player is told, how long each frame is shown, and what is read back out of them."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from tests import pictures
from tests.videos import boxes_of, frames_of
from tintype.media import embedded, recall, storyboards, video_encoding, xmp
from tintype.media.provenance import bare
from tintype.media.settings_text import GenerationSettings

LABEL = xmp.Label(system="Tintype", model="m")
SETTINGS = GenerationSettings(prompt="a cat & <ümlaut>", steps=4, seed=5, model="m", extra={"Frames": "12"})
FORMATS = ("mp4", "webp", "gif")


def moving(count: int = 12, width: int = 96, height: int = 64) -> np.ndarray:
    """A photograph that slides by."""
    wide = pictures.photograph(width=width + 2 * count, height=height)
    return np.stack([wide[:, 2 * place : 2 * place + width] for place in range(count)])


def written(frames: np.ndarray, fps: float = 12, kind: str = "mp4") -> bytes:
    return video_encoding.encode(iter(frames), frames.shape, fps, kind, SETTINGS, LABEL)


@pytest.mark.parametrize("kind", FORMATS)
def test_settings_and_label_come_back_out_of_every_format(kind):
    data = written(moving(), kind=kind)
    found = recall.recall(data)
    assert isinstance(found, recall.RecalledSettings)
    assert (found.source, found.settings.prompt, found.settings.extra) == ("tintype", SETTINGS.prompt, SETTINGS.extra)
    assert xmp.label_in(embedded.read(data).xmp) == LABEL


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_without_settings_shows_the_same_frames_and_holds_nothing_else(kind):
    data = written(moving(), kind=kind)
    stripped = bare.strip(data)
    assert b"a cat" in data
    assert b"a cat" not in stripped
    assert xmp.label_in(embedded.read(stripped).xmp) == LABEL
    assert isinstance(recall.recall(stripped), recall.NothingFound)
    if kind == "mp4":
        assert np.array_equal(frames_of(data), frames_of(stripped))
        return
    first, second = (Image.open(io.BytesIO(file)) for file in (data, stripped))
    assert (second.n_frames, second.info["loop"]) == (12, 0)
    for place in range(12):
        first.seek(place)
        second.seek(place)
        assert np.array_equal(np.asarray(first.convert("RGB")), np.asarray(second.convert("RGB")))
        assert first.info["duration"] == second.info["duration"]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("kept", [20, 200, 0.5])
def test_a_file_that_is_cut_off_is_named_damaged(kind, kept):
    data = written(moving(), kind=kind)
    cut = data[: kept if kept > 1 else int(len(data) * kept)]
    with pytest.raises(bare.PictureDamagedError):
        bare.strip(cut)


@pytest.mark.parametrize("fps", [1, 7.5, Fraction(24000, 1001), 24, 60])
def test_an_mp4_is_as_fast_as_it_should_be(fps):
    with av.open(io.BytesIO(written(moving(), float(fps)))) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(float(fps), rel=1e-4)
        assert stream.frames == 12


@pytest.mark.parametrize(("kind", "fps"), [("gif", 24), ("gif", 50), ("webp", 24), ("webp", 7.5), ("webp", 60)])
def test_an_animation_lasts_as_long_as_it_should(kind, fps):
    image = Image.open(io.BytesIO(written(moving(30), fps, kind)))
    lasted_ms = 0
    for place in range(image.n_frames):
        image.seek(place)
        image.load()
        lasted_ms += image.info["duration"]
    assert image.n_frames == 30
    assert lasted_ms == pytest.approx(30_000 / fps, abs=10)


def test_an_mp4_begins_before_it_is_whole_and_says_which_colours_it_means():
    data = written(moving())
    assert boxes_of(data)[:2] == ["ftyp", "moov"]
    with av.open(io.BytesIO(data)) as container:
        context = container.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.color_primaries, context.color_trc) == ("yuv420p", 1, 1, 1)


def test_colours_come_out_as_they_went_in():
    colours = [(250, 20, 20), (20, 200, 40), (30, 40, 230), (240, 240, 240), (10, 10, 10)]
    frames = np.stack([np.full((64, 64, 3), colour, np.uint8) for colour in colours])
    shown = frames_of(written(frames))
    assert np.abs(shown[:, 32, 32].astype(int) - colours).max() <= 4


def test_an_odd_side_loses_its_last_row_in_an_mp4_and_keeps_it_elsewhere():
    frames = moving(width=97, height=65)
    assert frames_of(written(frames)).shape[1:3] == (64, 96) == video_encoding.size_in("mp4", frames.shape)
    assert Image.open(io.BytesIO(written(frames, kind="webp"))).size == (97, 65)


def test_somebody_can_jump_to_every_second_second():
    with av.open(io.BytesIO(written(moving(60), 10))) as container:
        keys = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.is_keyframe]
    assert max(np.diff([*keys, 6.0])) <= 2


def test_what_is_lossy_stays_close():
    frames = moving(width=256, height=256)
    light = [each @ (0.2126, 0.7152, 0.0722) for each in (frames, frames_of(written(frames)))]
    assert np.sqrt(((light[0] - light[1]) ** 2).mean()) < 4


@pytest.mark.parametrize("frames", [1, 2, 24, 25, 26, 3600])
def test_a_storyboard_has_a_place_for_each_frame_it_shows(frames):
    planned = storyboards.layout(frames, 1280, 720)
    assert (planned.width, planned.height) == (160, 90)
    assert planned.tiles == min(frames, 25)
    assert planned.columns * planned.columns >= planned.tiles


def test_a_storyboard_shows_frames_of_the_whole_video_in_order():
    frames = np.stack([np.full((40, 80, 3), value, np.uint8) for value in range(0, 250, 5)])
    sheet = storyboards.draw(frames)
    assert sheet.shape == (5 * 40, 5 * 80, 3)
    middles = [sheet[40 * (tile // 5) + 20, 80 * (tile % 5) + 40, 0] for tile in range(25)]
    assert middles == list(range(0, 250, 10))
