"""Outlines of the shapes that sentences can name, about a unit circle, for drawing and for scoring."""

from __future__ import annotations

import math

Point = tuple[float, float]

RING_HOLE = 0.56


def _circle() -> list[Point]:
    return [(math.cos(i * math.tau / 72), math.sin(i * math.tau / 72)) for i in range(72)]


def _star() -> list[Point]:
    points: list[Point] = []
    for i in range(10):
        angle = -math.pi / 2 + i * math.pi / 5
        radius = 1.08 if i % 2 == 0 else 0.46
        points.append((radius * math.cos(angle), radius * math.sin(angle) + 0.06))
    return points


def _heart() -> list[Point]:
    points: list[Point] = []
    for i in range(72):
        t = i * math.tau / 72
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 16.5, -(y + 2.5) / 15.5))
    return points


def _cross() -> list[Point]:
    arm, reach = 0.32, 0.96
    corner = [(arm, arm), (reach, arm), (reach, -arm), (arm, -arm), (arm, -reach), (-arm, -reach)]
    return corner + [(-x, -y) for x, y in corner]


OUTLINES: dict[str, list[Point]] = {
    "circle": _circle(),
    "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
    "triangle": [(0.0, -0.95), (1.02, 0.82), (-1.02, 0.82)],
    "star": _star(),
    "ring": _circle(),
    "diamond": [(0.0, -1.08), (0.8, 0.0), (0.0, 1.08), (-0.8, 0.0)],
    "heart": _heart(),
    "cross": _cross(),
}
