"""Boxes in a picture: read from what a network puts out, and counted once each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tintype.detectors import scoring
from tintype.detectors.descriptions import Grid, OnnxBoxesDescription, Queries, Rows, Yunet
from tintype.detectors.pictures import Input, Placement, View
from tintype.safety.contract import Label

Floats = NDArray[np.float64]
CUT_SHARE = 0.7
"""A box at a tile's edge is a piece of another if that much of it lies within the other."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """One thing that was found, in pixels of the picture."""

    name: str
    label: Label
    score: float
    left: float
    top: float
    right: float
    bottom: float


def read(outputs: Mapping[str, NDArray[Any]], index: int, said: OnnxBoxesDescription) -> tuple[Floats, Floats]:
    """For picture `index` of a batch: edges in input pixels [boxes, 4], and scores [boxes, classes].

    Raises:
        DetectorFailedError: an output is missing, has another shape than described, or is not finite.
    """
    form = said.output
    if isinstance(form, Yunet):
        centres, scores = _yunet(outputs, index, form, said.input)
    elif isinstance(form, Queries):
        centres, scores = _queries(outputs, index, form, said)
    elif isinstance(form, Grid):
        centres, scores = _grid(outputs, index, form, said)
    else:
        centres, scores = _rows(outputs, index, form, said)
    if not np.isfinite(centres).all():
        raise scoring.DetectorFailedError("a detector's network put out boxes that are not finite")
    x, y, width, height = centres.T
    return np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1), scores


def _output(outputs: Mapping[str, NDArray[Any]], name: str, index: int, columns: int) -> Floats:
    value = outputs.get(name)
    if value is None or value.ndim != 3 or value.shape[2] != columns:
        shape = None if value is None else value.shape
        raise scoring.DetectorFailedError(
            f"a detector's output {name} is {shape} instead of [pictures, boxes, {columns}]"
        )
    return np.asarray(value[index], dtype=np.float64)


def _queries(
    outputs: Mapping[str, NDArray[Any]], index: int, form: Queries, said: OnnxBoxesDescription
) -> tuple[Floats, Floats]:
    columns = len(said.classes) + form.has_background
    scores = scoring.activated(_output(outputs, form.scores, index, columns), form.activation)
    size = [said.input.width, said.input.height] * 2
    return _output(outputs, form.boxes, index, 4) * size, scores[:, : len(said.classes)]


def _rows(
    outputs: Mapping[str, NDArray[Any]], index: int, form: Rows, said: OnnxBoxesDescription
) -> tuple[Floats, Floats]:
    turned = {name: value.transpose(0, 2, 1) for name, value in outputs.items() if value.ndim == 3}
    rows = _output(turned if form.transposed else outputs, form.output, index, 4 + len(said.classes))
    return rows[:, :4], scoring.activated(rows[:, 4:], form.activation)


def _grid(
    outputs: Mapping[str, NDArray[Any]], index: int, form: Grid, said: OnnxBoxesDescription
) -> tuple[Floats, Floats]:
    """YOLOX (arXiv 2107.08430, section 2.1): centre = (offset + cell) * stride, side = exp(value) * stride."""
    rows = _output(outputs, form.output, index, 5 + len(said.classes))
    parts = [_cells(said.input, stride) for stride in form.strides]
    cells = np.concatenate(parts)
    if len(cells) != len(rows):
        raise scoring.DetectorFailedError(f"a detector's grids have {len(rows)} cells instead of {len(cells)}")
    strides = np.repeat(np.asarray(form.strides, dtype=np.float64), [len(part) for part in parts])[:, None]
    scores = scoring.activated(rows[:, 4:5], "none") * scoring.activated(rows[:, 5:], "none")
    return _centres(rows[:, :4], cells, strides), scores


def _yunet(outputs: Mapping[str, NDArray[Any]], index: int, form: Yunet, size: Input) -> tuple[Floats, Floats]:
    """YuNet as of March 2023: boxes as in YOLOX, score = sqrt(class * objectness)."""
    centres: list[Floats] = []
    scores: list[Floats] = []
    for stride in form.strides:
        cells = _cells(size, stride)
        values = {
            name: _output(outputs, f"{name}_{stride}", index, n) for name, n in (("cls", 1), ("obj", 1), ("bbox", 4))
        }
        if any(len(value) != len(cells) for value in values.values()):
            raise scoring.DetectorFailedError(f"a detector's grid at stride {stride} has not {len(cells)} cells")
        sureness = [scoring.activated(values[name], "none") for name in ("cls", "obj")]
        scores.append(np.sqrt(sureness[0] * sureness[1]))
        centres.append(_centres(values["bbox"], cells, np.float64(stride)))
    return np.concatenate(centres), np.concatenate(scores)


def _cells(size: Input, stride: int) -> Floats:
    columns, rows = np.meshgrid(np.arange(size.width // stride), np.arange(size.height // stride))
    return np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float64)


def _centres(values: Floats, cells: Floats, stride: Any) -> Floats:
    """A side is at most e^20 strides: no picture is larger, and no number overflows."""
    return np.concatenate([(values[:, :2] + cells) * stride, np.exp(np.minimum(values[:, 2:], 20)) * stride], axis=1)


class Seen(NamedTuple):
    """Boxes in pixels of the picture: edges [boxes, 4], scores [boxes] or [boxes, classes], cut by a tile's edge."""

    edges: Floats
    scores: Floats
    cut: NDArray[np.bool_]


def placed(edges: Floats, scores: Floats, place: Placement, part: View, whole: View) -> Seen:
    """The same boxes in pixels of the picture, within `part`; and which of them an inner edge of `part` cuts."""
    moved = edges / np.tile([place.factor_x, place.factor_y], 2) + np.tile([place.left, place.top], 2)
    limits = np.asarray(part, dtype=np.float64)
    inner = np.asarray([part[side] != whole[side] for side in range(4)])
    margin = 0.02 * np.tile([part.right - part.left, part.bottom - part.top], 2)
    reaches = np.concatenate([moved[:, :2] <= limits[:2] + margin[:2], moved[:, 2:] >= limits[2:] - margin[2:]], axis=1)
    lower, upper = np.tile(limits[:2], 2), np.tile(limits[2:], 2)
    cut: NDArray[np.bool_] = np.asarray(np.any(reaches & inner, axis=1))
    return Seen(np.clip(moved, lower, upper), scores, cut)


def distinct(seen: Seen, same_from: float) -> list[int]:
    """Which boxes to keep, the surest first: of those that overlap by `same_from` (shared over joint area) one.

    A box that a tile's edge cuts also goes if it lies mostly within a kept one; whole boxes are therefore taken first.
    """
    edges, scores, cut = seen
    kept: list[int] = []
    areas = np.prod(np.maximum(edges[:, 2:] - edges[:, :2], 1e-9), axis=1)
    for index in sorted(range(len(edges)), key=lambda i: (bool(cut[i]), -scores[i])):
        if kept:
            near = edges[kept]
            sides = np.minimum(near[:, 2:], edges[index, 2:]) - np.maximum(near[:, :2], edges[index, :2])
            shared = np.prod(np.maximum(sides, 0), axis=1)
            if (shared / (areas[kept] + areas[index] - shared) >= same_from).any():
                continue
            if cut[index] and (shared / areas[index] >= CUT_SHARE).any():
                continue
        kept.append(index)
    return kept
