"""Finished videos of somebody else's program, taken apart into frames: pixels come out, nothing else.

FFmpeg and Pillow read them in a confined process (`unpacking.py`, `sandbox.py`), and what they read from and write to
are files without a name: nothing of a video that nobody has looked at yet is left on a disk, however this ends.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tintype.intake import sandbox, video
from tintype.intake.video import NotAVideoError, VideoTooLargeError

ADDRESSES_BYTES = 8 << 30
CHILD = "tintype.intake.unpacking"
PICTURES = (b"GIF87a", b"GIF89a")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
START_BYTES = 12


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a video may be: bytes of the file, frames, pixels along one side, bytes of all its pixels."""

    max_file_bytes: int = 512 << 20
    max_frames: int = 3600
    max_side: int = 4096
    max_bytes: int = 6 << 30
    wall_s: float = 300


@dataclass(frozen=True, kw_only=True)
class Moving:
    """The frames of a video, uint8 RGB [frames, height, width, 3] (perhaps still in a file), shown `fps` a second."""

    pixels: NDArray[np.uint8]
    fps: float


async def take(data: bytes, limits: Limits) -> Moving:
    """Every frame of the video in `data`: MP4, WebM, or an animated GIF or WebP.

    Raises:
        NotAVideoError: it is none of these, damaged, or of a kind that is not read.
        VideoTooLargeError: a limit is passed.
    """
    return await asyncio.to_thread(unpack, data, limits)


def unpack(data: bytes, limits: Limits, *, first: int | None = None) -> Moving:
    """As `take`, in this thread; no more than the `first` frames, where that is said."""
    if len(data) > limits.max_file_bytes:
        raise VideoTooLargeError(f"The video has more than {limits.max_file_bytes:,} bytes; send a smaller one.")
    asked = {
        **_reader(data),
        "most_frames": first or limits.max_frames,
        "may_be_longer": first is not None,
        "max_side": limits.max_side,
        "max_bytes": limits.max_bytes,
    }
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(data)
        source.seek(0)
        said = _ask({**asked, "source": source.fileno(), "target": target.fileno()}, limits)
        if "too_large" in said:
            raise VideoTooLargeError(f"The video has too many {said['too_large']}; send a shorter or smaller one.")
        shape = (said["frames"], said["height"], said["width"], 3)
        return Moving(pixels=np.memmap(target, np.uint8, "r", shape=shape), fps=said["fps"])


def _reader(data: bytes) -> dict[str, str]:
    """The one reader that may have it, by its first bytes."""
    if data[:6] in PICTURES or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return {"reader": "picture"}
    reader, names = video.READERS[video.container_of(data[:START_BYTES])]
    return {"reader": reader, "names": names, "codecs": ",".join((*video.CODECS, *video.SOUND))}


def _ask(asked: Mapping[str, Any], limits: Limits) -> Mapping[str, Any]:
    confined = sandbox.Limits(
        wall_s=limits.wall_s, cpu_s=int(limits.wall_s), memory_bytes=ADDRESSES_BYTES, file_bytes=limits.max_bytes
    )
    command = [sys.executable, "-I", "-W", "ignore", "-m", CHILD, json.dumps(asked)]
    with tempfile.TemporaryDirectory(prefix="tintype-video-") as folder:
        ended = sandbox.run(command, Path(folder), confined, extra=ENVIRONMENT, keep=(asked["source"], asked["target"]))
    if ended.code != 0 or ended.timed_out:
        raise NotAVideoError("The video is damaged or of an unusual kind; save it anew as MP4 (H.264) and send that.")
    try:
        return cast("dict[str, Any]", json.loads(ended.output))
    except ValueError as error:
        raise NotAVideoError from error
