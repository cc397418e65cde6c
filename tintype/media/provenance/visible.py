"""The visible label: an operator's words or logo in a corner of every picture."""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tintype import settings
from tintype.errors import SetupError
from tintype.media.decoding import BROKEN

SHARE = 0.035  # of the shorter side: the height of words
LOGO_SHARE = 0.10
LEAST_HEIGHT = 11
MARGIN_SHARE = 0.02
MAX_LOGO_BYTES = 4 << 20
MAX_LOGO_SIDE = 4096
PLATE, INK = (0, 0, 0, 150), (255, 255, 255, 235)

Corner = Literal["top_left", "top_right", "bottom_left", "bottom_right"]


class VisibleLabelError(SetupError):
    """The visible label cannot be drawn."""

    code = "visible_label_unusable"


@dataclass(frozen=True, kw_only=True)
class VisibleLabel:
    """Words, or a logo (the bytes of a PNG), and where it goes."""

    text: str = ""
    logo: bytes = b""
    corner: Corner = "bottom_right"


def load(chosen: settings.Provenance) -> VisibleLabel | None:
    """The label the settings ask for, tried out; None for none.

    Raises:
        VisibleLabelError: the logo cannot be read, or the words hold characters that cannot be drawn.
    """
    if not chosen.label_text and chosen.label_logo is None:
        return None
    label = VisibleLabel(
        text=chosen.label_text or "",
        logo=_logo_bytes(chosen) if chosen.label_logo else b"",
        corner=chosen.label_corner,
    )
    missing = [char for char in dict.fromkeys(label.text) if not _can_draw(char)]
    if missing:
        raise VisibleLabelError(
            f"the visible label cannot show {' '.join(missing)}: use Latin letters, or draw them as a logo "
            "(TINTYPE_PROVENANCE_LABEL_LOGO)"
        )
    try:
        _drawn(label, 512)
    except BROKEN as error:
        raise VisibleLabelError(f"{chosen.label_logo} is no PNG that can be drawn: save it anew as PNG") from error
    return label


def draw(pixels: NDArray[np.uint8], label: VisibleLabel | None) -> NDArray[np.uint8]:
    """A copy of `pixels` (uint8 [h, w, 3]) with the label in its corner; the same array without one."""
    if label is None:
        return pixels
    height, width = pixels.shape[:2]
    drawn = _drawn(label, min(height, width))[: max(1, height), : max(1, width)]
    margin = round(min(height, width) * MARGIN_SHARE)
    down, right = drawn.shape[:2]
    top = margin if label.corner.startswith("top") else height - down - margin
    left = margin if label.corner.endswith("left") else width - right - margin
    top, left = (max(0, place) for place in (top, left))
    labelled = pixels.copy()
    place = labelled[top : top + down, left : left + right]
    drawn = drawn[: place.shape[0], : place.shape[1]].astype(np.uint16)
    cover = drawn[:, :, 3:]
    place[:] = ((drawn[:, :, :3] * cover + place * (255 - cover) + 127) // 255).astype(np.uint8)
    return labelled


def _logo_bytes(chosen: settings.Provenance) -> bytes:
    path = chosen.label_logo
    assert path is not None
    try:
        if path.stat().st_size > MAX_LOGO_BYTES:
            raise VisibleLabelError(f"{path} has more than {MAX_LOGO_BYTES >> 20} MiB: make the logo smaller")
        return path.read_bytes()
    except OSError as error:
        raise VisibleLabelError(f"the logo {path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=16)
def _drawn(label: VisibleLabel, shorter_side: int) -> NDArray[np.uint8]:
    """The label for pictures of this size, uint8 RGBA."""
    return _logo(label.logo, shorter_side) if label.logo else _words(label.text, shorter_side)


def _words(text: str, shorter_side: int) -> NDArray[np.uint8]:
    size = max(LEAST_HEIGHT, round(shorter_side * SHARE))
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    pad = size // 3
    plate = Image.new("RGBA", (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad), PLATE)
    ImageDraw.Draw(plate).text((pad - left, pad - top), text, font=font, fill=INK)
    return np.asarray(plate)


def _logo(data: bytes, shorter_side: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        if max(image.size) > MAX_LOGO_SIDE:
            raise ValueError(f"more than {MAX_LOGO_SIDE} pixels a side")
        logo = image.convert("RGBA")
    share = max(LEAST_HEIGHT, shorter_side * LOGO_SHARE) / logo.height
    size = (max(1, min(shorter_side, round(logo.width * share))), max(1, round(logo.height * share)))
    return np.asarray(logo.resize(size, Image.Resampling.LANCZOS))


def _can_draw(char: str) -> bool:
    """Whether the built-in font has the character; what it has not all looks like U+FFFF."""
    return char == " " or not np.array_equal(_words(char, 512), _words("\uffff", 512))
