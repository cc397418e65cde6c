"""An oversampled canvas: takes fractions of the picture, tints paint with the light of the hour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .outlines import Point

Colour = tuple[int, int, int]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Give the colour `share` (0 to 1) of the way from the first to the second."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(first, second, strict=True))
    return r, g, b


class Canvas:
    """Points are fractions of width and height; radii and offsets are fractions of the shorter side."""

    OVERSAMPLING = 3

    def __init__(self, ground: NDArray[np.uint8], *, tint: Colour, strength: float) -> None:
        """Start from an oversampled picture; `strength` (0 to 1) is how far paint moves towards `tint`."""
        self._image = Image.fromarray(ground)
        self._pen = ImageDraw.Draw(self._image)
        self._width, self._height = self._image.size
        self.unit = min(self._width, self._height)
        self._tint, self._strength = tint, strength

    def finish(self, width: int, height: int) -> NDArray[np.uint8]:
        """Give the picture at its own size, height x width x 3."""
        return np.asarray(self._image.reduce(self.OVERSAMPLING))[:height, :width].copy()

    def polygon(self, points: Sequence[Point], colour: Colour, *, lit: bool = False) -> None:
        """Fill a polygon; what is `lit` shines by itself and takes no tint."""
        self._pen.polygon([(x * self._width, y * self._height) for x, y in points], fill=self._light(colour, lit))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour, *, lit: bool = False) -> None:
        """Fill a rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour, lit=lit)

    def disc(
        self,
        x: float,
        y: float,
        radius: float,
        colour: Colour,
        *,
        lit: bool = False,
        dx: float = 0,
        dy: float = 0,
    ) -> None:
        """Fill a circle about a point, moved by `dx`, `dy`."""
        px, py, r = x * self._width + dx * self.unit, y * self._height + dy * self.unit, radius * self.unit
        self._pen.ellipse([px - r, py - r, px + r, py + r], fill=self._light(colour, lit))

    def at(self, x: float, y: float, points: Sequence[Point], colour: Colour, *, lit: bool = False) -> None:
        """Fill a polygon given by offsets from a point, in fractions of the shorter side."""
        sx, sy = self.unit / self._width, self.unit / self._height
        self.polygon([(x + px * sx, y + py * sy) for px, py in points], colour, lit=lit)

    def block(
        self, x: float, y: float, box: tuple[float, float, float, float], colour: Colour, *, lit: bool = False
    ) -> None:
        """Fill a rectangle (left, top, right, bottom) given by offsets from a point."""
        left, top, right, bottom = box
        self.at(x, y, [(left, top), (right, top), (right, bottom), (left, bottom)], colour, lit=lit)

    def ridge(self, line: Sequence[Point], colour: Colour) -> None:
        """Fill everything below a line that runs from left to right."""
        self.polygon([*line, (1, 1), (0, 1)], colour)

    def peak(self, top: Point, foot: float, half: float, light: Colour, shade: Colour, snow: Colour) -> None:
        """Paint a mountain lit from the left, with snow on its top quarter."""
        x, y = top
        self.polygon([(x, y), (x + half, foot), (x - half, foot)], light)
        self.polygon([(x, y), (x + half, foot), (x + half * 0.12, foot)], shade)
        drop, wide = (foot - y) * 0.26, half * 0.26
        self.polygon(
            [
                (x, y),
                (x + wide, y + drop),
                (x + wide * 0.3, y + drop * 0.8),
                (x - wide * 0.25, y + drop * 1.15),
                (x - wide, y + drop),
            ],
            snow,
        )

    def fir(self, x: float, foot: float, tall: float, colour: Colour) -> None:
        """Paint a fir tree of two tiers; `tall` is a fraction of the shorter side."""
        wide = tall * 0.34
        self.at(x, foot, [(0, -tall), (wide * 0.75, -tall * 0.42), (-wide * 0.75, -tall * 0.42)], colour)
        self.at(x, foot, [(0, -tall * 0.7), (wide, 0), (-wide, 0)], colour)

    def _light(self, colour: Colour, lit: bool) -> Colour:
        return colour if lit else mix(colour, self._tint, self._strength)
