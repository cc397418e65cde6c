"""The networks of ESRGAN and its like: pictures in 0 to 1, [n, colours, height, width], come out `factor` times larger.

Dense blocks within residual blocks as in arXiv 1809.00219, figure 4, in front of them the pixel unshuffle of
Real-ESRGAN (arXiv 2107.10833, figure 4); and the compact network of github.com/xinntao/Real-ESRGAN, plain convolutions
before one pixel shuffle.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

RESIDUE = 0.2
"""How much of what a block finds is added to what it was given."""
SLOPE = 0.2
"""Of the leaky rectifiers, below zero."""


class Enlarger(Protocol):
    """A kind of network, as far as the shapes of its weights tell."""

    @property
    def colours(self) -> int:
        """Channels of the pictures it takes."""
        ...

    @property
    def factor(self) -> int:
        """How many times larger what it gives is."""
        ...

    @property
    def multiple(self) -> int:
        """What the sides of its pictures are multiples of."""
        ...

    @property
    def numbers_per_pixel(self) -> int:
        """About as many numbers are in flight for each pixel it takes, at the widest point."""
        ...

    def build(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The network with these weights.

        Raises:
            RuntimeError: some are missing, or there are others.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Dense:
    """An ESRGAN. It doubles `doublings` times what it sees, which is the picture folded `folding` by `folding`."""

    colours: int
    features: int
    growth: int
    blocks: int
    doublings: int
    folding: int

    @property
    def factor(self) -> int:
        """Its doublings, less what the folding takes."""
        return 2**self.doublings // self.folding

    @property
    def multiple(self) -> int:
        """What is folded in one."""
        return self.folding

    @property
    def numbers_per_pixel(self) -> int:
        """In a dense block, or after the last doubling."""
        inside = 2 * (self.features + 4 * self.growth) + 4 * self.features
        return max(inside, 3 * self.features * 4**self.doublings) // self.folding**2

    def build(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The network with these weights."""
        return _filled(DenseNetwork, self, weights)


@dataclass(frozen=True, kw_only=True)
class Compact:
    """A plain network of `layers` convolutions between its first and its last."""

    colours: int
    features: int
    layers: int
    factor: int

    @property
    def multiple(self) -> int:
        """It takes any size."""
        return 1

    @property
    def numbers_per_pixel(self) -> int:
        """Before and after an activation, and what comes out."""
        return 3 * self.features + 2 * self.colours * self.factor**2

    def build(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The network with these weights."""
        return _filled(CompactNetwork, self, weights)


class DenseNetwork(nn.Module):
    """`Dense`, computing."""

    def __init__(self, shape: Dense) -> None:
        super().__init__()
        wide = shape.features
        self._folding = shape.folding
        self.first = _conv(shape.colours * shape.folding**2, wide)
        self.blocks = nn.Sequential(*(_Block(wide, shape.growth) for _ in range(shape.blocks)))
        self.after = _conv(wide, wide)
        self.doublings = nn.ModuleList(_conv(wide, wide) for _ in range(shape.doublings))
        self.fine = _conv(wide, wide)
        self.last = _conv(wide, shape.colours)

    def forward(self, picture: Tensor) -> Tensor:
        """The picture, enlarged."""
        seen = self.first(functional.pixel_unshuffle(picture, self._folding))
        seen = seen + self.after(self.blocks(seen))
        for conv in self.doublings:
            seen = functional.leaky_relu(conv(functional.interpolate(seen, scale_factor=2, mode="nearest")), SLOPE)
        return self.last(functional.leaky_relu(self.fine(seen), SLOPE))


class _Block(nn.Module):
    def __init__(self, wide: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(_DenseBlock(wide, growth) for _ in range(3)))

    def forward(self, seen: Tensor) -> Tensor:
        return seen + RESIDUE * self.dense(seen)


class _DenseBlock(nn.Module):
    def __init__(self, wide: int, growth: int) -> None:
        super().__init__()
        grown = [wide + index * growth for index in range(5)]
        self.convs = nn.ModuleList(_conv(width, growth if index < 4 else wide) for index, width in enumerate(grown))

    def forward(self, seen: Tensor) -> Tensor:
        found = seen
        for conv in self.convs[:4]:
            found = torch.cat((found, functional.leaky_relu(conv(found), SLOPE)), dim=1)
        return seen + RESIDUE * self.convs[4](found)


class CompactNetwork(nn.Module):
    """`Compact`, computing: what it finds is added to the picture's own pixels, each repeated."""

    def __init__(self, shape: Compact) -> None:
        super().__init__()
        self._factor = shape.factor
        self.body = nn.Sequential()
        for index in range(shape.layers + 1):
            self.body.append(_conv(shape.colours if index == 0 else shape.features, shape.features))
            self.body.append(nn.PReLU(shape.features))
        self.body.append(_conv(shape.features, shape.colours * shape.factor**2))

    def forward(self, picture: Tensor) -> Tensor:
        """The picture, enlarged."""
        found = functional.pixel_shuffle(self.body(picture), self._factor)
        return found + functional.interpolate(picture, scale_factor=self._factor, mode="nearest")


def _conv(taken: int, given: int) -> nn.Conv2d:
    return nn.Conv2d(taken, given, kernel_size=3, padding=1)


def _filled(kind: Callable[..., nn.Module], shape: Enlarger, weights: Mapping[str, Tensor]) -> nn.Module:
    with torch.device("meta"):
        network = kind(shape)
    network.load_state_dict(dict(weights), strict=True, assign=True)
    return network.eval().requires_grad_(requires_grad=False)
