"""Masks that are described by shapes, as pixels."""

from typing import Any

import numpy as np
import pytest

from tintype.generations.masks import Geometry
from tintype.worker import shapes


def mask(*given: dict[str, Any], size: tuple[int, int] = (40, 30), **fields: Any) -> np.ndarray:
    return shapes.rasterised(Geometry.model_validate({"shapes": given, **fields}), *size)


RECTANGLE = {"type": "rectangle", "x": 10, "y": 5, "width": 20, "height": 10}


def test_a_rectangle_covers_its_pixels_and_no_other():
    expected = np.zeros((30, 40), np.uint8)
    expected[5:15, 10:30] = 255
    assert np.array_equal(mask(RECTANGLE), expected)
    assert np.array_equal(mask(RECTANGLE, invert=True), 255 - expected)


def test_a_polygon_covers_what_a_rectangle_of_its_corners_covers():
    corners = [(10, 5), (30, 5), (30, 15), (10, 15)]
    assert np.array_equal(mask({"type": "polygon", "points": corners}), mask(RECTANGLE))


def test_an_edge_between_pixels_is_grey():
    half = mask({**RECTANGLE, "x": 10.5})
    assert half[10, 9:12].tolist() == [0, 128, 255]
    slanted = mask({"type": "polygon", "points": [(0, 0), (40, 0), (0, 30)]})
    assert len(np.unique(slanted)) == 8
    assert slanted.mean() == pytest.approx(127.5, abs=2)


def test_an_ellipse_fills_its_box():
    area = mask({"type": "ellipse", "x": 5, "y": 5, "width": 30, "height": 20}) / 255
    assert area.sum() == pytest.approx(np.pi * 15 * 10, rel=0.01)
    assert area[15, 20] == 1
    assert area[6, 6] == 0


def test_a_stroke_is_round_at_its_ends_and_has_no_gap_at_its_corners():
    painted = mask({"type": "stroke", "points": [(10, 15), (30, 15), (20, 25)], "width": 6}) / 255
    assert painted[12:18, 10:30].min() == 1
    assert painted[11].max() == 0
    alone = mask({"type": "stroke", "points": [(20, 15)], "width": 10}) / 255
    assert alone.sum() == pytest.approx(np.pi * 25, rel=0.02)


def test_what_is_erased_is_kept_unless_it_is_painted_again():
    hole = {"type": "rectangle", "x": 15, "y": 8, "width": 5, "height": 4, "erase": True}
    assert mask(RECTANGLE, hole)[10, 12:22:5].tolist() == [255, 0]
    assert mask(RECTANGLE, hole, RECTANGLE)[10, 17] == 255


def test_a_feather_fades_over_as_many_pixels_as_asked_for_and_no_more():
    faded = mask({**RECTANGLE, "y": -50, "height": 200}, feather=8)[15].astype(int)
    assert (faded[5], faded[15], faded[20]) == (0, 255, 255)
    assert (np.diff(faded[5:15]) >= 0).all()
    assert 100 < faded[9] < 128 < faded[10] < 155


def test_a_large_mask_is_drawn_in_bands_without_a_seam():
    stroke = {"type": "stroke", "points": [(3, 3), (95, 690)], "width": 5}
    whole = mask(stroke, size=(100, 700))
    shifted = mask({**stroke, "points": [(3, 103), (95, 790)]}, size=(100, 800))
    assert np.array_equal(whole, shifted[100:])
    assert (whole.max(axis=1)[3:687] == 255).all()


def test_a_shape_too_thin_to_see_covers_nothing_and_breaks_nothing():
    assert mask({**RECTANGLE, "width": 0.01}).max() <= 128
