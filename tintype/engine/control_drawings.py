"""Makes of a photograph the drawing that a control was trained on, where that needs no network of its own."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tintype.providers.contract import Control, ProviderError

WEAK, STRONG = 100, 200
"""Slopes from which on an edge is followed, and from which on it begins: what canny ControlNets are fed by custom."""
FINE, COARSE = 0.5, 5.0
"""Widths in pixels of the two blurs a scribble is the difference of."""
INK = 16
"""So much darker than its surroundings, of 255, a line of a scribble is."""


class ControlNotReadyError(ProviderError):
    """A photograph was given where the engine takes drawings only."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"the {kind} control needs its drawing; give a picture that is one already and set `is_ready`",
            code="control_not_ready",
            retryable=False,
        )


def draw(control: Control, width: int, height: int) -> NDArray[np.uint8]:
    """The control's drawing in the size of the picture it steers: uint8 RGB [height, width, 3].

    Raises:
        ControlNotReadyError: it is a photograph, and of a kind that is not drawn here.
    """
    picture = Image.fromarray(control.pixels).resize((width, height), Image.Resampling.LANCZOS)
    if control.is_ready or control.type == "tile":
        return np.array(picture)
    if control.type == "canny":
        return _spread(canny(np.asarray(picture.convert("L"))))
    if control.type == "scribble":
        return _spread(scribble(picture))
    raise ControlNotReadyError(control.type)


def canny(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where edges are in a grey picture [height, width]: J. Canny, 1986, on Sobel's slopes, without a blur before."""
    right, down = _slopes(grey)
    slope = np.abs(right) + np.abs(down)
    ridge = _is_ridge(slope, right, down) & (slope > WEAK)
    edges = ridge & (slope > STRONG)
    while True:  # an edge goes on wherever a weaker ridge touches it
        longer = ridge & _grow(edges)
        if np.array_equal(longer, edges):
            return edges
        edges = longer


def scribble(picture: Image.Image) -> NDArray[np.bool_]:
    """Where a pen would go: what is darker than its surroundings, as a difference of two blurs (XDoG, 2012)."""
    fine, coarse = (
        np.asarray(picture.convert("L").filter(ImageFilter.GaussianBlur(width)), dtype=np.float32)
        for width in (FINE, COARSE)
    )
    return coarse - fine > INK


def _spread(lines: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """White lines on black, as RGB."""
    return np.repeat(lines[..., None].astype(np.uint8) * 255, 3, axis=2)


def _slopes(grey: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    padded = np.pad(grey.astype(np.int32), 1, mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]


def _is_ridge(slope: NDArray[np.int32], right: NDArray[np.int32], down: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether no neighbour across the edge is steeper; of two that are equally steep, the first counts."""
    around = np.pad(slope, 1)
    height, width = slope.shape

    def beside(by_rows: int, by_columns: int) -> NDArray[np.int32]:
        return around[1 + by_rows : 1 + by_rows + height, 1 + by_columns : 1 + by_columns + width]

    steepness = np.abs(down) / np.maximum(np.abs(right), 1e-9)
    is_flat, is_steep = steepness < np.tan(np.pi / 8), steepness > np.tan(3 * np.pi / 8)
    across = (slope > beside(0, -1)) & (slope >= beside(0, 1))
    along = (slope > beside(-1, 0)) & (slope >= beside(1, 0))
    falling = (slope > beside(-1, -1)) & (slope > beside(1, 1))
    rising = (slope > beside(-1, 1)) & (slope > beside(1, -1))
    diagonal = np.where((right ^ down) < 0, rising, falling)
    return np.where(is_flat, across, np.where(is_steep, along, diagonal))


def _grow(lines: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The lines and all that touches them, corners included."""
    wide = np.pad(lines, 1)
    wide = wide[:-2] | wide[1:-1] | wide[2:]
    return wide[:, :-2] | wide[:, 1:-1] | wide[:, 2:]
