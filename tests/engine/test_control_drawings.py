"""Drawings that controls are fed with, made of photographs."""

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.engine.parity.unet_cases import photograph
from tintype.engine import control_drawings
from tintype.engine.control_drawings import ControlNotReadyError
from tintype.providers.contract import Control, ModelFiles

NETWORK = ModelFiles(id="control", family="stable_diffusion", folder="")


def control(kind: str, pixels: np.ndarray, *, is_ready: bool = False) -> Control:
    return Control(type=kind, model=NETWORK, pixels=pixels, is_ready=is_ready)


@pytest.mark.parametrize("seed", range(4))
def test_edges_are_those_that_opencv_finds(seed: int):
    rng = np.random.default_rng(seed)
    noisy = photograph(seed, width=120, height=90).astype(int) + rng.integers(-30, 30, (90, 120, 3))
    grey = np.asarray(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert("L"))
    ours, theirs = control_drawings.canny(grey), cv2.Canny(grey, 100, 200) > 0
    assert theirs.mean() > 0.02
    assert (ours != theirs).mean() < 0.002


def test_a_photograph_becomes_white_lines_in_the_size_of_the_picture():
    drawing = control_drawings.draw(control("canny", photograph(width=200, height=100)), 64, 48)
    assert drawing.shape == (48, 64, 3)
    assert set(np.unique(drawing)) == {0, 255}


def test_a_scribble_follows_dark_lines():
    page = np.full((64, 64, 3), 255, dtype=np.uint8)
    page[30:33, 8:56] = 0
    drawing = control_drawings.draw(control("scribble", page), 64, 64)[..., 0] > 0
    assert drawing[31, 10:54].all()
    assert not drawing[:20].any()


def test_what_is_a_drawing_already_and_tiles_stay_as_they_are():
    pixels = photograph()
    for ready in (control("depth", pixels, is_ready=True), control("tile", pixels)):
        assert np.array_equal(control_drawings.draw(ready, 64, 64), pixels)


@pytest.mark.parametrize("kind", ["depth", "pose"])
def test_what_needs_a_network_of_its_own_is_asked_for_ready(kind: str):
    with pytest.raises(ControlNotReadyError, match=f"the {kind} control needs its drawing"):
        control_drawings.draw(control(kind, photograph()), 64, 64)
