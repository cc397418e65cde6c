"""Pictures that came in, made to fit what is to be drawn: cropped and sized, enlarged by margins, turned into masks."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

BLEND = 32
"""What was added beside a picture is blended into it over a 32nd of its shorter side, so that no seam shows."""


def cover(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture (or mask) at this size: scaled until it covers it, what sticks out on two sides cut off evenly."""
    image = Image.fromarray(pixels)
    if image.size == (width, height):
        return pixels
    factor = min(image.width / width, image.height / height)
    crop_width, crop_height = width * factor, height * factor
    left, top = (image.width - crop_width) / 2, (image.height - crop_height) / 2
    box = (left, top, left + crop_width, top + crop_height)
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS, box=box))


def mask_of(pixels: Pixels) -> Pixels:
    """Where to draw, of a picture that says so in brightness: uint8 [height, width], 255 where it is white."""
    return np.array(Image.fromarray(pixels).convert("L"))


def enlarged(pixels: Pixels, mask: Pixels | None, margins: Mapping[str, int]) -> tuple[Pixels, Pixels]:
    """The picture with `left`, `top`, `right` and `bottom` pixels added, and the mask of what is to be drawn there.

    The added parts continue the picture's edges, which gives the model colours to begin with; a `mask` of the picture
    is drawn anew as well.
    """
    left, top, right, bottom = (margins[name] for name in ("left", "top", "right", "bottom"))
    height, width = pixels.shape[:2]
    canvas = np.pad(pixels, ((top, bottom), (left, right), (0, 0)), mode="edge")
    whole = np.full(canvas.shape[:2], 255, np.uint8)
    inner = _blended(width, height, margins)
    whole[top : top + height, left : left + width] = inner if mask is None else np.maximum(inner, mask)
    return canvas, whole


def _blended(width: int, height: int, margins: Mapping[str, int]) -> Pixels:
    """Over the picture itself: 255 at an edge that was moved outwards, falling to 0."""
    reach = max(1, min(width, height) // BLEND)
    across, down = np.arange(width), np.arange(height)[:, None]
    edges = {"left": across, "right": across[::-1], "top": down, "bottom": down[::-1]}
    inner = np.zeros((height, width))
    for name, distance in edges.items():
        if margins[name]:
            inner = np.maximum(inner, np.clip(1 - distance / reach, 0, 1))
    return np.rint(255 * inner).astype(np.uint8)
