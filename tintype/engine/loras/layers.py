"""Layers that add to each line of a batch what that line's LoRAs say: out + sum of weight * up (down x).

A layer holds its LoRAs stacked, cut into pages of one fixed rank: `down` [pages, rank, in, ...] and `up`
[pages, out, rank]; page 0 is zeros and stays so. Which page each line takes, and how strongly, stands in one `Mixture`
that all layers of a network read. A LoRA of a higher rank takes several pages. So the shapes of the products depend on
the number of lines alone and a line's bits on its own LoRAs alone: for a line with fewer pages zeros are added.

After "S-LoRA", Sheng et al. 2023, and "Punica", Chen et al. 2023.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

NO_PAGE = 0

Pages = Sequence[tuple[int, float]]
"""What one line takes: pages with their weights."""


class Mixture:
    """Which pages the lines of a batch take; `depth` is how many the line with the most has.

    `turns` has for each of them `pages` [lines] and `weights` [lines, 1, 1]. The memory behind them stays in place
    while it suffices; `moves` counts how often it did not, for those who recorded its address.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.turns: tuple[tuple[Tensor, Tensor], ...] = ()
        self.moves = 0
        self._last: tuple[list[Pages], torch.device] | None = None
        self._pages = torch.zeros(0, 0, dtype=torch.int64)
        self._weights = torch.zeros(0, 0)

    @property
    def depth(self) -> int:
        return len(self.turns)

    def mix(self, lines: Sequence[Pages], device: torch.device) -> None:
        """Let the batch be `lines`."""
        if self._last == (lines, device):  # the next step of the same pictures
            return
        depth = max((len(line) for line in lines), default=0)
        self.lines = len(lines)
        if depth:
            self._reserve(depth, len(lines), device)
            filled = [[*line, *[(NO_PAGE, 0.0)] * (depth - len(line))] for line in lines]
            self._pages[:depth, : len(lines)] = torch.tensor([[page for page, _ in line] for line in filled]).T
            self._weights[:depth, : len(lines)] = torch.tensor([[weight for _, weight in line] for line in filled]).T
        self.turns = tuple(
            (self._pages[turn, : len(lines)], self._weights[turn, : len(lines), None, None]) for turn in range(depth)
        )
        self._last = (list(lines), device)

    def _reserve(self, depth: int, lines: int, device: torch.device) -> None:
        had_depth, had_lines = self._pages.shape
        if depth <= had_depth and lines <= had_lines and self._pages.device == device:
            return
        shape = (max(depth, had_depth, 4), max(lines, had_lines, 64))
        with torch.inference_mode(mode=False):  # what is made inside can only be changed inside
            self._pages = torch.zeros(shape, dtype=torch.int64, device=device)
            self._weights = torch.zeros(shape, device=device)
        self.moves += 1


class WithLoras(nn.Module, ABC):
    """A layer whose LoRAs `add` to what it gives without them."""

    down: Tensor
    up: Tensor
    mixture: Mixture

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name for it
        return self.add(super().forward(input), input)

    def add(self, out: Tensor, input: Tensor) -> Tensor:  # noqa: A002 - as above
        """`out`, which the layer alone makes of `input`, with what the lines' LoRAs say."""
        return self._added(out, input, self.mixture.lines) if self.mixture.turns else out

    @abstractmethod
    def _added(self, out: Tensor, input: Tensor, lines: int) -> Tensor:  # noqa: A002 - as above
        """As `add`, where there are LoRAs."""


class LinearWithLoras(WithLoras, nn.Linear):
    """A linear layer over [lines * any, ..., in] with the lines' LoRAs; the input's first dimension goes by lines."""

    def _added(self, out: Tensor, input: Tensor, lines: int) -> Tensor:  # noqa: A002 - as above
        flat = input.reshape(lines, -1, self.in_features)
        total = out.reshape(lines, -1, self.out_features)
        for pages, weights in self.mixture.turns:
            inner = torch.bmm(flat, self.down.index_select(0, pages).transpose(1, 2))
            total = torch.baddbmm(
                total, (inner * weights).to(total.dtype), self.up.index_select(0, pages).transpose(1, 2)
            )
        return total.reshape(out.shape)


