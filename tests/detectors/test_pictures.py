"""Pictures come into a detector whole, in parts and in the values its network was trained on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.detectors import folders
from tintype.detectors import pictures
from tintype.detectors.pictures import Input, PictureUnfitError, Tiles, View

SIDES = st.integers(min_value=1, max_value=9000)


@given(
    height=SIDES,
    width=SIDES,
    side=st.sampled_from([32, 224, 384, 640]),
    shrink=st.floats(1, 4),
    most=st.integers(4, 64),
)
@settings(max_examples=300, deadline=None)
def test_tiles_cover_every_pixel_and_stay_within_their_number(
    height: int, width: int, side: int, shrink: float, most: int
):
    whole, *tiles = pictures.views(height, width, side=side, tiles=Tiles(shrink=shrink, most=most))
    assert whole == View(0, 0, width, height)
    assert len(tiles) <= most
    assert all(0 <= t.left < t.right <= width and 0 <= t.top < t.bottom <= height for t in tiles)
    for first, last, length in (("left", "right", width), ("top", "bottom", height)):
        reached = 0
        for begin, end in sorted({(getattr(t, first), getattr(t, last)) for t in tiles}):
            assert begin <= reached
            reached = max(reached, end)
        assert reached == length or not tiles


@pytest.mark.parametrize(("height", "width", "parts"), [(224, 224, 1), (672, 672, 1), (1024, 1024, 5), (512, 1024, 3)])
def test_a_picture_is_cut_up_only_where_shrinking_would_lose_much(height: int, width: int, parts: int):
    assert len(pictures.views(height, width, side=224, tiles=Tiles())) == parts


def test_a_long_strip_is_cut_across_and_not_squashed():
    tiles = pictures.views(100, 4000, side=224, tiles=Tiles())[1:]
    assert max(t.right - t.left for t in tiles) <= 224
    assert {(t.top, t.bottom) for t in tiles} == {(0, 100)}


@pytest.mark.parametrize("seam", [(0, 0), (400, 400), (512, 512), (300, 700), (960, 30)])
def test_what_is_smaller_than_the_overlap_lies_whole_in_some_tile(seam: tuple[int, int]):
    tiles = pictures.views(1024, 1024, side=224, tiles=Tiles())[1:]
    top, left = (min(at, 1024 - 100) for at in seam)
    assert any(t.left <= left and t.top <= top and left + 100 <= t.right and top + 100 <= t.bottom for t in tiles)


def test_values_are_those_of_the_networks_own_preprocessing():
    pixels = np.random.default_rng(3).integers(0, 256, (97, 211, 3), dtype=np.uint8)
    theirs = ViTImageProcessorPil(**folders.preprocessing(64))(
        Image.fromarray(pixels), return_tensors="np"
    ).pixel_values
    wanted = Input(width=64, height=64, mean=(0.5, 0.5, 0.5), deviation=(0.5, 0.5, 0.5))
    ours, _ = pictures.prepared(Image.fromarray(pixels), (View(0, 0, 211, 97),), wanted)
    assert ours.shape == (1, 3, 64, 64)
    assert np.abs(ours - theirs).max() < 1e-5


def test_channels_layout_and_letterbox_are_as_described():
    pixels = folders.plain(10, 20, (10, 20, 30))
    wanted = Input(
        width=32, height=32, scale=1, channels="bgr", layout="nhwc", fit="letterbox", padding=7, mean=(1, 0, 0)
    )
    values, (placement,) = pictures.prepared(Image.fromarray(pixels), (View(0, 0, 20, 10),), wanted)
    assert values.shape == (1, 32, 32, 3)
    assert values[0, 0, 0].tolist() == [29, 20, 10]
    assert values[0, 15, 31].tolist() == [29, 20, 10]
    assert values[0, 16, 0].tolist() == [6, 7, 7]
    assert (placement.factor_x, placement.factor_y) == (1.6, 1.6)


@pytest.mark.parametrize(
    ("pixels", "what"),
    [
        (np.zeros((8, 8, 3), np.uint16), "uint16"),
        (np.zeros((8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\)"),
        (np.zeros((8, 8, 1), np.uint8), r"\(8, 8, 1\)"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (b"not a picture", "bytes"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(pixels: object, what: str):
    with pytest.raises(PictureUnfitError, match=what):
        pictures.checked(pixels)


def test_a_view_of_a_picture_is_as_good_as_a_copy(red_is_sexual):
    pixels = folders.with_patch(64, 64, size=32, top=0, left=0)
    turned = pixels[::-1, ::-1]
    assert red_is_sexual.score_image(turned) == red_is_sexual.score_image(turned.copy())
