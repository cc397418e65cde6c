"""Videos: a real one is read, a playlist under a video's name opens nothing.

FFmpeg is needed here; `make test` installs it where it may.
"""

import asyncio
import ctypes
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tintype.errors import TintypeError
from tintype.intake import video
from tintype.settings import Intake

LIMITS, INTAKE = video.Limits(), Intake()
IN_OPEN, IN_NONBLOCK = 0x20, 0o4000


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    found = shutil.which("ffmpeg")
    if not found or not shutil.which("ffprobe"):
        pytest.fail("FFmpeg is missing; `make test` installs it where it may, else install `ffmpeg`")
    return found


def made(ffmpeg: str, path: Path, *options: str, seconds: float = 2) -> Path:
    source = ["-f", "lavfi", "-i", f"testsrc=duration={seconds}:size=160x96:rate=12"]
    subprocess.run([ffmpeg, "-v", "error", "-nostdin", *source, *options, str(path)], check=True)
    return path


@contextmanager
def opens_of(path: Path) -> Iterator[list[int]]:
    """How often `path` is opened inside, as the kernel tells it; the list has its count after the block."""
    libc = ctypes.CDLL(None, use_errno=True)
    watching = libc.inotify_init1(IN_NONBLOCK)
    assert watching >= 0
    assert libc.inotify_add_watch(watching, os.fsencode(path), IN_OPEN) >= 0
    count: list[int] = []
    try:
        yield count
        try:
            count.append(len(os.read(watching, 1 << 16)) // 16)
        except BlockingIOError:
            count.append(0)
    finally:
        os.close(watching)


@pytest.mark.parametrize(
    ("name", "options", "container", "codec"),
    [
        ("a.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv420p"), "mp4", "h264"),
        ("no name at all: b", ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-f", "mp4"), "mp4", "h264"),
        ("c.mov", ("-c:v", "mpeg4"), "mp4", "mpeg4"),
        ("d.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime"), "webm", "vp9"),
    ],
)
async def test_a_real_video_is_read(tmp_path, ffmpeg, name, options, container, codec):
    found = await video.probe(made(ffmpeg, tmp_path / name, *options), INTAKE, LIMITS)
    assert (found.container, found.codec, found.width, found.height) == (container, codec, 160, 96)
    assert found.frames_per_second == pytest.approx(12, abs=0.1)
    assert found.seconds == pytest.approx(2, abs=0.2)
    assert not found.has_sound


async def test_sound_is_noticed(tmp_path, ffmpeg):
    sound = ("-f", "lavfi", "-i", "sine=duration=2", "-c:v", "libx264", "-c:a", "aac")
    assert (await video.probe(made(ffmpeg, tmp_path / "a.mp4", *sound), INTAKE, LIMITS)).has_sound


@pytest.mark.parametrize("form", ["hls", "concat", "sdp", "dash", "m3u8 with a video in front"])
async def test_a_playlist_called_mp4_opens_no_other_file(tmp_path, ffmpeg, form):
    canary = made(ffmpeg, tmp_path / "canary.ts", "-c:v", "mpeg2video")
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{canary}\n#EXT-X-ENDLIST\n"
    content = {
        "hls": hls.encode(),
        "concat": f"ffconcat version 1.0\nfile '{canary}'\n".encode(),
        "sdp": b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
        "dash": f'<?xml version="1.0"?><MPD><BaseURL>{canary}</BaseURL></MPD>'.encode(),
        "m3u8 with a video in front": b"\0\0\0\x10ftypisom\0\0\0\0" + hls.encode(),
    }[form]
    upload = tmp_path / "upload.mp4"
    upload.write_bytes(content)
    with opens_of(canary) as opened, pytest.raises(video.NotAVideoError) as caught:
        await video.probe(upload, INTAKE, LIMITS)
    assert opened == [0]
    assert (caught.value.status, caught.value.code) == (415, "not_a_video")


@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_a_playlist_opens_no_other_file_even_past_the_first_bytes(tmp_path, ffmpeg, container):
    canary = made(ffmpeg, tmp_path / "canary.ts", "-c:v", "mpeg2video")
    upload = tmp_path / "upload.mp4"
    upload.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{canary}\n#EXT-X-ENDLIST\n")
    program = shutil.which("ffprobe")
    with opens_of(canary) as opened:
        subprocess.run([program, "-v", "error", str(upload)], check=False, capture_output=True)
    assert opened[0] > 0, "this playlist must tempt a careless reader, or the test shows nothing"
    asking = video.command(program, upload, container)
    with opens_of(canary) as opened:
        careful = subprocess.run(asking, check=False, capture_output=True)
    assert careful.returncode != 0
    assert opened == [0]


async def test_a_playlist_that_names_an_address_calls_nobody(tmp_path, ffmpeg):
    called = []

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(1)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        playlist = tmp_path / "list.mp4"
        playlist.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"
        )
        tempting = ["ffprobe", "-v", "error", "-protocol_whitelist", "file,http,tcp", str(playlist)]
        await asyncio.to_thread(subprocess.run, tempting, check=False, capture_output=True)
        assert called, "this playlist must tempt a careless reader, or the test shows nothing"
        called.clear()
        for container in video.READERS:
            asking = video.command(shutil.which("ffprobe"), playlist, container)
            await asyncio.to_thread(subprocess.run, asking, check=False, capture_output=True)
        assert not called


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\0\x18ftypisom", b"\x1a\x45\xdf\xa3" + bytes(100), b"RIFF0000AVI LIST", b"#EXTM3U"]
)
async def test_what_is_no_video_is_refused(tmp_path, ffmpeg, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(video.NotAVideoError):
        await video.probe(tmp_path / "a.mp4", INTAKE, LIMITS)


@pytest.mark.parametrize(
    "limits",
    [
        video.Limits(max_bytes=100),
        video.Limits(max_seconds=1),
        video.Limits(max_side=159),
        video.Limits(max_pixels=100),
    ],
)
async def test_a_video_over_a_limit_is_refused(tmp_path, ffmpeg, limits):
    path = made(ffmpeg, tmp_path / "a.mp4", "-c:v", "libx264")
    with pytest.raises(video.VideoTooLargeError) as caught:
        await video.probe(path, INTAKE, limits)
    assert (caught.value.status, caught.value.code) == (413, "video_too_large")


async def test_without_ffprobe_the_error_says_what_to_install(tmp_path, ffmpeg):
    path = made(ffmpeg, tmp_path / "a.mp4", "-c:v", "mpeg4")
    with pytest.raises(video.VideoReaderMissingError, match="install FFmpeg") as caught:
        await video.probe(path, Intake(ffprobe="/nowhere/ffprobe"), LIMITS)
    assert caught.value.status == 503


async def test_mutated_videos_are_videos_or_named_facts_and_nothing_else(tmp_path, ffmpeg):
    dice, refused = random.Random(2), 0
    original = made(ffmpeg, tmp_path / "a.mp4", "-c:v", "libx264", seconds=0.5).read_bytes()
    for _ in range(25):
        content = bytearray(original)
        for _ in range(dice.randint(1, 40)):
            content[dice.randrange(12, len(content))] = dice.randrange(256)
        (tmp_path / "b.mp4").write_bytes(content[: dice.choice([None, None, len(content) // 2])])
        try:
            await video.probe(tmp_path / "b.mp4", INTAKE, LIMITS)
        except TintypeError:
            refused += 1
    assert refused > 0
