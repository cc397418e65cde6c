"""A third-party provider as anyone could install one: it draws one flat colour and does what the request's options say.

Options: `step_s` (time of one step), `fail_times` (retryable failures before it works, counted in the file
`<TINTYPE_HOME>/scripted/<id>`), `fail_code` (fail for good with this code), `die` (end the process at this step),
`elsewhere` (a service elsewhere does the work: it goes on whatever becomes of this process, until it is cancelled),
`die_after` (end the process once this many pictures are stored), `picture_s` (pause after each), `noise` (draw noise,
which makes large files), `echo` (give back the source), `previews` (show this colour before every step).
Of a picture that comes in it draws what the mask covers, enlarges it, or makes transparent what is coloured as its
first pixel; it notes the colours in the middle of everything it was given.
Beside it is a stand-in detector: pure magenta is what may not be made, pink what is suggestive, orange a person (not
where SCRIPTED_BLIND is set); while the file that SCRIPTED_DETECTOR names is there, it fails when asked. Where
SCRIPTED_WORD names a word, it reads texts as well and takes that one for what may not be asked for.
While the file that SCRIPTED_DEVICE names is there, the device is broken: every step fails and the provider says so.
While the one that SCRIPTED_UNREACHABLE names is there, the service elsewhere cannot be told that work is to end.
Every run and step is noted in that file as one JSON line with the clock, which is how tests and benchmarks see inside.
"""

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np

from tintype.providers.contract import (
    Capability,
    Checkpoint,
    GenerationRequest,
    ModelFiles,
    Output,
    Preview,
    Progress,
    ProviderError,
    Quote,
)
from tintype.safety import Label

TASKS = ("text_to_image", "image_to_image", "inpaint", "upscale", "remove_background")


def create() -> "Scripted":
    return Scripted(Path(os.environ["TINTYPE_HOME"]) / "scripted")


class Scripted:
    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self._elsewhere = notes.with_name("elsewhere")
        for folder in (notes, self._elsewhere):
            folder.mkdir(parents=True, exist_ok=True)
        breaks_by = os.environ.get("SCRIPTED_DEVICE")
        self._breaks_by = Path(breaks_by) if breaks_by else None

    def capabilities(self) -> Capability:
        problem = "the pretended device failed; restart this worker" if self._is_broken() else None
        return Capability(tasks=TASKS, families=("scripted",), concurrency=16, devices=(), problem=problem)

    def quote(self, request: GenerationRequest) -> Quote:
        return Quote(usd=0.0)

    async def prepare(self, model: ModelFiles) -> None:
        return None

    async def generate(
        self, request: GenerationRequest, resume: str | None = None
    ) -> AsyncIterator[Progress | Preview | Checkpoint | Output]:
        options = request.options
        note = self._note(request.id)
        note("run")
        note("given", task=request.task, **given(request))
        if (code := options.get("fail_code")) is not None:
            raise ProviderError("asked to fail", code=code, retryable=False)
        if self._runs(request) <= options.get("fail_times", 0):
            raise ProviderError("asked to fail for now", code="scripted_busy", retryable=True)
        steps = self._steps_elsewhere(request, resume, note) if options.get("elsewhere") else self._steps(request, note)
        async for item in steps:
            yield item
        note("last_step")
        for index, seed in enumerate(request.seeds):
            pixels = flat(seed, request.height, request.width)
            if options.get("noise"):
                pixels = np.random.default_rng(seed).integers(0, 256, pixels.shape, dtype=np.uint8)
            pixels, alpha = drawn(request, pixels)
            yield Output(index=index, seed=seed, pixels=pixels, alpha=alpha)
            note("picture")
            if options.get("die_after") == index + 1:
                os._exit(9)
            if delay_s := options.get("picture_s", 0.0):
                await asyncio.sleep(delay_s)

    async def _steps(self, request: GenerationRequest, note: Callable[..., None]) -> AsyncIterator[Progress | Preview]:
        for step in range(1, request.steps + 1):
            if request.options.get("die") == step:
                os._exit(9)
            note("step")
            if delay_s := request.options.get("step_s", 0.0):
                await asyncio.sleep(delay_s)
            if self._is_broken():
                raise ProviderError("the pretended device failed", code="device_broken", retryable=True)
            if (shown := request.options.get("previews")) is not None:
                yield Preview(index=0, pixels=flat(shown, 64, 64))
            yield Progress(step=step, steps=request.steps)

    async def _steps_elsewhere(
        self, request: GenerationRequest, resume: str | None, note: Callable[..., None]
    ) -> AsyncIterator[Progress | Checkpoint]:
        if resume is None:
            token = uuid.uuid4().hex
            began = {"id": request.id, "at": time.time()}
            (self._elsewhere / token).write_text(json.dumps(began))
            note("begun", token=token)
            yield Checkpoint(token=token)
        else:
            token = resume
            note("resumed", token=token)
        work = self._elsewhere / token
        whole_s = request.steps * request.options.get("step_s", 0.0)
        while work.exists() and (gone_s := time.time() - json.loads(work.read_text())["at"]) < whole_s:
            note("step")
            yield Progress(step=int(request.steps * gone_s / whole_s), steps=request.steps)
            await asyncio.sleep(0.1)
        if not work.exists():
            raise ProviderError("it was cancelled elsewhere", code="cancelled_elsewhere", retryable=False)

    async def cancel(self, token: str) -> None:
        work = self._elsewhere / token
        if not work.exists():
            raise ProviderError(f"nothing runs elsewhere as {token!r}", code="work_unknown", retryable=False)
        note = self._note(json.loads(work.read_text())["id"])
        if (path := os.environ.get("SCRIPTED_UNREACHABLE")) and Path(path).exists():
            note("cancel_unheard", token=token)
            raise ProviderError("the service elsewhere does not answer", code="elsewhere_away", retryable=True)
        note("cancelled_elsewhere", token=token)
        work.unlink()

    async def close(self) -> None:
        return None

    def _is_broken(self) -> bool:
        return self._breaks_by is not None and self._breaks_by.exists()

    def _note(self, generation_id: str) -> Callable[..., None]:
        path = self._notes / generation_id

        def note(what: str, **more: object) -> None:
            with path.open("a") as file:
                file.write(json.dumps({"what": what, "at": time.time(), "pid": os.getpid(), **more}) + "\n")

        return note

    def _runs(self, request: GenerationRequest) -> int:
        return (self._notes / request.id).read_text().count('"run"')


