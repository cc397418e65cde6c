"""Pictures from meanings: flat shapes with a little light from above, the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from . import scenery
from .meaning import PLACES, Figures, Meaning, Subject
from .outlines import OUTLINES, RING_HOLE
from .palette import COLOURS, PAPER, SLATE

OVERSAMPLING = 3
# Radius as a fraction of the picture's shorter side, per size, for one shape and for two.
ALONE = {"small": 0.13, "": 0.25, "large": 0.38}
PAIRED = {"small": 0.105, "": 0.165, "large": 0.19}
PLACED = {"small": 0.11, "": 0.165, "large": 0.21}
COUNTED = {"small": 0.1, "": 0.145, "large": 0.18}
SPREADS = {
    2: ((0.29, 0.5), (0.71, 0.5)),
    3: ((0.5, 0.29), (0.27, 0.7), (0.73, 0.7)),
    4: ((0.28, 0.28), (0.72, 0.28), (0.28, 0.72), (0.72, 0.72)),
}
PAIRS = {
    "left": ((0.27, 0.5), (0.73, 0.5)),
    "right": ((0.73, 0.5), (0.27, 0.5)),
    "above": ((0.5, 0.27), (0.5, 0.73)),
    "below": ((0.5, 0.73), (0.5, 0.27)),
}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One shape on the canvas: centre in fractions of width and height, radius in shorter sides."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float


def draw(meaning: Meaning, *, width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Give the picture of a meaning, height x width x 3 sRGB bytes; same arguments, same bytes."""
    rng = random.Random(seed)
    if isinstance(meaning, Figures):
        return _draw_figures(meaning, width, height, rng)
    return scenery.draw(meaning, width=width, height=height, rng=rng)


def arrange(figures: Figures, rng: random.Random) -> list[Mark]:
    """Give the shapes of a meaning with their places and sizes, jittered a little."""
    if len(figures.subjects) == 2:
        relation = figures.relation or rng.choice(("left", "right"))
        marks = [
            _mark(subject, at, PAIRED[subject.size], rng)
            for subject, at in zip(figures.subjects, PAIRS[relation], strict=True)
        ]
    else:
        (subject,) = figures.subjects
        if subject.count > 1:
            marks = [_mark(subject, at, COUNTED[subject.size], rng) for at in SPREADS[subject.count]]
        else:
            radii = PLACED if figures.place else ALONE
            marks = [_mark(subject, PLACES[figures.place], radii[subject.size], rng)]
    return marks


def _mark(subject: Subject, at: tuple[float, float], radius: float, rng: random.Random) -> Mark:
    return Mark(
        shape=subject.shape,
        colour=subject.colour,
        x=at[0] + rng.uniform(-0.025, 0.025),
        y=at[1] + rng.uniform(-0.025, 0.025),
        radius=radius * rng.uniform(0.94, 1.06),
    )


def _draw_figures(figures: Figures, width: int, height: int, rng: random.Random) -> NDArray[np.uint8]:
    open_ground = SLATE if any(subject.colour == "white" for subject in figures.subjects) else PAPER
    base = np.array(COLOURS.get(figures.background, open_ground), np.float32)
    fall = np.linspace(5, -6, height, dtype=np.float32)[:, None, None]
    canvas = np.broadcast_to(base + fall, (height, width, 3)).copy()
    marks = arrange(figures, rng)
    unit = min(width, height)
    covers = [_cover(mark, width, height) for mark in marks]
    for cover in covers:
        soft = _shadow(cover, unit)
        canvas *= 1 - 0.16 * soft[..., None]
    for mark, cover in zip(marks, covers, strict=True):
        rows = (np.arange(height, dtype=np.float32) / height - mark.y) * height / (mark.radius * unit)
        light = (np.array(COLOURS[mark.colour], np.float32) - 10 * np.clip(rows, -1, 1)[:, None])[:, None]
        canvas += cover[..., None] * (light - canvas)
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def _cover(mark: Mark, width: int, height: int) -> NDArray[np.float32]:
    """Give how much of each pixel the shape covers, 0 to 1."""
    k = OVERSAMPLING
    image = Image.new("L", (width * k, height * k))
    pen = ImageDraw.Draw(image)
    radius = mark.radius * min(width, height) * k
    x, y = mark.x * width * k, mark.y * height * k
    outline = OUTLINES[mark.shape]
    pen.polygon([(x + px * radius, y + py * radius) for px, py in outline], fill=255)
    if mark.shape == "ring":
        hole = radius * RING_HOLE
        pen.ellipse([x - hole, y - hole, x + hole, y + hole], fill=0)
    return np.asarray(image.reduce(k), np.float32) / 255


def _shadow(cover: NDArray[np.float32], unit: int) -> NDArray[np.float32]:
    """Give the soft shadow of a covered area, thrown down by three hundredths of the shorter side."""
    image = Image.fromarray((cover * 255).astype(np.uint8))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(unit * 0.022)), np.float32) / 255
    shift = max(1, round(unit * 0.03))
    return np.roll(soft, shift, axis=0)
