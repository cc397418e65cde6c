"""Pictures made to fit what is to be drawn."""

import numpy as np
import pytest

from tintype.media import encoding
from tintype.worker import canvases

NOTHING = {"left": 0, "top": 0, "right": 0, "bottom": 0}


def test_a_picture_is_scaled_until_it_covers_the_size_and_cut_evenly():
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, :40], wide[:, 80:] = (255, 0, 0), (0, 0, 255)
    fitted = canvases.cover(wide, 20, 20)
    assert fitted.shape == (20, 20, 3)
    assert fitted[:, 2:-2].max() < 5, "what stuck out on both sides is gone"
    assert canvases.cover(wide, 120, 40) is wide, "what fits is not touched"


def test_a_mask_is_brightness():
    pixels = np.array([[[0, 0, 0], [255, 255, 255], [128, 128, 128]]], np.uint8)
    assert canvases.mask_of(pixels).tolist() == [[0, 255, 128]]


def test_what_is_added_is_drawn_anew_and_blends_into_what_was_there():
    pixels = np.full((64, 64, 3), 9, np.uint8)
    canvas, mask = canvases.enlarged(pixels, None, {**NOTHING, "right": 32})
    assert canvas.shape == (64, 96, 3)
    assert (canvas[:, 64:] == 9).all(), "it continues the picture's edge"
    assert (mask[:, 64:] == 255).all()
    assert (mask[:, :62] == 0).all(), "the rest stays, to the edges that were not moved"
    assert 0 < mask[30, 62] < mask[30, 63] <= 255


def test_a_mask_of_ones_own_is_drawn_anew_as_well():
    pixels, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    mask[10:20, 10:20] = 200
    _, whole = canvases.enlarged(pixels, mask, {**NOTHING, "top": 8})
    assert (whole[18:28, 10:20] == 200).all()
    assert (whole[:8] == 255).all()


@pytest.mark.parametrize("side", [8, 256, 512])
def test_a_preview_fits_into_a_notification_whatever_it_shows(side):
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    assert len(encoding.small_webp(noise, 5000)) <= 5000


def test_nothing_hides_in_what_is_transparent():
    pixels, alpha = np.full((1, 3, 3), 7, np.uint8), np.array([[0, 1, 255]], np.uint8)
    assert encoding.over_white(pixels, alpha)[0].tolist() == [[255] * 3, [7] * 3, [7] * 3]
