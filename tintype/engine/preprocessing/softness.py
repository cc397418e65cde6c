"""Blurring, by arithmetic alone."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

BINOMIAL = np.array((1, 4, 6, 4, 1), np.float32) / 16
"""Nearly a Gaussian of one pixel."""
FINEST = 256
"""Parts of the shorter side: what is smaller than one is detail, which a network that works in tiles draws itself."""


def blur(values: Values) -> Values:
    """`values` [height, width, ...] blurred by one pixel's deviation; beyond the border they go on as they end."""
    for axis in (0, 1):
        padded = np.pad(values, [(2, 2) if axis == each else (0, 0) for each in range(values.ndim)], mode="edge")
        length = values.shape[axis]
        values = sum(
            (weight * padded.take(range(start, start + length), axis) for start, weight in enumerate(BINOMIAL)),
            np.zeros_like(values),
        )
    return values


def soften(pixels: NDArray[np.uint8], finest: int = FINEST) -> NDArray[np.uint8]:
    """The picture without its details: blurred by about one part in `finest` of its shorter side."""
    values = pixels.astype(np.float32)
    deviation = max(1.0, min(pixels.shape[:2]) / finest)
    for _ in range(round(deviation**2)):  # variances add up
        values = blur(values)
    return values.round().clip(0, 255).astype(np.uint8)
