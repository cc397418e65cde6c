"""Edges after J. Canny, "A Computational Approach to Edge Detection" (1986): blur, gradient, thinning, hysteresis."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tintype.engine.preprocessing import softness
from tintype.engine.preprocessing.softness import Values

Drawn = NDArray[np.bool_]
Kind = TypeVar("Kind", bound=np.generic)

LOW, HIGH = 64.0, 128.0
"""Of the gradient's length by Sobel's operator after the blur; what networks were trained on had 100 and 200 before."""
STEEP = np.float32(np.tan(np.pi / 8))
"""Up to here, 22.5°, a direction counts as along an axis."""
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
STROKES = 160
"""A stroke is one part in so many of the shorter side wide."""


def find(pixels: NDArray[np.uint8], low: float = LOW, high: float = HIGH) -> Drawn:
    """Where the edges of a picture, uint8 RGB, are: one pixel wide, [height, width].

    They start where the gradient is above `high` and go on where it is above `low`.
    """
    across, down = _gradient(softness.blur(pixels.astype(np.float32)))
    length = np.hypot(across, down)
    ridge = _ridge(length, across, down)
    return _connected(ridge & (length > low), ridge & (length > high))


def scribble(pixels: NDArray[np.uint8]) -> Drawn:
    """Where a pen would have gone: the long edges of the picture without its details, in broad strokes."""
    drawn = find(softness.soften(pixels, softness.FINEST // 2), LOW / 2, HIGH / 2)
    for _ in range(max(1, min(pixels.shape[:2]) // STROKES // 2)):
        padded = np.pad(drawn, 1)
        drawn = np.logical_or.reduce([_shifted(padded, step) for step in ((0, 0), *AROUND)])
    return drawn


def _gradient(values: Values) -> tuple[Values, Values]:
    """Across and down, by Sobel's operator; at each place of the colour that changes most there."""
    padded = np.pad(values, [(1, 1), (1, 1), (0, 0)], mode="edge")
    across: Values = padded[:, 2:] - padded[:, :-2]
    down: Values = padded[2:] - padded[:-2]
    across = across[:-2] + across[1:-1] + across[1:-1] + across[2:]
    down = down[:, :-2] + down[:, 1:-1] + down[:, 1:-1] + down[:, 2:]
    colour = np.hypot(across, down).argmax(axis=2)[..., None]
    return np.take_along_axis(across, colour, axis=2)[..., 0], np.take_along_axis(down, colour, axis=2)[..., 0]


def _ridge(length: Values, across: Values, down: Values) -> Drawn:
    """Where the gradient is longest along its own direction, of four; of two as long, the first counts."""
    padded = np.pad(length, 1)
    flat, steep = np.abs(across), np.abs(down)
    is_falling = (across >= 0) == (down >= 0)
    step_of = (
        ((0, 1), steep < STEEP * flat),
        ((1, 0), flat <= STEEP * steep),
        ((1, 1), is_falling),
        ((1, -1), ~is_falling),
    )
    found, left = np.zeros(length.shape, bool), np.ones(length.shape, bool)
    for (down_step, right_step), is_it in step_of:
        before, after = _shifted(padded, (-down_step, -right_step)), _shifted(padded, (down_step, right_step))
        found |= left & is_it & (length > before) & (length >= after)
        left &= ~is_it
    return found


def _shifted(padded: NDArray[Kind], step: tuple[int, int]) -> NDArray[Kind]:
    """What lies one `step` away from each place; `padded` has one more place on every side."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    return padded[1 + step[0] : 1 + step[0] + height, 1 + step[1] : 1 + step[1] + width]


def _connected(weak: Drawn, strong: Drawn) -> Drawn:
    """The weak places that are strong or hang together with a strong one."""
    waiting = np.pad(weak, 1)
    width = waiting.shape[1]
    flat = waiting.ravel()
    found = np.zeros_like(flat)
    steps = np.array([down * width + right for down, right in AROUND])
    frontier = np.flatnonzero(np.pad(strong & weak, 1))
    flat[frontier] = False
    while frontier.size:
        found[frontier] = True
        near = np.unique(frontier[:, None] + steps)
        frontier = near[flat[near]]
        flat[frontier] = False
    return found.reshape(waiting.shape)[1:-1, 1:-1]
