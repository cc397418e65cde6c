"""Uploaded videos: what they are, found out without letting them open anything else.

A playlist is text that names other files; called `.mp4`, it makes a careless reader open them. So the first bytes
decide which of two readers is used, that one alone is allowed, it may open local files only and no second one through
references, and it runs confined (`sandbox.py`), without network.

`ffprobe` is a program of the machine, not a part of Tintype.
"""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from tintype import settings
from tintype.errors import InvalidRequestError, UnavailableError
from tintype.intake import sandbox

Container = Literal["mp4", "webm"]

# FFmpeg's reader for each container, and all names by which that one goes.
READERS: Mapping[Container, tuple[str, str]] = {
    "mp4": ("mov", "mov,mp4,m4a,3gp,3g2,mj2"),
    "webm": ("matroska", "matroska,webm"),
}
BRANDS = frozenset(
    (
        b"isom",
        b"iso2",
        b"iso3",
        b"iso4",
        b"iso5",
        b"iso6",
        b"iso8",
        b"mp41",
        b"mp42",
        b"avc1",
        b"M4V ",
        b"M4VP",
        b"qt  ",
        b"dash",
    )
)
SOUND = ("aac", "mp3", "opus", "vorbis", "flac", "alac", "ac3", "pcm_s16le", "pcm_s16be")
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "prores", "mjpeg")
MAX_STREAMS = 16
PROBE_BYTES = 16 << 20
FIELDS = "format=duration,nb_streams:stream=codec_type,codec_name,width,height,avg_frame_rate,nb_frames,duration"


class NotAVideoError(InvalidRequestError):
    """This is not a video that can be read; send an MP4 or WebM file."""

    status = 415
    code = "not_a_video"


class VideoTooLargeError(InvalidRequestError):
    """The video is too large or too long; send a smaller one."""

    status = 413
    code = "video_too_large"


class VideoReaderMissingError(UnavailableError):
    """Videos cannot be read here: the program ffprobe is missing; install FFmpeg, or name it in `[intake] ffprobe`."""

    code = "video_reader_missing"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a video may be: bytes of the file, seconds, pixels along one side and of one frame."""

    max_bytes: int = 512 << 20
    max_seconds: float = 600
    max_side: int = 8192
    max_pixels: int = 8192 * 4320
    wall_s: float = 20


@dataclass(frozen=True, kw_only=True)
class Video:
    """What a video says it is; nothing was decoded, so a damaged one may say anything within the limits."""

    container: Container
    codec: str
    width: int
    height: int
    frames_per_second: float
    seconds: float
    has_sound: bool


async def probe(path: Path, intake: settings.Intake, limits: Limits) -> Video:
    """What the video in the file `path` is.

    Raises:
        NotAVideoError: it is not an MP4 or WebM file, or not one that can be read.
        VideoTooLargeError: a limit is passed.
        VideoReaderMissingError: there is no ffprobe.
    """
    return await asyncio.to_thread(_probe, path, intake.ffprobe, limits)


def _probe(path: Path, program: str, limits: Limits) -> Video:
    container = recognise(path)
    if path.stat().st_size > limits.max_bytes:
        raise VideoTooLargeError(f"The video has more than {limits.max_bytes:,} bytes; send a smaller one.")
    found = shutil.which(program)
    if found is None:
        raise VideoReaderMissingError
    return _understood(_ask(command(found, path, container), limits.wall_s), container, limits)


def recognise(path: Path) -> Container:
    """The container by its first bytes, whatever the name says; playlists and all other formats are none.

    Raises:
        NotAVideoError: it is neither.
    """
    with path.open("rb") as file:
        return container_of(file.read(12))


def container_of(start: bytes) -> Container:
    """As `recognise`, of the first 12 bytes."""
    if start[4:8] == b"ftyp" and start[8:12] in BRANDS:
        return "mp4"
    if start[:4] == b"\x1a\x45\xdf\xa3":
        return "webm"
    raise NotAVideoError


def command(program: str, path: Path, container: Container) -> list[str]:
    """`program` (ffprobe) asked for the facts of `path` as JSON, one reader and local files allowed and no more."""
    reader, names = READERS[container]
    only = ["-protocol_whitelist", "file", "-format_whitelist", names, "-codec_whitelist", ",".join((*CODECS, *SOUND))]
    caps = ["-max_streams", str(MAX_STREAMS), "-probesize", str(PROBE_BYTES), "-analyzeduration", "5000000"]
    references = ["-enable_drefs", "0", "-use_absolute_path", "0"] if container == "mp4" else []
    asked = ["-show_entries", FIELDS, "-of", "json"]
    # `file:` keeps a name with a colon from being read as a protocol.
    return [
        program,
        "-v",
        "error",
        "-hide_banner",
        *only,
        *caps,
        "-f",
        reader,
        *references,
        *asked,
        "-i",
        f"file:{path.resolve()}",
    ]


def _ask(asking: Sequence[str], wall_s: float) -> Mapping[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="tintype-video-"))
    try:
        limits = sandbox.Limits(wall_s=wall_s, cpu_s=int(wall_s) + 1, memory_bytes=2 << 30, file_bytes=1 << 20)
        ended = sandbox.run(
            [os.path.abspath(asking[0]), *asking[1:]], folder, limits, extra={"AV_LOG_FORCE_NOCOLOR": "1"}
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if ended.code != 0 or ended.timed_out:
        raise NotAVideoError("The video is damaged or of an unusual kind; save it anew as MP4 (H.264) and send that.")
    try:
        said = json.loads(ended.output)
    except ValueError as error:
        raise NotAVideoError from error
    return cast("dict[str, Any]", said) if isinstance(said, dict) else {}


def _understood(said: Mapping[str, Any], container: Container, limits: Limits) -> Video:
    streams: list[dict[str, Any]] = said.get("streams") or []
    pictures = [stream for stream in streams if stream.get("codec_type") == "video"]
    if not pictures or pictures[0].get("codec_name") not in CODECS:
        raise NotAVideoError(
            f"The video's pictures are not in one of {', '.join(CODECS)}; save it anew as MP4 (H.264)."
        )
    shown = pictures[0]
    whole: dict[str, Any] = said.get("format") or {}
    width, height = int(shown.get("width") or 0), int(shown.get("height") or 0)
    seconds, rate = (
        _number(whole.get("duration")) or _number(shown.get("duration")),
        _number(shown.get("avg_frame_rate")),
    )
    if width < 1 or height < 1 or seconds <= 0 or rate <= 0:
        raise NotAVideoError("The video does not say how large, long or fast it is; save it anew as MP4 and send that.")
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise VideoTooLargeError(f"The video is {width}x{height}; at most {limits.max_side} a side are accepted.")
    if seconds > limits.max_seconds:
        raise VideoTooLargeError(f"The video lasts {seconds:.0f} s; at most {limits.max_seconds:g} s are accepted.")
    return Video(
        container=container,
        codec=str(shown["codec_name"]),
        width=width,
        height=height,
        frames_per_second=rate,
        seconds=seconds,
        has_sound=any(stream.get("codec_type") == "audio" for stream in streams),
    )


def _number(value: Any) -> float:
    """`12.5` or `30000/1001` as a number; 0 for `N/A`, `0/0` and everything else."""
    above, _, below = str(value).partition("/")
    try:
        found = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        return 0.0
    return found if 0 < found < 1e9 else 0.0