class Conv2dWithLoras(WithLoras, nn.Conv2d):
    """A convolution over [lines * frames, channels, height, width] with the lines' LoRAs."""

    def _added(self, out: Tensor, input: Tensor, lines: int) -> Tensor:  # noqa: A002 - as above
        frames = len(input) // lines
        channels, height, width = input.shape[1:]
        # Each line has a kernel of its own: one convolution in as many groups as there are lines.
        flat = input.reshape(lines, frames, channels, height, width).transpose(0, 1)
        flat = flat.reshape(frames, lines * channels, height, width)
        total = out.flatten(2)
        rank = self.down.shape[1]
        for pages, weights in self.mixture.turns:
            down = self.down.index_select(0, pages).flatten(0, 1)
            inner = nn.functional.conv2d(flat, down, None, self.stride, self.padding, self.dilation, lines)
            inner = inner.reshape(frames, lines, rank, -1).transpose(0, 1) * weights.unsqueeze(1)
            up = self.up.index_select(0, pages.repeat_interleave(frames))
            total = torch.baddbmm(total, up, inner.reshape(lines * frames, rank, -1).to(total.dtype))
        return total.reshape(out.shape)


Layer = LinearWithLoras | Conv2dWithLoras


def can_install(module: nn.Module) -> bool:
    """Whether LoRAs can be added to what this module gives."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    return isinstance(module, nn.Linear)


def install(network: nn.Module, paths: Iterable[str], mixture: Mixture, *, pages: int, rank: int) -> dict[str, Layer]:
    """Let the modules of the network at `paths` take LoRAs, `pages` of `rank`; they stay the same objects.

    Neither their weights nor the names in `state_dict` change. Hooks that replace a module's `forward` come after.
    """
    installed = dict[str, Layer]()
    for path in paths:
        module = network.get_submodule(path)
        assert isinstance(module, nn.Linear | nn.Conv2d)
        assert can_install(module)
        weight = module.weight
        with torch.inference_mode(mode=False):
            down = torch.zeros(pages, rank, *weight.shape[1:], dtype=weight.dtype, device=weight.device)
            up = torch.zeros(pages, len(weight), rank, dtype=weight.dtype, device=weight.device)
        module.register_buffer("down", down, persistent=False)
        module.register_buffer("up", up, persistent=False)
        ours, plain = (LinearWithLoras, nn.Linear) if isinstance(module, nn.Linear) else (Conv2dWithLoras, nn.Conv2d)
        own = type(module)
        module.__class__ = ours if own is plain else type(f"{own.__name__}WithLoras", (ours, own), {})
        layer = cast("Layer", module)
        layer.mixture = mixture
        installed[path] = layer
    return installed


@torch.inference_mode()
def write(layer: Layer, page: int, down: Tensor | None, up: Tensor | None) -> None:
    """Fill a page: `down` [r, in, ...] and `up` [out, r] of at most the page's rank, scaled; None is zeros."""
    layer.down[page].zero_()
    layer.up[page].zero_()
    if down is not None and up is not None:
        layer.down[page, : len(down)].copy_(down)
        layer.up[page, :, : up.shape[1]].copy_(up)


@torch.inference_mode(mode=False)
@torch.no_grad()
def grow(layer: Layer, pages: int) -> None:
    """Make room for `pages`; those that are there keep what they hold."""
    more = pages - len(layer.down)
    if more > 0:
        layer.down = torch.cat([layer.down, layer.down.new_zeros(more, *layer.down.shape[1:])])
        layer.up = torch.cat([layer.up, layer.up.new_zeros(more, *layer.up.shape[1:])])
