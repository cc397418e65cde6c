"""A video on one sheet: frames from its whole length, small, row by row, for whoever looks through it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_TILES = 25
TILE_SIDE = 160


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a sheet is laid out: `tiles` frames of `width` × `height` pixels, `columns` of them in a row."""

    tiles: int
    columns: int
    width: int
    height: int


def layout(frames: int, width: int, height: int) -> Layout:
    """The sheet of a video of so many frames of this size; a tile is at most 160 pixels a side, never enlarged."""
    tiles = min(frames, MOST_TILES)
    factor = min(1.0, TILE_SIDE / max(width, height))
    return Layout(
        tiles=tiles,
        columns=math.ceil(math.sqrt(tiles)),
        width=max(1, round(width * factor)),
        height=max(1, round(height * factor)),
    )


def draw(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The sheet of a video (uint8 RGB [frames, height, width, 3]): uint8 RGB; what is left of the last row is black."""
    planned = layout(len(frames), frames.shape[2], frames.shape[1])
    rows = math.ceil(planned.tiles / planned.columns)
    sheet = np.zeros((rows * planned.height, planned.columns * planned.width, 3), np.uint8)
    for tile in range(planned.tiles):
        frame = frames[tile * len(frames) // planned.tiles]
        small = Image.fromarray(frame).resize((planned.width, planned.height), Image.Resampling.BOX)
        row, column = divmod(tile, planned.columns)
        top, left = row * planned.height, column * planned.width
        sheet[top : top + planned.height, left : left + planned.width] = np.asarray(small)
    return sheet
