"""The invisible mark: it is found after what platforms do to pictures, it does not show, and it is never imagined."""

import io

import numpy as np
import pytest
from PIL import Image

from tests import pictures
from tintype.media.provenance import mark
from tintype.media.provenance.mark import Message

KEY = b"a key"
SUBJECTS = {
    "sketch": lambda: pictures.sketches(4)[3],
    "another sketch": lambda: pictures.sketches(4)[1],
    "photograph": pictures.photograph,
    "wide": lambda: pictures.photograph(2, width=900, height=500),
}


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    return through(pixels, "JPEG", quality=quality)


def through(pixels: np.ndarray, kind: str, **options: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return np.asarray(Image.open(file).convert("RGB"))


def resized(pixels: np.ndarray, scale: float) -> np.ndarray:
    height, width = (round(side * scale) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def cropped(pixels: np.ndarray, kept: float, top: float = 0.3, left: float = 0.7) -> np.ndarray:
    height, width = pixels.shape[:2]
    first, second = round(height * (1 - kept) * top), round(width * (1 - kept) * left)
    return pixels[first : first + round(height * kept), second : second + round(width * kept)]


CHANGES = {
    "nothing": lambda pixels: pixels,
    "jpeg 80": lambda pixels: jpeg(pixels, 80),
    "jpeg 50": lambda pixels: jpeg(pixels, 50),
    "webp 80": lambda pixels: through(pixels, "WEBP", quality=80),
    "avif 60": lambda pixels: through(pixels, "AVIF", quality=60),
    "half size": lambda pixels: resized(pixels, 0.5),
    "0.73 of the size": lambda pixels: resized(pixels, 0.73),
    "1.3 times the size": lambda pixels: resized(pixels, 1.3),
    "40 % cropped away": lambda pixels: cropped(pixels, 0.6),
    "40 % cropped away elsewhere": lambda pixels: cropped(pixels, 0.6, 0.91, 0.13),
    "mirrored": lambda pixels: pixels[:, ::-1],
    "brighter": lambda pixels: np.clip(pixels.astype(int) * 1.1 + 8, 0, 255).astype(np.uint8),
    "noise": lambda pixels: np.clip(pixels + np.random.default_rng(0).normal(0, 4, pixels.shape), 0, 255).astype(
        np.uint8
    ),
    "0.8 of the size, cropped, jpeg 75": lambda pixels: jpeg(cropped(resized(pixels, 0.8), 0.9), 75),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_mark_outlives_what_platforms_do(subject, change):
    marked = mark.embed(SUBJECTS[subject](), Message.EDITED, KEY)
    assert mark.detect(CHANGES[change](marked), KEY).message is Message.EDITED


@pytest.mark.parametrize("message", Message)
@pytest.mark.parametrize("size", [(256, 256), (257, 700), (1024, 1024), (2048, 1100)])
def test_each_message_comes_back_from_every_size(message, size):
    pixels = pictures.photograph(width=size[0], height=size[1])
    found = mark.detect(mark.embed(pixels, message, KEY), KEY)
    assert (found.message, found.scale) == (message, 1.0)


@pytest.mark.parametrize("quality", [50, 90])
def test_a_small_picture_keeps_its_mark_in_a_jpeg(quality):
    for pixels in pictures.sketches(5, width=256, height=256):
        marked = mark.embed(pixels, Message.CREATED, KEY)
        assert mark.detect(jpeg(marked, quality), KEY).message is Message.CREATED


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_mark_does_not_show(subject):
    pixels = SUBJECTS[subject]()
    change = mark.embed(pixels, Message.CREATED, KEY).astype(int) - pixels
    assert 10 * np.log10(255**2 / np.mean(change**2)) > 40
    assert np.abs(change).max() <= 10
    assert (change[:, :, 0] == change[:, :, 1])[(pixels > 12).all(2) & (pixels < 243).all(2)].all(), "no colour shifts"


def test_a_flat_picture_is_marked_with_single_levels():
    marked = mark.embed(np.full((512, 512, 3), 130, np.uint8), Message.CREATED, KEY)
    assert mark.detect(jpeg(resized(marked, 0.8), 80), KEY).message is Message.CREATED
    change = marked.astype(int) - 130
    assert np.abs(change).mean() < 1
    assert np.abs(change).max() <= 4


@pytest.mark.parametrize("fifty", range(4))
def test_two_hundred_unmarked_sketches_show_no_mark(fifty):
    scores = [mark.detect(pixels, KEY).score for pixels in pictures.sketches(50, width=256, height=256, seed=fifty)]
    assert max(scores) < mark.THRESHOLD - 0.5


def test_noise_photographs_and_patterns_show_no_mark():
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:384, :384]
    unmarked = [
        *(rng.integers(0, 256, (384, 384, 3), np.uint8) for _ in range(6)),
        *(pictures.photograph(seed, width=384, height=384) for seed in range(6)),
        np.zeros((300, 300, 3), np.uint8),
        np.repeat(((rows // 16 + columns // 16) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2),
        np.tile(rng.integers(0, 256, (128, 128, 3), np.uint8), (3, 3, 1)),
    ]
    assert max(mark.detect(pixels, KEY).score for pixels in unmarked) < mark.THRESHOLD - 0.5


def test_a_mark_is_found_under_its_own_key_only():
    marked = mark.embed(pictures.photograph(), Message.CREATED, KEY)
    assert mark.detect(marked, b"another key").message is None
    assert mark.detect(marked, b"another key", KEY).message is Message.CREATED
    assert mark.detect(marked).message is None


def test_a_picture_marked_twice_still_shows_a_mark():
    once = mark.embed(pictures.photograph(), Message.CREATED, KEY)
    for between in (once, cropped(once, 0.8), resized(once, 1.25), jpeg(once, 60)):
        assert mark.detect(mark.embed(between, Message.EDITED, KEY), KEY).message is not None


@pytest.mark.parametrize("size", [(255, 600), (600, 255), (64, 64), (1, 1)])
def test_a_picture_under_256_pixels_a_side_is_left_alone(size):
    pixels = pictures.photograph(width=size[0], height=size[1])
    assert mark.embed(pixels, Message.CREATED, KEY) is pixels
    assert mark.detect(pixels, KEY).message is None


def test_marking_leaves_the_pixels_given_as_they_were_and_repeats_itself():
    pixels = pictures.photograph()
    before = pixels.copy()
    once, twice = (mark.embed(pixels[::1], Message.CREATED, KEY) for _ in range(2))
    assert np.array_equal(pixels, before)
    assert np.array_equal(once, twice)
    assert np.array_equal(mark.embed(np.asfortranarray(pixels), Message.CREATED, KEY), once)
