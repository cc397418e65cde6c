"""Draws a case twice, with the engine and with a plain diffusers pipeline, and says how far apart the two are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tintype.engine import devices, families, ticks
from tintype.engine.family import Loaded
from tintype.providers.contract import GenerationRequest

MOST_LATENTS = 1e-4
"""How far two latents may be apart: what float32 loses where the same sums are made in another order."""
MOST_PIXELS = 2
"""How far two pixels may be apart, of 255."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came out: the last latents as the network knows them, and the picture, uint8 [height, width, 3]."""

    latents: torch.Tensor
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison. `ours` and `theirs` are given the folder in which the tiny models lie."""

    task: str
    family: str
    sampler: str
    ours: Callable[[Path], Made]
    theirs: Callable[[Path], Made]

    @property
    def name(self) -> str:
        """What the test is called."""
        return f"{self.family}-{self.task}-{self.sampler}".replace(" ", "_")


@dataclass(frozen=True, kw_only=True)
class Result:
    """The greatest difference in latents, and in pixels of 255."""

    case: Case
    latents: float
    pixels: int


@torch.inference_mode()
def draw(request: GenerationRequest) -> Made:
    """The request's first picture as the engine makes it alone, on the CPU in float32: every phase, tick by tick."""
    device = devices.Device(name="cpu", dtype=torch.float32, label="cpu")
    outline = families.outline(request.model)
    loaded: dict[str, Loaded] = {}
    drawing: Any = None
    model: Any = None
    for index, phase in enumerate(outline.phases(request)):
        files = request.refiner.model if request.refiner and phase.model == request.refiner.model.id else request.model
        if files.id not in loaded:
            loaded[files.id] = families.outline(files).load(device)
        model = loaded[files.id]
        drawing = model.begin(request, request.seeds[0]) if index == 0 else model.go_on(drawing, request, index)
        while not drawing.sampled.is_done:
            ticks.run(model, [drawing], padded_lines=1)
    return Made(latents=drawing.sampled.latents, pixels=model.finish(drawing, request))


def compare(case: Case, folder: Path) -> Result:
    """Both drawn and compared; a difference that is no number counts as infinite."""
    ours, theirs = case.ours(folder), case.theirs(folder)
    assert ours.latents.shape == theirs.latents.shape
    assert ours.pixels.shape == theirs.pixels.shape
    latents = (ours.latents.double() - theirs.latents.double()).abs().max().item()
    pixels = np.abs(ours.pixels.astype(int) - theirs.pixels.astype(int)).max()
    return Result(case=case, latents=latents if np.isfinite(latents) else float("inf"), pixels=int(pixels))


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table, families together."""
    head = (
        "| family | task | sampler | latents differ by | pixels differ by, of 255 |\n| --- | --- | --- | --- | --- |\n"
    )
    ordered = sorted(results, key=lambda result: (result.case.family, result.case.task, result.case.sampler))
    return head + "".join(
        f"| {each.case.family} | {each.case.task} | {each.case.sampler} | {each.latents:.1e} | {each.pixels} |\n"
        for each in ordered
    )
