"""Finished videos are taken apart by a confined process: pixels come out, and nothing else is opened or left."""

import contextlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.intake.test_video import opens_of
from tests.plugins.moving.tintype_moving import written
from tintype.intake import frames
from tintype.intake.frames import Limits
from tintype.intake.video import NotAVideoError, VideoTooLargeError

KINDS = ("mp4", "webm", "gif", "webp")


def sliding(count: int = 10, width: int = 64, height: int = 48) -> np.ndarray:
    """A bright bar that goes from left to right."""
    pixels = np.full((count, height, width, 3), 40, np.uint8)
    for place in range(count):
        pixels[place, :, place * 4 : place * 4 + 8] = (230, 200, 60)
    return pixels


@pytest.mark.parametrize("kind", KINDS)
async def test_every_frame_comes_out_as_it_went_in(kind):
    pixels = sliding()
    found = await frames.take(written(pixels, 10, kind), Limits())
    assert (found.pixels.shape, found.pixels.dtype) == (pixels.shape, np.uint8)
    assert found.fps == pytest.approx(10, rel=0.01)
    apart = np.abs(found.pixels.astype(int).mean(axis=3) - pixels.astype(int).mean(axis=3)).mean()
    assert apart < 12


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_first_frames_come_where_that_is_asked_for(kind):
    data = written(sliding(), 10, kind)
    assert len(frames.unpack(data, Limits(max_frames=3), first=4).pixels) == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(max_frames=9), "too many frames"),
        (Limits(max_side=63), "too many pixels a side"),
        (Limits(max_bytes=5 * 64 * 48 * 3), "too many bytes"),
        (Limits(max_file_bytes=100), "more than 100 bytes"),
    ],
)
def test_what_is_too_much_is_refused_by_name(kind, limits, says):
    with pytest.raises(VideoTooLargeError, match=says):
        frames.unpack(written(sliding(), 10, kind), limits)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_no_video(kind):
    data = written(sliding(), 10, kind)
    for bad in (data[:60], data[:20] + bytes(len(data) - 20), b"x" + data):
        with pytest.raises(NotAVideoError):
            frames.unpack(bad, Limits())


@pytest.mark.parametrize("start", [b"\0\0\0\x10ftypisom\0\0\0\0", b"\x1a\x45\xdf\xa3", b""])
def test_a_playlist_opens_no_other_file(tmp_path: Path, start):
    canary = tmp_path / "canary.mp4"
    canary.write_bytes(written(sliding(), 10, "mp4"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{canary}\n#EXT-X-ENDLIST\n".encode()
    with opens_of(canary) as opened, pytest.raises(NotAVideoError):
        frames.unpack(start + playlist, Limits())
    assert opened == [0]


def test_an_mp4_that_refers_to_another_file_does_not_get_it(tmp_path: Path):
    canary = tmp_path / "canary.mp4"
    whole = written(sliding(), 10, "mp4")
    canary.write_bytes(whole)
    elsewhere = f"file://{canary}".encode() + b"\0"
    reference = struct.pack(">I4sI", 12 + len(elsewhere), b"url ", 0) + elsewhere
    data = whole.replace(struct.pack(">I4sI", 12, b"url ", 1), reference[:12], 1)
    assert data != whole
    with opens_of(canary) as opened:
        with contextlib.suppress(NotAVideoError):
            frames.unpack(data, Limits())
    assert opened == [0]


def test_a_picture_bomb_among_animations_is_refused(tmp_path: Path):
    file = io.BytesIO()
    huge = Image.new("P", (12_000, 12_000))
    huge.save(file, "GIF")
    with pytest.raises((VideoTooLargeError, NotAVideoError)):
        frames.unpack(file.getvalue(), Limits())


def test_nothing_is_put_aside_where_somebody_could_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = frames.unpack(written(sliding(), 10, "mp4"), Limits())
    assert list(tmp_path.rglob("*")) == []
    assert found.pixels[9, 24, 40].astype(int).sum() > 400, "and the frames are there all the same"
