"""The things a scene can hold, each painted about the point it stands on."""

from __future__ import annotations

import math

from .canvas import Canvas, Colour, mix
from .meaning import Scene
from .palette import COLOURS

WINDOW: Colour = (255, 226, 130)
WOOD: Colour = (122, 78, 48)


def _paint(scene: Scene, default: Colour) -> Colour:
    return COLOURS.get(scene.paint, default)


def _shore(canvas: Canvas, scene: Scene) -> None:
    if scene.land == "sea":
        line = [(0.0, 0.84), (0.25, 0.8), (0.5, 0.79), (0.75, 0.81), (1.0, 0.86)]
        canvas.ridge(line, (238, 214, 160))
        canvas.ridge([(x, y + 0.05) for x, y in line], (122, 176, 96))


def _house(canvas: Canvas, x: float, y: float, scene: Scene) -> None:
    _shore(canvas, scene)
    wall = _paint(scene, (246, 234, 212))
    roof: Colour = (176, 62, 52) if scene.paint not in ("red", "orange", "pink") else (92, 66, 84)
    canvas.block(x, y, (0.07, -0.4, 0.115, -0.27), mix(roof, (40, 30, 40), 0.3))
    canvas.block(x, y, (-0.155, -0.23, 0.155, 0.03), wall)
    canvas.block(x, y, (0.09, -0.23, 0.155, 0.03), mix(wall, (40, 30, 60), 0.14))
    canvas.at(x, y, [(-0.2, -0.22), (0, -0.41), (0.2, -0.22)], roof)
    canvas.block(x, y, (-0.035, -0.11, 0.035, 0.03), WOOD)
    night = scene.time in ("night", "sunset")
    for left in (-0.125, 0.065):
        canvas.block(x, y, (left, -0.16, left + 0.06, -0.09), WINDOW if night else (120, 176, 214), lit=night)


def _tree(canvas: Canvas, x: float, y: float, scene: Scene) -> None:
    _shore(canvas, scene)
    canvas.block(x, y, (-0.025, -0.18, 0.025, 0.04), WOOD)
    leaf: Colour = (52, 134, 68)
    for dx, dy, r in ((-0.085, -0.2, 0.1), (0.085, -0.2, 0.1), (0.0, -0.3, 0.12)):
        canvas.disc(x, y, r, leaf, dx=dx, dy=dy)
    canvas.disc(x, y, 0.07, (88, 168, 84), dx=-0.035, dy=-0.32)


def _boat(canvas: Canvas, x: float, y: float, scene: Scene) -> None:
    sail = _paint(scene, (252, 250, 244))
    canvas.block(x, y, (-0.012, -0.36, 0.012, 0.0), WOOD)
    canvas.at(x, y, [(0.025, -0.35), (0.025, -0.05), (0.2, -0.05)], sail)
    canvas.at(x, y, [(-0.025, -0.29), (-0.025, -0.05), (-0.15, -0.05)], mix(sail, (60, 50, 90), 0.14))
    canvas.at(x, y, [(-0.22, -0.02), (0.22, -0.02), (0.15, 0.08), (-0.15, 0.08)], (150, 82, 48))
    canvas.at(x, y, [(-0.22, -0.02), (0.22, -0.02), (0.2, 0.012), (-0.2, 0.012)], (196, 120, 70))


def _lighthouse(canvas: Canvas, x: float, y: float, scene: Scene) -> None:
    cliff = [(-0.36, 0.3), (-0.26, 0.04), (-0.1, -0.02), (0.12, -0.02), (0.25, 0.06), (0.36, 0.3)]
    canvas.at(x, y, cliff, (112, 104, 112))
    canvas.at(x, y, [(0.06, 0.3), (0.05, -0.02), (0.12, -0.02), (0.25, 0.06), (0.36, 0.3)], (88, 82, 96))
    if scene.time in ("night", "sunset"):
        beam = mix((255, 236, 150), (24, 34, 84) if scene.time == "night" else (206, 80, 100), 0.45)
        canvas.at(x, y, [(0, -0.5), (0.9, -0.62), (0.9, -0.38)], beam, lit=True)
    tower = [(-0.09, 0.0), (-0.06, -0.43), (0.06, -0.43), (0.09, 0.0)]
    canvas.at(x, y, tower, (250, 248, 242))
    for top, bottom in ((-0.37, -0.27), (-0.17, -0.07)):
        a, b = 0.06 - 0.03 * (top + 0.43) / -0.43, 0.06 - 0.03 * (bottom + 0.43) / -0.43
        canvas.at(x, y, [(-a, top), (a, top), (b, bottom), (-b, bottom)], (212, 52, 48))
    canvas.block(x, y, (-0.075, -0.45, 0.075, -0.425), (60, 56, 70))
    canvas.block(x, y, (-0.042, -0.54, 0.042, -0.45), (255, 232, 130), lit=True)
    canvas.at(x, y, [(-0.062, -0.54), (0, -0.61), (0.062, -0.54)], (190, 44, 44))


