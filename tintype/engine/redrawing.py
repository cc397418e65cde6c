"""Enlarging with a model that draws: the picture is made larger, then drawn over a little, tile by tile.

The sample is that of the whole picture. At every evaluation of the sampler the network looks at one tile in each tick,
and what it says of places that several tiles share is their weighted mean (arXiv 2302.08113), so that no seams arise. A
tile is a line like that of any other picture of its size and shares evaluations with those.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tintype.engine import family, pictures, second_pass, tiles
from tintype.engine.devices import Device
from tintype.engine.families import rrdb
from tintype.engine.family import Drawing, Line, RequestUnsuitableError, Tiling
from tintype.engine.samplers import rows
from tintype.engine.scheduling.values import Phase
from tintype.engine.tiles import Grid
from tintype.providers.contract import GenerationRequest

STEPS, STRENGTH, SAMPLER = 20, 0.3, "euler"
"""Where the request says nothing: enough to draw details that were not there, too little for other things."""
SHARED = 4
"""One part in so many of a tile's side is shared with each neighbour."""


SEEDS = 2**63


@dataclass(frozen=True)
class Outline:
    """A model that draws, and that enlarges too."""

    drawing: family.Outline

    @property
    def weight_bytes(self) -> int:
        """As the model."""
        return self.drawing.weight_bytes

    @property
    def block_bytes(self) -> int:
        """As the model."""
        return self.drawing.block_bytes

    @property
    def native_side(self) -> int:
        """As the model."""
        return self.drawing.native_side

    def phases(self, request: GenerationRequest) -> tuple[Phase, ...]:
        """Those of the model; of an enlargement the upscaler's, where there is one, and one with every tile."""
        if second_pass.is_over_pixels(request):
            return self._with_second_pass(request)
        if request.task != "upscale":
            return self.drawing.phases(request)
        _refuse(request)
        grid = self.grid(request)
        blank = np.zeros((grid.down.length, grid.across.length, 3), np.uint8)
        of_tile = self.drawing.phases(_tile_request(request, blank))[0]
        over_all = replace(of_tile, evaluations=of_tile.evaluations * len(grid))
        upscaler = request.companions.get(second_pass.UPSCALER)
        first = () if upscaler is None else rrdb.outline(upscaler).phases(request)
        return (*first, over_all)

    def _with_second_pass(self, request: GenerationRequest) -> tuple[Phase, ...]:
        if request.mask is not None:
            raise RequestUnsuitableError("a second pass does not go with a mask; leave out `hires`")
        drawn = self.drawing.phases(second_pass.first(request))
        blank = np.zeros((*second_pass.size(request), 3), np.uint8)
        again = self.drawing.phases(second_pass.second(request, blank))
        enlarging = rrdb.outline(request.companions[second_pass.UPSCALER]).phases(request)
        return (*drawn, second_pass.decoding(drawn[0]), *enlarging, *again)

    def grid(self, request: GenerationRequest) -> Grid:
        """The tiles of the enlarged picture, in pixels; it is filled up to whole multiples."""
        assert request.source is not None
        height, width = (
            -(-along * request.scale // second_pass.MULTIPLE) * second_pass.MULTIPLE
            for along in request.source.shape[:2]
        )
        side = self.native_side // second_pass.MULTIPLE * second_pass.MULTIPLE
        return tiles.cover(height, width, side=side, overlap=side // SHARED, multiple=second_pass.MULTIPLE)

    def load(self, device: Device) -> "Model":
        """The model with its weights."""
        return Model(self, self.drawing.load(device))


class Model:
    """A loaded model that draws, and that enlarges too."""

    def __init__(self, outline: Outline, drawing: family.Loaded) -> None:
        self.parts = drawing.parts
        self._outline = outline
        self._drawing = drawing

    def begin(self, request: GenerationRequest, seed: int) -> Drawing:
        """As the model; of an enlargement every tile, made noisy by a seed of its own that follows from `seed`."""
        if second_pass.is_over_pixels(request):
            return self._drawing.begin(second_pass.first(request), seed)
        if request.task != "upscale":
            return self._drawing.begin(request, seed)
        assert request.source is not None
        height, width = (along * request.scale for along in request.source.shape[:2])
        return self._begin_tiles(request, pictures.resize(request.source, (height, width)), seed)

    def go_on(self, drawing: Drawing, request: GenerationRequest, phase: int) -> Drawing:
        """As the model; or over what an upscaler made."""
        if second_pass.is_over_pixels(request):
            return self._go_on_to_second_pass(drawing, request, phase)
        if request.task != "upscale":
            return self._drawing.go_on(drawing, request, phase)
        assert drawing.sampled.generator is not None
        return self._begin_tiles(request, rrdb.finished(drawing, request), drawing.sampled.generator.initial_seed())

    def predict(self, lines: Sequence[Line]) -> Tensor:
        """As the model."""
        return self._drawing.predict(lines)

    def form(self, lines: Sequence[Line]) -> Hashable:
        """As the model."""
        return self._drawing.form(lines)

    def encode(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """As the model."""
        return self._drawing.encode(pixels, generator)

    def guide(self, without_words: Tensor, with_words: Tensor, scale: float) -> Tensor:
        """As the model."""
        return self._drawing.guide(without_words, with_words, scale)

    def finish(self, drawing: Drawing, request: GenerationRequest) -> NDArray[np.uint8]:
        """As the model; of an enlargement tile by tile: uint8 RGB [height, width, 3]."""
        if drawing.tiling is None:
            return self._drawing.finish(drawing, request)
        assert request.source is not None
        grid = self._outline.grid(request)
        whole = np.zeros((grid.down.whole, grid.across.whole, 3), np.float32)
        for index, (top, left) in enumerate(grid.corners()):
            place = whole[top : top + grid.down.length, left : left + grid.across.length]
            latents = drawing.tiling.grid.cut(drawing.sampled.latents, index).contiguous()
            alone = replace(drawing, sampled=replace(drawing.sampled, latents=latents), tiling=None)
            made = self._drawing.finish(alone, _tile_request(request, place.astype(np.uint8)))
            place += grid.weights(index)[..., None] * made
        height, width = (along * request.scale for along in request.source.shape[:2])
        return whole[:height, :width].round().clip(0, 255).astype(np.uint8)

    def move(self, device_name: str) -> None:
        """As the model."""
        self._drawing.move(device_name)

    def _go_on_to_second_pass(self, drawing: Drawing, request: GenerationRequest, phase: int) -> Drawing:
        first, decoding_at = second_pass.first(request), second_pass.decoding_at(request)
        if phase < decoding_at:
            return self._drawing.go_on(drawing, first, phase)
        if phase == decoding_at:
            return second_pass.of_pixels(self._drawing.finish(drawing, first), drawing)
        assert drawing.sampled.generator is not None
        again = second_pass.second(request, rrdb.finished(drawing, request))
        return self._drawing.begin(again, drawing.sampled.generator.initial_seed())

    def _begin_tiles(self, request: GenerationRequest, pixels: NDArray[np.uint8], seed: int) -> Drawing:
        grid = self._outline.grid(request)
        height, width = pixels.shape[:2]
        filled = np.pad(pixels, ((0, grid.down.whole - height), (0, grid.across.whole - width), (0, 0)), mode="edge")
        begun = [
            self._drawing.begin(_tile_request(request, _cut(filled, grid, corner)), (seed + index) % SEEDS)
            for index, corner in enumerate(grid.corners())
        ]
        first = begun[0]
        of_latents = grid.scaled(Fraction(first.sampled.latents.shape[-2], grid.down.length))
        latents = of_latents.join([drawing.sampled.latents for drawing in begun])
        sampled = rows.Sampled(
            plan=first.sampled.plan,
            latents=latents,
            generator=torch.Generator("cpu").manual_seed((seed + len(grid)) % SEEDS),
            remembered=tuple(torch.zeros_like(latents) for _ in first.sampled.remembered),
        )
        besides = tuple(drawing.beside for drawing in begun)
        tiling = Tiling(grid=of_latents, made_grid=of_latents, besides=besides)
        return replace(first, sampled=sampled, beside=(), tiling=tiling)


def _refuse(request: GenerationRequest) -> None:
    if request.source is None:
        raise RequestUnsuitableError("there is no picture to enlarge; send one")
    asked = {
        "a mask": request.mask is not None,
        "controls": bool(request.controls),
        "a second pass": request.hires is not None,
        "a refiner": request.refiner is not None,
    }
    for what, is_asked in asked.items():
        if is_asked:
            raise RequestUnsuitableError(f"enlarging a picture does not go with {what}; leave that out")


def _tile_request(request: GenerationRequest, pixels: NDArray[np.uint8]) -> GenerationRequest:
    """What one tile is, as a picture of its own; a request without a sampler says nothing of how to draw."""
    drawn = replace(
        request,
        task="image_to_image",
        source=pixels,
        height=pixels.shape[0],
        width=pixels.shape[1],
        scale=1,
        strength=STRENGTH if request.strength == 1.0 else request.strength,
    )
    return drawn if request.sampler else replace(drawn, sampler=SAMPLER, steps=STEPS, guidance_scale=1.0)


def _cut(pixels: NDArray[np.uint8], grid: Grid, corner: tuple[int, int]) -> NDArray[np.uint8]:
    top, left = corner
    return pixels[top : top + grid.down.length, left : left + grid.across.length]