def flat(seed: int, height: int, width: int) -> np.ndarray:
    colour = np.array([seed & 255, seed >> 8 & 255, seed >> 16 & 255], dtype=np.uint8)
    return np.broadcast_to(colour, (height, width, 3)).copy()


def drawn(request: GenerationRequest, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    source = request.source
    if source is None:
        return pixels, None
    if request.task == "upscale":
        return source.repeat(request.scale, 0).repeat(request.scale, 1), None
    if request.task == "remove_background":
        return source, np.where((source == source[0, 0]).all(axis=2), 0, 255).astype(np.uint8)
    if request.mask is not None:
        pixels = np.where(request.mask[..., None] >= 128, pixels, source)
    return (source if request.options.get("echo") else pixels), None


def given(request: GenerationRequest) -> dict[str, object]:
    named = {"source": request.source, "mask": request.mask, "style": request.style_image}
    named |= {f"control {index}": control.pixels for index, control in enumerate(request.controls)}
    options = {name: value for name, value in request.options.items() if isinstance(value, np.ndarray)}
    named |= {f"option {name}": value for name, value in options.items()}
    named |= {f"reference {index}": pixels for index, pixels in enumerate(request.references)}
    shown = {name: middle_of(pixels) for name, pixels in named.items() if pixels is not None}
    sizes = {f"{name} size": named[name].shape[1::-1] for name in shown}
    return {"strength": request.strength, "loras": [lora.model.id for lora in request.loras], **shown, **sizes}


def middle_of(pixels: np.ndarray) -> list[int]:
    return pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].tolist()


MAGENTA, ORANGE, PINK = (255, 0, 255), (255, 128, 0), (255, 128, 192)


def detector() -> "Colours":
    return Colours()


class Colours:
    """A detector for which harmless colours stand: magenta for what may not be made, pink for what is suggestive,
    orange for a person."""

    def __init__(self) -> None:
        self._word = os.environ.get("SCRIPTED_WORD")
        people = frozenset[Label]() if os.environ.get("SCRIPTED_BLIND") else frozenset({Label.PERSON})
        self.image_labels = people | {Label.SEXUAL, Label.SUGGESTIVE}

    @property
    def text_labels(self) -> frozenset[Label]:
        return frozenset({Label.SEXUAL}) if self._word else frozenset()

    def score_text(self, text: str) -> dict[Label, float]:
        assert self._word, "it promises no label of texts, so it must not be asked about one"
        return {Label.SEXUAL: float(self._word in text)}

    def score_image(self, pixels: np.ndarray) -> dict[Label, float]:
        breaks_by = os.environ.get("SCRIPTED_DETECTOR")
        if breaks_by and Path(breaks_by).exists():
            raise RuntimeError("the pretended detector failed")
        middle = tuple(middle_of(pixels))
        colours = {Label.SEXUAL: MAGENTA, Label.SUGGESTIVE: PINK, Label.PERSON: ORANGE}
        return {label: float(middle == colours[label]) for label in self.image_labels}