def _cactus(canvas: Canvas, x: float, y: float, scene: Scene) -> None:
    green: Colour = (58, 140, 82)
    for left, top, right, bottom in (
        (-0.045, -0.34, 0.045, 0.05),
        (-0.15, -0.15, -0.02, -0.09),
        (-0.15, -0.25, -0.095, -0.1),
        (0.02, -0.2, 0.15, -0.14),
        (0.095, -0.3, 0.15, -0.15),
    ):
        canvas.block(x, y, (left, top, right, bottom), green)
    canvas.disc(x, y, 0.045, green, dy=-0.34)
    canvas.disc(x, y, 0.0275, green, dx=-0.1225, dy=-0.25)
    canvas.disc(x, y, 0.0275, green, dx=0.1225, dy=-0.3)
    canvas.block(x, y, (0.012, -0.33, 0.026, 0.05), (40, 112, 66))


def _windmill(canvas: Canvas, x: float, y: float, scene: Scene) -> None:
    _shore(canvas, scene)
    canvas.at(x, y, [(-0.12, 0.03), (-0.07, -0.3), (0.07, -0.3), (0.12, 0.03)], (244, 234, 216))
    canvas.at(x, y, [(0.04, 0.03), (0.025, -0.3), (0.07, -0.3), (0.12, 0.03)], (218, 206, 192))
    canvas.at(x, y, [(-0.085, -0.29), (0, -0.39), (0.085, -0.29)], (150, 72, 56))
    canvas.block(x, y, (-0.03, -0.08, 0.03, 0.03), WOOD)
    for i in range(4):
        angle = math.pi / 4 + i * math.pi / 2
        ux, uy = math.cos(angle), math.sin(angle)
        wing = [(0.03, 0.0), (0.24, 0.0), (0.24, 0.06), (0.05, 0.06)]
        canvas.at(x, y, [(a * ux - b * uy, -0.3 + a * uy + b * ux) for a, b in wing], (252, 250, 244))
        spar = [(0.0, -0.008), (0.25, -0.008), (0.25, 0.008), (0.0, 0.008)]
        canvas.at(x, y, [(a * ux - b * uy, -0.3 + a * uy + b * ux) for a, b in spar], (96, 66, 52))


def _castle(canvas: Canvas, x: float, y: float, scene: Scene) -> None:
    stone: Colour = (186, 184, 194)
    shade: Colour = (158, 156, 170)
    canvas.block(x, y, (-0.18, -0.2, 0.18, 0.04), stone)
    for i in range(4):
        canvas.block(x, y, (-0.105 + i * 0.06, -0.235, -0.075 + i * 0.06, -0.2), stone)
    for cx, top in ((-0.18, -0.32), (0.18, -0.32)):
        canvas.block(x, y, (cx - 0.055, top, cx + 0.055, 0.04), shade)
        canvas.at(x, y, [(cx - 0.08, top), (cx, top - 0.13), (cx + 0.08, top)], (94, 84, 160))
    canvas.block(x, y, (-0.04, -0.09, 0.04, 0.04), (84, 62, 56))
    canvas.disc(x, y, 0.04, (84, 62, 56), dy=-0.09)
    lit = scene.time in ("night", "sunset")
    for cx in (-0.18, 0.18):
        canvas.block(x, y, (cx - 0.014, -0.24, cx + 0.014, -0.17), WINDOW if lit else (70, 76, 100), lit=lit)


THINGS = {
    "house": _house,
    "tree": _tree,
    "boat": _boat,
    "lighthouse": _lighthouse,
    "cactus": _cactus,
    "windmill": _windmill,
    "castle": _castle,
}
