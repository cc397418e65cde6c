"""A maker of videos as anyone could install one: a square of the seed's colour crosses a grey picture from the left.

A picture to begin with is the first frame and lies behind all others, one to end with is the last frame. Options:
`step_s` (time of one step), `die` (end the process at this step), `die_after` (end it once the video was taken),
`forbidden_at` (this frame is pure magenta, which the stand-in detector takes for what may not be made), `person_at`
(this one is orange, a person), `as_file` (give a finished MP4, WebM, GIF or WebP that holds a secret in its texts),
`as_garbage` (a file that is none), `as_picture` (a picture, though a video was asked for).
What it was given is noted as the scripted provider does.
"""

import asyncio
import io
import json
import os
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from tintype.providers.contract import (
    Capability,
    Frames,
    GenerationRequest,
    ModelFiles,
    Output,
    Progress,
    Quote,
    VideoFile,
    VideoOutput,
)

SECRET = "a workflow with somebody's path in it"
GREY, MAGENTA, ORANGE = 90, (255, 0, 255), (255, 128, 0)
TYPES = {"mp4": "video/mp4", "webm": "video/webm", "gif": "image/gif", "webp": "image/webp"}


def create() -> "Moving":
    return Moving(Path(os.environ["TINTYPE_HOME"]) / "scripted")


class Moving:
    def __init__(self, notes: Path) -> None:
        self._notes = notes
        notes.mkdir(parents=True, exist_ok=True)

    def capabilities(self) -> Capability:
        tasks = ("text_to_video", "image_to_video")
        return Capability(tasks=tasks, families=("moving",), concurrency=4, devices=())

    def quote(self, request: GenerationRequest) -> Quote:
        return Quote(usd=0.0)

    async def prepare(self, model: ModelFiles) -> None:
        return None

    async def generate(
        self, request: GenerationRequest, resume: str | None = None
    ) -> AsyncIterator[Progress | Output | VideoOutput]:
        options = request.options
        self._note(request, "run", task=request.task, frames=request.frames, fps=request.fps)
        for step in range(1, request.steps + 1):
            if options.get("die") == step:
                os._exit(9)
            self._note(request, "step")
            await asyncio.sleep(options.get("step_s", 0.0))
            yield Progress(step=step, steps=request.steps)
        self._note(request, "last_step")
        pixels = drawn(request)
        if options.get("as_picture"):
            yield Output(index=0, seed=request.seeds[0], pixels=pixels[0])
        video: Frames | VideoFile = Frames(pixels=pixels, fps=float(request.fps))
        if (kind := options.get("as_file")) is not None:
            video = VideoFile(data=written(pixels, request.fps, kind), content_type=TYPES[kind])
        if options.get("as_garbage"):
            video = VideoFile(data=b"\0\0\0\x20ftypisom" + bytes(500), content_type="video/mp4")
        yield VideoOutput(index=0, seed=request.seeds[0], video=video)
        if options.get("die_after"):
            os._exit(9)

    async def cancel(self, token: str) -> None:
        return None

    async def close(self) -> None:
        return None

    def _note(self, request: GenerationRequest, what: str, **more: object) -> None:
        with (self._notes / request.id).open("a") as file:
            file.write(json.dumps({"what": what, "at": time.time(), "pid": os.getpid(), **more}) + "\n")


def drawn(request: GenerationRequest) -> np.ndarray:
    shape = (request.frames, request.height, request.width, 3)
    pixels = np.full(shape, GREY, np.uint8)
    if request.source is not None:
        pixels[:] = request.source
    side = min(request.width, request.height) // 4
    seed = request.seeds[0]
    colour = (seed & 255, seed >> 8 & 255, seed >> 16 & 255)
    top = (request.height - side) // 2
    for place in range(request.frames):
        if request.source is not None and place == 0:
            continue
        left = round(place * (request.width - side) / max(1, request.frames - 1))
        pixels[place, top : top + side, left : left + side] = colour
    if request.last_image is not None:
        pixels[-1] = request.last_image
    for name, what in (("forbidden_at", MAGENTA), ("person_at", ORANGE)):
        if name in request.options:
            pixels[request.options[name]] = what
    return pixels


def written(pixels: np.ndarray, fps: int, kind: str) -> bytes:
    """A file as other programs write them: with a soundtrack where it can have one, and with texts."""
    buffer = io.BytesIO()
    if kind in ("gif", "webp"):
        first, *rest = (Image.fromarray(frame) for frame in pixels)
        texts = {"comment": SECRET} if kind == "gif" else {"exif": exif()}
        first.save(buffer, kind.upper(), save_all=True, append_images=rest, duration=1000 / fps, loop=0, **texts)
        return buffer.getvalue()
    import av

    container = av.open(buffer, "w", format=kind)
    container.metadata["comment"] = SECRET
    codecs = {"mp4": ("libx264", "aac"), "webm": ("libvpx-vp9", "libopus")}[kind]
    stream = container.add_stream(codecs[0], rate=Fraction(fps))
    stream.height, stream.width = pixels.shape[1:3]
    stream.pix_fmt = "yuv420p"
    sound = container.add_stream(codecs[1], rate=48_000)
    for frame in pixels:
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    container.mux(stream.encode(None))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 960)).astype(np.float32)
    for place in range(10):
        tone = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
        tone.sample_rate, tone.pts = 48_000, 960 * place
        container.mux(sound.encode(tone))
    container.mux(sound.encode(None))
    container.close()
    return buffer.getvalue()


def exif() -> bytes:
    said = Image.Exif()
    said[0x010E] = SECRET
    return said.tobytes()
