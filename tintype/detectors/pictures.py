"""Pictures on their way into a detector: checked, looked at whole and in parts, and turned into its input."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from tintype.errors import InvalidRequestError
from tintype.safety.contract import Label

Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
Channel = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
OVERLAP = 0.25
"""How much of a tile its neighbour sees again, so that what lies on a seam is whole in one of them."""


class PictureUnfitError(InvalidRequestError):
    """A picture for a detector is not uint8 RGB of shape [height, width, 3]."""

    code = "picture_unfit"


class SeesPicturesOnly:
    """The half of a detector that has nothing to say of texts."""

    @property
    def text_labels(self) -> frozenset[Label]:
        """None: it is never asked about a text."""
        return frozenset()

    def score_text(self, text: str) -> Mapping[Label, float]:
        """Nothing."""
        return {}


class Input(BaseModel):
    """What a network takes: sides in pixels, and per channel, in the order of
    `channels`, (value * scale - mean) / deviation.

    `stretch` ignores the picture's proportions, as classifiers are trained; `letterbox` keeps them and fills the
    right and the bottom with `padding` (0 to 255).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(ge=8, le=4096)
    height: int = Field(ge=8, le=4096)
    resample: Resample = "bilinear"
    scale: float = Field(default=1 / 255, gt=0, allow_inf_nan=False)
    mean: tuple[Channel, Channel, Channel] = (0.0, 0.0, 0.0)
    deviation: tuple[Deviation, Deviation, Deviation] = (1.0, 1.0, 1.0)
    channels: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    fit: Literal["stretch", "letterbox"] = "stretch"
    padding: int = Field(default=114, ge=0, le=255)


class Tiles(BaseModel):
    """How finely a picture is looked at besides as a whole.

    A tile is at most `shrink` times the network's input, so that a small region keeps some pixels; there are at most
    `most` of them, and on very large pictures they grow instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shrink: float = Field(default=3.0, ge=1, le=4)
    most: int = Field(default=24, ge=4, le=64)


class View(NamedTuple):
    """A part of a picture in its pixels; right and bottom are past the end."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where in the picture a network's input came from: picture = input / factor + offset, per axis."""

    factor_x: float
    factor_y: float
    left: int
    top: int


def checked(pixels: object) -> NDArray[np.uint8]:
    """The pixels themselves, if a detector can judge them.

    Raises:
        PictureUnfitError: not a uint8 array of shape [height, width, 3] with at least one pixel.
    """
    if not isinstance(pixels, np.ndarray):
        raise PictureUnfitError(f"a detector takes a NumPy array, not {type(pixels).__name__}")
    array = cast("NDArray[Any]", pixels)
    if array.dtype != np.uint8:
        raise PictureUnfitError(f"a detector takes uint8, not {array.dtype}; convert the picture first")
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise PictureUnfitError(f"a detector takes [height, width, 3] with at least one pixel, not {array.shape}")
    return array


def views(height: int, width: int, *, side: int, tiles: Tiles) -> tuple[View, ...]:
    """The whole picture, then overlapping tiles if it is much larger or longer than an input of `side` pixels.

    Together the tiles cover every pixel. They are near-square: a long strip is cut across rather than squashed.
    """
    reach = round(side * tiles.shrink)
    longest = min(reach, max(side, 2 * min(height, width)))
    columns, rows = _count(width, longest), _count(height, longest)
    while columns * rows > tiles.most:
        columns, rows = (columns - 1, rows) if columns >= rows else (columns, rows - 1)
    whole = View(0, 0, width, height)
    if columns * rows == 1:
        return (whole,)
    across, down = _spans(width, columns), _spans(height, rows)
    return (whole, *(View(left, top, right, bottom) for top, bottom in down for left, right in across))


def _count(length: int, size: int) -> int:
    return 1 if length <= size else math.ceil((length - size) / (size * (1 - OVERLAP))) + 1


def _spans(length: int, count: int) -> list[tuple[int, int]]:
    if count == 1:
        return [(0, length)]
    size = math.ceil(length / (count - (count - 1) * OVERLAP))
    starts = [round(index * (length - size) / (count - 1)) for index in range(count)]
    return [(start, start + size) for start in starts]


def prepared(
    picture: Image.Image, parts: tuple[View, ...], wanted: Input
) -> tuple[NDArray[np.float32], list[Placement]]:
    """The network's input for each part, float32 of shape [parts, ...layout], and where each came from."""
    batch = np.full((len(parts), wanted.height, wanted.width, 3), wanted.padding, dtype=np.uint8)
    placements: list[Placement] = []
    for canvas, part in zip(batch, parts, strict=True):
        width, height = _fitted(part, wanted)
        small = picture.resize((width, height), Image.Resampling[wanted.resample.upper()], box=part)
        canvas[:height, :width] = np.asarray(small)
        factor_x, factor_y = width / (part.right - part.left), height / (part.bottom - part.top)
        placements.append(Placement(factor_x=factor_x, factor_y=factor_y, left=part.left, top=part.top))
    values = (batch if wanted.channels == "rgb" else batch[..., ::-1]).astype(np.float32)
    values *= np.float32(wanted.scale)
    values -= np.asarray(wanted.mean, dtype=np.float32)
    values /= np.asarray(wanted.deviation, dtype=np.float32)
    if wanted.layout == "nchw":
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values), placements


def _fitted(part: View, wanted: Input) -> tuple[int, int]:
    if wanted.fit == "stretch":
        return wanted.width, wanted.height
    width, height = part.right - part.left, part.bottom - part.top
    factor = min(wanted.width / width, wanted.height / height)
    return max(1, round(width * factor)), max(1, round(height * factor))
