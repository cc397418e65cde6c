"""What is in a picture, found by looking at its pixels, and how that compares with what its sentence meant.

Only figures are scored. The background is what covers the border, subjects are the connected areas that
differ from it. A colour is the nearest of the palette; a shape the best overlapping outline in a common box.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .meaning import PLACES, SHAPES, Figures, Subject
from .outlines import OUTLINES, RING_HOLE
from .palette import COLOURS, PAPER, SLATE

GRID = 64
# Smallest subject, as a share of the picture; anything less is a speck.
SPECK = 0.004
# How far (in Lab units) a pixel must be from the background's median to belong to a subject.
APART = 16.0
# Least overlap (intersection over union, both in one box) of an area with the shape that it is said to be. It is
# strict: a star or ring that is plain to the eye but wobbles by a pixel has about 0.7 and counts as wrong.
LIKE = 0.75


@dataclass(frozen=True, kw_only=True)
class Found:
    """One area that differs from the background: its colour, its shape and its centre as fractions."""

    colour: str
    shape: str
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """What was right, as (right, asked); colours are those of the background and of every subject."""

    colours: tuple[int, int]
    shapes: tuple[int, int]
    positions: tuple[int, int]
    counts: tuple[int, int]

    @property
    def is_perfect(self) -> bool:
        """Tell whether nothing was wrong."""
        pairs = (self.colours, self.shapes, self.positions, self.counts)
        return all(right == asked for right, asked in pairs)


def score(picture: NDArray[np.uint8], figures: Figures) -> Score:
    """Compare a picture (height x width x 3 sRGB bytes) with what was asked for."""
    background, found = look(picture)
    wanted = [subject for subject in figures.subjects for _ in range(subject.count)]
    places = _places(figures)
    pairs = _match(wanted, places, found)
    grounds = (int(background == figures.background), 1) if figures.background else (0, 0)
    colours = sum(area is not None and area.colour == subject.colour for subject, area in pairs)
    shapes = sum(area is not None and area.shape == subject.shape for subject, area in pairs)
    return Score(
        colours=(grounds[0] + colours, grounds[1] + len(wanted)),
        shapes=(shapes, len(wanted)),
        positions=_position(figures, [area for _, area in pairs]),
        counts=(int(len(found) == len(wanted)), 1),
    )


def look(picture: NDArray[np.uint8]) -> tuple[str, list[Found]]:
    """Give the background's colour name and the subjects, largest first."""
    lab = _lab(picture)
    rim = max(2, min(picture.shape[:2]) // 24)
    inner = np.zeros(picture.shape[:2], bool)
    inner[rim:-rim, rim:-rim] = True
    ground = np.median(lab[~inner], axis=0)
    apart = np.linalg.norm((lab - ground) * (0.6, 1.0, 1.0), axis=-1)
    mask = (apart > APART).astype(np.uint8)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=4)
    order = sorted(range(1, count), key=lambda i: -int(stats[i, cv2.CC_STAT_AREA]))
    found: list[Found] = []
    for index in order:
        if stats[index, cv2.CC_STAT_AREA] < SPECK * mask.size:
            continue
        area = labels == index
        # The rim of a shape is a blend of two colours; its inside is not.
        core = cv2.erode(area.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        inside = np.median(lab[core if core.any() else area], axis=0)
        cover = _cover(lab, ground, inside) * cv2.dilate(area.astype(np.uint8), np.ones((3, 3), np.uint8))
        if cover.max() <= 0.5:
            continue
        x, y = centres[index]
        found.append(
            Found(colour=name_colour(inside), shape=name_shape(cover), x=x / picture.shape[1], y=y / picture.shape[0])
        )
    return name_colour(ground, with_paper=True), found


def name_colour(lab: NDArray[np.float64], *, with_paper: bool = False) -> str:
    """Give the nearest palette colour in Lab; "" is the paper of pictures with an open background."""
    names, values = _palette(with_paper)
    return names[int(np.linalg.norm(values - lab, axis=1).argmin())]


def name_shape(cover: NDArray[np.float64]) -> str:
    """Give the shape whose outline overlaps an area best, or "" for a blob like none of them.

    `cover` says how much of each pixel belongs to the area, 0 to 1.
    """
    seen = _boxed(cover)
    overlaps = {shape: _overlap(seen, _reference(shape)) for shape in SHAPES}
    best = max(overlaps, key=lambda shape: overlaps[shape])
    return best if overlaps[best] > LIKE else ""


def _lab(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    return cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).astype(np.float64)


def _cover(lab: NDArray[np.float64], ground: NDArray[np.float64], inside: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give how far each pixel is on the way from the background's colour to a subject's, 0 to 1."""
    way = inside - ground
    return np.clip((lab - ground) @ way / (way @ way), 0, 1)


@cache
def _palette(with_paper: bool) -> tuple[list[str], NDArray[np.float64]]:
    named = [*COLOURS.items(), *((("", PAPER), ("", SLATE)) if with_paper else ())]
    values = np.array([value for _, value in named], np.uint8)[None]
    return [name for name, _ in named], _lab(values)[0]


@cache
def _reference(shape: str) -> NDArray[np.uint8]:
    side = 4 * GRID
    points = np.array([[(x * 0.4 + 0.5) * side, (y * 0.4 + 0.5) * side] for x, y in OUTLINES[shape]])
    canvas = np.zeros((side, side), np.uint8)
    cv2.fillPoly(canvas, [points.round().astype(np.int32)], 1)
    if shape == "ring":
        cv2.circle(canvas, (side // 2, side // 2), round(0.4 * side * RING_HOLE), 0, -1)
    return _boxed(canvas)


def _boxed(cover: NDArray[Any]) -> NDArray[np.uint8]:
    """Give a covered area cut to its longer side, centred in a square and brought to GRID x GRID zeros and ones."""
    fine = cv2.resize(cover.astype(np.float32), None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR) > 0.5
    ys, xs = np.nonzero(fine)
    cut = fine[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].astype(np.float32)
    side = max(cut.shape)
    square = np.zeros((side, side), np.float32)
    top, left = (side - cut.shape[0]) // 2, (side - cut.shape[1]) // 2
    square[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return (cv2.resize(square, (GRID, GRID), interpolation=cv2.INTER_AREA) > 0.5).astype(np.uint8)


def _overlap(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


def _places(figures: Figures) -> list[tuple[float, float] | None]:
    """Give where each asked-for shape should be, or None where only its order counts."""
    (first, *rest) = figures.subjects
    if rest:
        beside = {"left": (0.0, 0.5), "right": (1.0, 0.5), "above": (0.5, 0.0), "below": (0.5, 1.0)}
        at = beside.get(figures.relation)
        return [at, (1 - at[0], 1 - at[1]) if at else None]
    return [PLACES[figures.place]] if first.count == 1 else [None] * first.count


def _match(
    wanted: list[Subject], places: list[tuple[float, float] | None], found: list[Found]
) -> list[tuple[Subject, Found | None]]:
    """Pair what was asked for with what is there, by two of colour, shape and place against the third."""
    left = list(found)
    pairs: dict[int, Found | None] = dict.fromkeys(range(len(wanted)))

    def likeness(index: int, area: Found) -> float:
        subject, at = wanted[index], places[index]
        far = abs(area.x - at[0]) + abs(area.y - at[1]) if at else 0.0
        return 4 * (area.colour == subject.colour) + 3 * (area.shape == subject.shape) - 4 * far

    waiting = list(pairs)
    while waiting and left:
        index, area = max(((i, a) for i in waiting for a in left), key=lambda pair: likeness(*pair))
        pairs[index] = area
        waiting.remove(index)
        left.remove(area)
    return [(subject, pairs[index]) for index, subject in enumerate(wanted)]


def _position(figures: Figures, areas: list[Found | None]) -> tuple[int, int]:
    """Give whether the relation of two, or the place of one, is right; (0, 0) where none was asked for."""
    if len(figures.subjects) == 2 and figures.relation:
        first, second = areas
        if first is None or second is None:
            return 0, 1
        dx, dy = first.x - second.x, first.y - second.y
        along = {"left": -dx, "right": dx, "above": -dy, "below": dy}[figures.relation]
        across = abs(dy) if figures.relation in ("left", "right") else abs(dx)
        return int(along > 0.1 and along > across), 1
    if figures.place:
        (area,) = areas
        x, y = PLACES[figures.place]
        return int(area is not None and abs(area.x - x) < 0.14 and abs(area.y - y) < 0.14), 1
    return 0, 0
