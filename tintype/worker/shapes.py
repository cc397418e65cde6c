"""Shapes made into masks: finer than the picture, row by row, then averaged, so that edges are smooth."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tintype.generations import masks
from tintype.generations.masks import AnyShape, Ellipse, Geometry, Polygon, Rectangle, Stroke

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]
"""[n, 2]: across and down, in fine pixels."""
Turns = NDArray[np.int16]
"""How often a row of fine pixels enters an outline at each column, less how often it leaves one."""

FINER = 4
"""Times as fine as the picture a shape is drawn: 17 shades along an edge."""
FINE_PIXELS = 1 << 24
"""How many that may come to; edges in larger pictures are wide enough with fewer shades."""
BAND_ROWS = 128
"""Rows of the picture made at once, to hold little in memory."""
PIECES = 512
"""Sides or discs handled in one go, for the same reason."""


def rasterised(mask: Geometry, width: int, height: int) -> Pixels:
    """Where to draw: uint8 [height, width], 255 where the mask covers, with grey along its edges."""
    finer = next((each for each in (FINER, 2) if width * height * each**2 <= FINE_PIXELS), 1)
    covered = np.empty((height, width), np.uint8)
    for top in range(0, height, BAND_ROWS):
        rows = min(BAND_ROWS, height - top)
        band = np.zeros((rows * finer, width * finer), bool)
        for shape in mask.shapes:
            _, upper, _, lower = masks.box_of(shape)
            if upper < top + rows and lower > top:
                inside = _inside(shape, band.shape, top, finer)
                band = band & ~inside if shape.erase else band | inside
        parts = band.reshape(rows, finer, width, finer)
        covered[top : top + rows] = np.rint(255 / finer**2 * parts.sum(axis=(1, 3), dtype=np.uint16))
    if mask.feather > 0:  # twice a quarter to either side: a ramp as wide as asked for, without kinks
        blur = ImageFilter.BoxBlur(mask.feather / 4)
        covered = np.array(Image.fromarray(covered).filter(blur).filter(blur))
    return 255 - covered if mask.invert else covered


def _inside(shape: AnyShape, size: tuple[int, ...], top: int, finer: int) -> NDArray[np.bool_]:
    """Which fine pixels of a band from the row `top` have their centre in the shape.

    Each outline adds one where a row enters it and takes one away where it leaves, so a sum along the row counts how
    often it has been entered: not at all is outside, also where pieces overlap.
    """
    turns = np.zeros((size[0], size[1] + 1), np.int16)
    shift = np.array((0.0, top * finer))
    match shape:
        case Rectangle():
            left, upper, right, lower = masks.box_of(shape)
            corners = np.array(((left, upper), (left, lower), (right, lower), (right, upper))) * finer - shift
            _add_sides(turns, corners, np.roll(corners, -1, axis=0))
        case Ellipse():
            half = np.array((shape.width, shape.height)) * finer / 2
            _add_ellipses(turns, np.array(((shape.x, shape.y),)) * finer - shift + half, half)
        case Polygon():
            corners = np.array(shape.points) * finer - shift
            _add_sides(turns, corners, np.roll(corners, -1, axis=0))
        case Stroke():
            _add_stroke(turns, np.array(shape.points) * finer - shift, shape.width * finer / 2)
    return np.cumsum(turns[:, :-1], axis=1, dtype=np.int16) != 0


def _add_stroke(turns: Turns, points: Points, reach: float) -> None:
    """A disc at every point, and a bar between each two; all bars turn the same way, so none undoes another."""
    _add_ellipses(turns, points, np.array((reach, reach)))
    along = np.diff(points, axis=0)
    lengths = np.hypot(along[:, 0], along[:, 1])
    moves = lengths > 0
    starts, ends, along = points[:-1][moves], points[1:][moves], along[moves] / lengths[moves, None]
    side = np.stack((-along[:, 1], along[:, 0]), axis=1) * reach
    corners = (starts - side, starts + side, ends + side, ends - side)
    for corner, following in zip(corners, (*corners[1:], corners[0]), strict=True):
        _add_sides(turns, corner, following)


def _add_ellipses(turns: Turns, middles: Points, half: Points) -> None:
    """Ellipses of one size, which is `half` as much to the right and down as they are wide and high."""
    rows = np.arange(turns.shape[0]) + 0.5
    for first in range(0, len(middles), PIECES):
        some = middles[first : first + PIECES]
        away = (rows - some[:, 1:]) / half[1]
        piece, row = np.nonzero(np.abs(away) < 1)
        reach = half[0] * np.sqrt(1 - away[piece, row] ** 2)
        _turn(turns, row, some[piece, 0] - reach, 1)
        _turn(turns, row, some[piece, 0] + reach, -1)


def _add_sides(turns: Turns, starts: Points, ends: Points) -> None:
    """Sides of outlines: one that goes down enters, one that goes up leaves."""
    rows = np.arange(turns.shape[0]) + 0.5
    for first in range(0, len(starts), PIECES):
        (x, y), (to_x, to_y) = (points[first : first + PIECES].T for points in (starts, ends))
        is_above, is_after = y[:, None] <= rows, to_y[:, None] <= rows
        piece, row = np.nonzero(is_above != is_after)
        share = (rows[row] - y[piece]) / (to_y - y)[piece]
        _turn(turns, row, x[piece] + share * (to_x - x)[piece], np.where(is_above[piece, row], 1, -1))


def _turn(turns: Turns, rows: NDArray[np.int64], at: Points, by: NDArray[np.int64] | int) -> None:
    """Count a turn in the first column whose middle lies at or beyond each place."""
    columns = np.clip(np.ceil(at - 0.5), 0, turns.shape[1] - 1).astype(np.int64)
    np.add.at(turns, (rows, columns), by)
