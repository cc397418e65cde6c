"""A third-party provider as anyone could install one: it draws one flat colour and does what the request's options say.

Options: `step_s` (time of one step), `fail_times` (retryable failures before it works, counted in the file
`<TINTYPE_HOME>/scripted/<id>`), `fail_code` (fail for good with this code), `die` (end the process at this step).
Every run and step is noted in that file as one JSON line with the clock, which is how tests and benchmarks see inside.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from tintype.providers.contract import (
    Capability,
    Checkpoint,
    GenerationRequest,
    ModelFiles,
    Output,
    Progress,
    ProviderError,
    Quote,
)


def create() -> "Scripted":
    return Scripted(Path(os.environ["TINTYPE_HOME"]) / "scripted")


class Scripted:
    def __init__(self, notes: Path) -> None:
        self._notes = notes
        notes.mkdir(parents=True, exist_ok=True)

    def capabilities(self) -> Capability:
        return Capability(tasks=("text_to_image",), families=("scripted",), concurrency=16, devices=())

    def quote(self, request: GenerationRequest) -> Quote:
        return Quote(usd=0.0)

    async def prepare(self, model: ModelFiles) -> None:
        return None

    async def generate(
        self, request: GenerationRequest, resume: str | None = None
    ) -> AsyncIterator[Progress | Checkpoint | Output]:
        options = request.options
        note = self._note(request)
        note("run")
        if (code := options.get("fail_code")) is not None:
            raise ProviderError("asked to fail", code=code, retryable=False)
        if self._runs(request) <= options.get("fail_times", 0):
            raise ProviderError("asked to fail for now", code="scripted_busy", retryable=True)
        for step in range(1, request.steps + 1):
            if options.get("die") == step:
                os._exit(9)
            note("step")
            if delay_s := options.get("step_s", 0.0):
                await asyncio.sleep(delay_s)
            yield Progress(step=step, steps=request.steps)
        note("last_step")
        for index, seed in enumerate(request.seeds):
            colour = np.array([seed & 255, seed >> 8 & 255, seed >> 16 & 255], dtype=np.uint8)
            pixels = np.broadcast_to(colour, (request.height, request.width, 3)).copy()
            yield Output(index=index, seed=seed, pixels=pixels)

    async def cancel(self, token: str) -> None:
        raise ProviderError("nothing runs elsewhere", code="token_unknown", retryable=False)

    async def close(self) -> None:
        return None

    def _note(self, request: GenerationRequest):
        path = self._notes / request.id

        def note(what: str) -> None:
            with path.open("a") as file:
                file.write(json.dumps({"what": what, "at": time.time(), "pid": os.getpid()}) + "\n")

        return note

    def _runs(self, request: GenerationRequest) -> int:
        return (self._notes / request.id).read_text().count('"run"')
