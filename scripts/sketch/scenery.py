"""Landscapes in a compact, flat style: a soft sky, three layers of land, one thing that stands in it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import things
from .canvas import Canvas, Colour, mix
from .meaning import Scene


@dataclass(frozen=True, kw_only=True)
class Hour:
    """The light of one time of day: sky from top to horizon, and how strongly land takes its tint."""

    sky: tuple[Colour, Colour, Colour]
    tint: Colour
    strength: float
    glow: Colour


HOURS = {
    "day": Hour(
        sky=((64, 150, 226), (128, 194, 240), (206, 234, 248)),
        tint=(255, 255, 255),
        strength=0.0,
        glow=(255, 244, 190),
    ),
    "sunrise": Hour(
        sky=((110, 140, 205), (240, 178, 190), (255, 222, 170)),
        tint=(255, 190, 190),
        strength=0.22,
        glow=(255, 236, 190),
    ),
    "sunset": Hour(
        sky=((70, 44, 110), (206, 80, 100), (255, 164, 72)),
        tint=(120, 40, 80),
        strength=0.38,
        glow=(255, 205, 90),
    ),
    "night": Hour(
        sky=((10, 14, 44), (24, 34, 84), (52, 70, 126)),
        tint=(14, 20, 60),
        strength=0.54,
        glow=(226, 232, 250),
    ),
}


def draw(scene: Scene, *, width: int, height: int, rng: random.Random) -> NDArray[np.uint8]:
    """Give the picture of a scene, height x width x 3 sRGB bytes."""
    hour = HOURS[scene.time]
    horizon = rng.uniform(0.56, 0.62)
    side = rng.choice((-1, 1))
    orb = (0.5 + side * rng.uniform(0.17, 0.27), _orb_height(scene.time, horizon, rng))
    canvas = Canvas(_sky(hour, width, height, horizon, orb), tint=hour.tint, strength=hour.strength)
    _paint_orb(canvas, scene, hour, orb, rng)
    LANDS[scene.land](canvas, horizon, orb, hour, rng)
    if scene.thing:
        x = 0.5 - side * rng.uniform(0.1, 0.18)
        things.THINGS[scene.thing](canvas, x, _ground(scene, horizon), scene)
    return canvas.finish(width, height)


def _orb_height(time: str, horizon: float, rng: random.Random) -> float:
    if time in ("day", "night"):
        return rng.uniform(0.16, 0.22)
    return horizon - rng.uniform(0.02, 0.06)


def _ground(scene: Scene, horizon: float) -> float:
    """Give the height at which a thing stands."""
    if scene.thing == "boat":
        return horizon + 0.12
    return 0.84 if scene.land == "sea" else 0.8


def _sky(hour: Hour, width: int, height: int, horizon: float, orb: tuple[float, float]) -> NDArray[np.uint8]:
    k = Canvas.OVERSAMPLING
    rows = np.clip((np.arange(height * k) + 0.5) / (height * k) / horizon, 0, 1)
    stops = np.array(hour.sky, np.float32)
    sky = np.stack([np.interp(rows, (0, 0.55, 1), stops[:, c]) for c in range(3)], -1)
    sky = np.repeat(sky[:, None], width * k, axis=1)
    unit = min(width, height) * k
    dx = (np.arange(width * k) - orb[0] * width * k) / unit
    dy = (np.arange(height * k) - orb[1] * height * k) / unit
    glow = 0.5 * np.exp(-(dx[None] ** 2 + dy[:, None] ** 2) / 0.045)[..., None]
    return (sky + glow * (np.array(hour.glow) - sky)).astype(np.uint8)


def _paint_orb(canvas: Canvas, scene: Scene, hour: Hour, orb: tuple[float, float], rng: random.Random) -> None:
    x, y = orb
    if scene.time == "night":
        for _ in range(18):
            size = rng.choice((0.006, 0.008, 0.011))
            canvas.disc(rng.uniform(0.02, 0.98), rng.uniform(0.02, 0.5), size, (240, 243, 255), lit=True)
        canvas.disc(x, y, 0.085, (246, 242, 214), lit=True)
        canvas.disc(x + 0.028, y - 0.022, 0.015, (226, 220, 190), lit=True)
        canvas.disc(x - 0.03, y + 0.024, 0.02, (226, 220, 190), lit=True)
        return
    colour = {"day": (255, 226, 84), "sunrise": (255, 240, 190), "sunset": (255, 214, 96)}[scene.time]
    canvas.disc(x, y, 0.085 if scene.time == "day" else 0.115, colour, lit=True)
    if scene.time == "day":
        for cx, cy in ((1 - x + rng.uniform(-0.06, 0.06), rng.uniform(0.14, 0.3)),):
            for ox, oy, r in ((-0.075, 0.012, 0.042), (0.0, -0.012, 0.062), (0.075, 0.014, 0.045)):
                canvas.disc(cx, cy, r, (252, 253, 255), lit=True, dx=ox, dy=oy)


def _wave(base: float, height: float, period: float, phase: float) -> list[tuple[float, float]]:
    """Give a ridge line from left to right as fractions of the picture."""
    return [(i / 24, base - height * (0.5 + 0.5 * math.sin(phase + i / 24 * math.tau / period))) for i in range(25)]


def _sea(canvas: Canvas, horizon: float, orb: tuple[float, float], hour: Hour, rng: random.Random) -> None:
    for i, share in enumerate((0.0, 0.22, 0.5)):
        top = horizon + (1 - horizon) * share
        canvas.box(0, top, 1, 1, mix((44, 142, 204), (18, 84, 158), i / 2))
    for i in range(5):
        y = horizon + (1 - horizon) * (0.06 + 0.15 * i)
        half = 0.05 + 0.022 * i + rng.uniform(-0.01, 0.01)
        canvas.box(orb[0] - half, y, orb[0] + half, y + 0.014, hour.glow, lit=True)
    for i in range(4):
        y, x = horizon + (1 - horizon) * (0.2 + 0.2 * i), rng.uniform(0.0, 0.8)
        canvas.box(x, y, x + 0.16, y + 0.012, (120, 194, 232))


def _hills(canvas: Canvas, horizon: float, orb: tuple[float, float], hour: Hour, rng: random.Random) -> None:
    phase = rng.uniform(0, math.tau)
    canvas.ridge(_wave(horizon + 0.06, 0.12, 0.9, phase), (124, 190, 122))
    canvas.ridge(_wave(horizon + 0.14, 0.1, 1.2, phase + 2), (92, 172, 92))
    canvas.ridge(_wave(horizon + 0.25, 0.08, 1.6, phase + 4), (62, 148, 74))


def _mountains(canvas: Canvas, horizon: float, orb: tuple[float, float], hour: Hour, rng: random.Random) -> None:
    for x, top, half in ((0.18, 0.33, 0.34), (0.84, 0.3, 0.36), (0.5, 0.2, 0.4)):
        peak = (x + rng.uniform(-0.05, 0.05), top + rng.uniform(-0.03, 0.03))
        canvas.peak(peak, horizon + 0.14, half, (122, 132, 156), (92, 101, 128), (248, 250, 254))
    canvas.ridge(_wave(horizon + 0.13, 0.05, 0.8, rng.uniform(0, 6)), (86, 150, 98))
    canvas.ridge(_wave(horizon + 0.22, 0.06, 1.3, rng.uniform(0, 6)), (58, 124, 78))


def _desert(canvas: Canvas, horizon: float, orb: tuple[float, float], hour: Hour, rng: random.Random) -> None:
    phase = rng.uniform(0, math.tau)
    canvas.ridge(_wave(horizon + 0.05, 0.09, 1.1, phase), (242, 208, 140))
    canvas.ridge(_wave(horizon + 0.15, 0.09, 1.4, phase + 2.4), (232, 190, 112))
    canvas.ridge(_wave(horizon + 0.28, 0.09, 1.8, phase + 4.2), (216, 168, 90))


def _forest(canvas: Canvas, horizon: float, orb: tuple[float, float], hour: Hour, rng: random.Random) -> None:
    for row, (colour, foot, tall) in enumerate((((70, 140, 110), 0.08, 0.2), ((44, 112, 80), 0.16, 0.26))):
        canvas.box(0, horizon + foot - 0.04, 1, 1, colour)
        for i in range(8):
            x = (i + 0.5 * row) / 7.5 + rng.uniform(-0.02, 0.02)
            canvas.fir(x, horizon + foot, tall * rng.uniform(0.85, 1.15), colour)
    canvas.ridge(_wave(horizon + 0.2, 0.05, 1.5, rng.uniform(0, 6)), (88, 156, 84))


def _snow(canvas: Canvas, horizon: float, orb: tuple[float, float], hour: Hour, rng: random.Random) -> None:
    phase = rng.uniform(0, math.tau)
    canvas.ridge(_wave(horizon + 0.05, 0.09, 1.0, phase), (206, 222, 240))
    for i in range(4):
        canvas.fir(0.08 + 0.28 * i + rng.uniform(-0.05, 0.05), horizon + 0.08, 0.17, (64, 112, 108))
    canvas.ridge(_wave(horizon + 0.15, 0.07, 1.4, phase + 2.2), (230, 239, 249))
    canvas.ridge(_wave(horizon + 0.26, 0.06, 1.8, phase + 4), (250, 252, 255))


LANDS = {
    "sea": _sea,
    "hills": _hills,
    "mountains": _mountains,
    "desert": _desert,
    "forest": _forest,
    "snow": _snow,
}
