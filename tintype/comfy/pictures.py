"""Pictures on their way to a ComfyUI server and back: pixels into files, files into pixels."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tintype.comfy.errors import ComfyError

Pixels = NDArray[np.uint8]
FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 89_000_000
"""More is taken for a mistake: the largest picture a model may draw has far fewer, and decoding takes memory."""


class ResultUnreadableError(ComfyError):
    """A file that the prompt made is no picture that can be read."""

    fact = "result_unreadable"


def encode(pixels: Pixels) -> bytes:
    """A PNG of uint8 [height, width, 3 or 4]; the same pixels give the same bytes, so they are sent once."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def decode(data: bytes, name: str) -> tuple[Pixels, Pixels | None]:
    """The colours, uint8 [height, width, 3], of the file `name`, and how opaque they are where not all are.

    Raises:
        ResultUnreadableError: it is none, damaged, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ResultUnreadableError(
                    f"{name} is {image.width} × {image.height} pixels large, more than is taken; ask for less."
                )
            return _pixels(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ResultUnreadableError(
            f"{name}, which the workflow made, is no PNG, JPEG or WebP that can be read; look at its last node."
        ) from error


def _pixels(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB")), None
    both = np.asarray(image.convert("RGBA"))
    colours, alpha = np.ascontiguousarray(both[..., :3]), np.ascontiguousarray(both[..., 3])
    return colours, None if (alpha == 255).all() else alpha


def over_white(colours: Pixels, alpha: Pixels) -> Pixels:
    """What a viewer shows of a picture that is transparent in places, on a white page."""
    opaque = alpha[..., None].astype(np.uint16)
    return ((colours * opaque + 255 * (255 - opaque) + 127) // 255).astype(np.uint8)
