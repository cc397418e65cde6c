"""Tiles of one size that cover a picture and lie over each other, and how what is made of each becomes one picture."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

Weights = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Equal stretches along one side: where each starts, how long each is, how long the side is.

    `margin` is what counts for nothing at the inner ends of a stretch, where a network saw too little around it.
    """

    starts: tuple[int, ...]
    length: int
    whole: int
    margin: int

    @cached_property
    def weights(self) -> tuple[Weights, ...]:
        """Of each stretch, [length]; over each other they add up to one at every place.

        They rise and fall evenly over what two stretches share beyond their margins.
        """
        raw = [self._raw(index) for index in range(len(self.starts))]
        total = np.zeros(self.whole)
        for start, weight in zip(self.starts, raw, strict=True):
            total[start : start + self.length] += weight
        return tuple(
            (weight / total[start : start + self.length]).astype(np.float32)
            for start, weight in zip(self.starts, raw, strict=True)
        )

    def _raw(self, index: int) -> NDArray[np.float64]:
        places = np.arange(self.length, dtype=np.float64) + 0.5
        weight = np.ones(self.length)
        if index > 0:
            weight = np.minimum(weight, self._ramp(places, self.starts[index - 1 : index + 1]))
        if index + 1 < len(self.starts):
            weight = np.minimum(weight, self._ramp(self.length - places, self.starts[index : index + 2]))
        return weight

    def _ramp(self, inwards: NDArray[np.floating], neighbours: Sequence[int]) -> NDArray[np.float64]:
        shared = self.length - (neighbours[1] - neighbours[0])
        return np.clip((inwards - self.margin) / max(1, shared - 2 * self.margin), 0.0, 1.0)

    def half_shared(self, index: int) -> int:
        """Half of what a stretch shares with the one before it."""
        return (self.length - self.starts[index] + self.starts[index - 1]) // 2 if index else 0

    def scaled(self, by: Fraction) -> "Row":
        """The same in other units; all numbers stay whole."""
        return Row(
            starts=tuple(int(start * by) for start in self.starts),
            length=int(self.length * by),
            whole=int(self.whole * by),
            margin=int(self.margin * by),
        )


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The tiles of a picture, row by row."""

    down: Row
    across: Row

    def __len__(self) -> int:
        return len(self.down.starts) * len(self.across.starts)

    def corners(self) -> list[tuple[int, int]]:
        """The first row and the first column of each tile."""
        return list(itertools.product(self.down.starts, self.across.starts))

    def scaled(self, by: Fraction | int) -> "Grid":
        """The same tiles of a picture that has `by` times as many rows and columns."""
        return Grid(down=self.down.scaled(Fraction(by)), across=self.across.scaled(Fraction(by)))

    def cut(self, whole: Tensor, index: int) -> Tensor:
        """Tile `index` of [..., height, width]."""
        top, left = self.corners()[index]
        return whole[..., top : top + self.down.length, left : left + self.across.length]

    def weights(self, index: int) -> Weights:
        """What tile `index` counts at each of its places, [height, width]."""
        row, column = divmod(index, len(self.across.starts))
        return self.down.weights[row][:, None] * self.across.weights[column]

    def lay(self, whole: Tensor, index: int, tile: Tensor) -> None:
        """Add tile `index`, weighted, to `whole` [..., height, width], which held zeros before the first one."""
        self.cut(whole, index).add_(tile * from_numpy(self.weights(index)).to(tile.device))

    def join(self, tiles: Sequence[Tensor]) -> Tensor:
        """One [..., height, width] of all tiles, each place from one of them: they meet midway in what they share."""
        first = tiles[0]
        whole = first.new_zeros(*first.shape[:-2], self.down.whole, self.across.whole)
        for index, tile in enumerate(tiles):
            row, column = divmod(index, len(self.across.starts))
            top, left = self.down.half_shared(row), self.across.half_shared(column)
            self.cut(whole, index)[..., top:, left:] = tile[..., top:, left:]
        return whole


def cover(height: int, width: int, *, side: int, overlap: int, margin: int = 0, multiple: int = 1) -> Grid:
    """Tiles of up to `side` by `side` that share at least `overlap` with their neighbours.

    All are of one size: that of the picture where it is smaller. Each starts at a multiple of `multiple`, which
    `height`, `width` and `side` are multiples of.
    """
    if overlap <= 2 * margin and max(height, width) > side:
        raise ValueError("tiles share no more than their margins; give them a larger overlap")
    return Grid(down=_row(height, side, overlap, margin, multiple), across=_row(width, side, overlap, margin, multiple))


def _row(whole: int, side: int, overlap: int, margin: int, multiple: int) -> Row:
    length = min(side, whole)
    count = 1 + -(-(whole - length) // (length - overlap)) if whole > length else 1
    apart = Fraction(whole - length, max(1, count - 1))
    starts = tuple(-(-int(index * apart) // multiple) * multiple for index in range(count))
    return Row(starts=starts, length=length, whole=whole, margin=margin)
