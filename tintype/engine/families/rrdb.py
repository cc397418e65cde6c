"""The family of upscalers: networks that enlarge a picture in one evaluation, here tile by tile.

A tile is a line: those of several pictures share evaluations, and the network takes the memory of a tile for a picture
of any size. It enlarges by the factor it was trained for, again until that suffices; what is too large is resampled.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tintype.engine import pictures, second_pass, tiles
from tintype.engine.devices import Device
from tintype.engine.enlarging import files as weights
from tintype.engine.enlarging.files import File
from tintype.engine.family import NOTHING, Drawing, Line, RequestUnsuitableError, Tiling
from tintype.engine.samplers import rows
from tintype.engine.samplers.plan import ONCE
from tintype.engine.scheduling.values import Phase
from tintype.engine.tiles import Grid
from tintype.providers.contract import GenerationRequest, ModelFiles

SIDE = 256
"""Of a tile, in pixels that the network takes."""
OVERLAP = 48
MARGIN = 16
"""What is left out at the inner borders of tiles: what lies further away hardly changes a pixel."""
CANVASES = 3
"""Copies of the whole picture, at most: as it is made, and as it is brought to bytes."""

Size = tuple[int, int]


def outline(files: ModelFiles) -> "Outline":
    """The outline of the upscaler in a folder."""
    return Outline(files, weights.find(Path(files.folder)))


class Outline:
    """What is known of an upscaler from the header of its file."""

    native_side = SIDE
    block_bytes = 0

    def __init__(self, files: ModelFiles, file: File) -> None:
        self._id = files.id
        self._file = file

    @property
    def weight_bytes(self) -> int:
        """What its weights take in float32."""
        return 4 * sum(int(np.prod(shape)) for shape in self._file.shapes.values())

    def phases(self, request: GenerationRequest) -> tuple[Phase, ...]:
        """One stretch for each time that the network is applied, with one evaluation for each tile."""
        if not second_pass.is_over_pixels(request) and (request.task != "upscale" or request.source is None):
            raise RequestUnsuitableError(f"{self._id} only enlarges pictures; send it one with the task `upscale`")
        return tuple(self._phase(size) for size in self.passes(request))

    def passes(self, request: GenerationRequest) -> list[Size]:
        """Height and width of what the network is given, each time; the first is that of the source.

        What it made is brought to the size from which the times left lead to what is asked for, or just above.
        """
        given, wanted = sizes(request)
        times = 1
        while 1 < self._file.enlarger.factor**times < max(wanted[0] / given[0], wanted[1] / given[1]):
            times += 1
        left = (self._file.enlarger.factor ** (times - done) for done in range(1, times))
        return [given, *((-(-wanted[0] // factor), -(-wanted[1] // factor)) for factor in left)]

    def grid(self, size: Size) -> Grid:
        """The tiles of a picture, filled up to a size that the network takes."""
        multiple = self._file.enlarger.multiple
        height, width = (-(-along // multiple) * multiple for along in size)
        return tiles.cover(height, width, side=SIDE, overlap=OVERLAP, margin=MARGIN, multiple=multiple)

    def load(self, device: Device) -> "Upscaler":
        """The upscaler with its weights."""
        return Upscaler(self, self._file, device)

    def _phase(self, size: Size) -> Phase:
        grid, enlarger = self.grid(size), self._file.enlarger
        height, width = grid.down.length, grid.across.length
        canvas = 3 * grid.down.whole * grid.across.whole * enlarger.factor**2
        return Phase(
            model=self._id,
            key=(height, width),
            shape=f"{width}x{height}",
            evaluations=len(grid),
            lines=1,
            activation_bytes=4 * (height * width * enlarger.numbers_per_pixel + CANVASES * canvas),
        )


class Upscaler:
    """A loaded upscaler."""

    def __init__(self, outline: Outline, file: File, device: Device) -> None:
        self.parts: Mapping[str, Any] = {}
        self._outline = outline
        self._enlarger = file.enlarger
        self._network = file.load(device)
        self._dtype = next(self._network.parameters()).dtype
        self._device = device

    def begin(self, request: GenerationRequest, seed: int) -> Drawing:
        """The source, cut into tiles; `seed` has a part only in what another model makes of the result."""
        assert request.source is not None
        return self._begin(request.source, torch.Generator("cpu").manual_seed(seed))

    def go_on(self, drawing: Drawing, request: GenerationRequest, phase: int) -> Drawing:
        """What was made so far, in the size of the next pass."""
        before = second_pass.decoding_at(request) + 1 if second_pass.is_over_pixels(request) else 0
        pixels = pictures.resize(pixels_of(drawing), self._outline.passes(request)[phase - before])
        return self._begin(pixels, drawing.sampled.generator)

    def predict(self, lines: Sequence[Line]) -> Tensor:
        """Every tile, enlarged: [tiles, 3, height, width] in about 0 to 1."""
        seen = torch.cat([line.sample for line in lines]).to(self._dtype)
        if self._enlarger.colours == 1:
            made = self._network(seen.flatten(0, 1).unsqueeze(1))
            return made.squeeze(1).unflatten(0, (len(lines), 3)).float()
        opaque = seen.new_ones(len(seen), max(0, self._enlarger.colours - 3), *seen.shape[2:])
        return self._network(torch.cat((seen, opaque), dim=1))[:, :3].float()

    def form(self, lines: Sequence[Line]) -> Hashable:
        """Nothing: it is never compiled."""
        return ()

    def encode(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """It has no latents."""
        raise AssertionError("an upscaler has no latents")

    def guide(self, without_words: Tensor, with_words: Tensor, scale: float) -> Tensor:
        """Upscalers read no words."""
        raise AssertionError("an upscaler is guided by nothing")

    def finish(self, drawing: Drawing, request: GenerationRequest) -> NDArray[np.uint8]:
        """The picture in exactly the size that was asked for: uint8 RGB [height, width, 3]."""
        return finished(drawing, request)

    def move(self, device_name: str) -> None:
        """Move the weights to another device."""
        self._network.to(device_name)

    def _begin(self, pixels: NDArray[np.uint8], generator: torch.Generator | None) -> Drawing:
        height, width = pixels.shape[:2]
        grid, factor = self._outline.grid((height, width)), self._enlarger.factor
        seen = torch.from_numpy(pixels.copy()).to(self._device.name).permute(2, 0, 1)[None].float() / 255
        seen = functional.pad(seen, (0, grid.across.whole - width, 0, grid.down.whole - height), mode="replicate")
        made_grid = grid.scaled(factor)
        nothing = torch.zeros(1, 3, 1, 1, device=seen.device).expand(1, 3, height * factor, width * factor)
        return Drawing(
            sampled=rows.Sampled(plan=ONCE, latents=nothing, generator=generator),
            words=NOTHING,
            without_words=None,
            guidance_scale=1.0,
            tiling=Tiling(grid=grid, made_grid=made_grid, seen=seen),
        )


def sizes(request: GenerationRequest) -> tuple[Size, Size]:
    """What is enlarged and what it becomes: heights and widths."""
    if second_pass.is_over_pixels(request):
        return (request.height, request.width), second_pass.size(request)
    assert request.source is not None
    height, width = request.source.shape[:2]
    return (height, width), (height * request.scale, width * request.scale)


def finished(drawing: Drawing, request: GenerationRequest) -> NDArray[np.uint8]:
    """The picture that an upscaler's last pass made, in exactly the size that was asked for."""
    return pictures.resize(pixels_of(drawing), sizes(request)[1])


def pixels_of(drawing: Drawing) -> NDArray[np.uint8]:
    """What was made, as uint8 RGB [height, width, 3]."""
    made = drawing.sampled.latents[0].permute(1, 2, 0)
    return (made * 255).round().clamp(0, 255).to(torch.uint8).contiguous().cpu().numpy()
