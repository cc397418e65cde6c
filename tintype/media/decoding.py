"""Uploaded pictures into pixels: what is not allowed is refused undecoded, and nothing but pixels is kept.

Pillow does the decoding, from an allow-list of formats so that its rarer plug-ins never see the bytes. No
global state of Pillow is changed: its own bomb limit (89 million pixels warn, twice that raise) stays as a
second line behind `Limits`.

Only the decoder's own copy of a picture is ever whole: colours, profile and transparency are worked out in
bands of it, and a JPEG is decoded no larger than asked for.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, features

from tintype.errors import InvalidRequestError
from tintype.media import parts

Pixels = NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "WEBP", *(["AVIF"] if features.check("avif") else []))
ACCEPTED = "PNG, JPEG, WebP" + (" or AVIF" if "AVIF" in FORMATS else "")
HELD_OFTEN = ("WEBP", "AVIF")
MAX_ICC_BYTES = 1 << 20
ORIENTATION = 0x0112
BAND_PIXELS = 1 << 20
REDUCING_GAP = 3  # shrink by averaging to 3 times the size asked for, then well: nobody sees the difference
# What Pillow's parsers raise on bytes that lie about themselves: the tests mutate files to find these.
BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError),
    *(OverflowError, RuntimeError, struct.error, zlib.error),
    Warning,  # raised only where warnings are errors, as in tests; silencing them is not thread-safe
)


class NotAnImageError(InvalidRequestError):
    """This is not a picture that can be read; send a PNG, JPEG, WebP or AVIF file."""

    status = 415
    code = "not_an_image"


class ImageTooLargeError(InvalidRequestError):
    """The picture is too large; send a smaller one."""

    status = 413
    code = "image_too_large"


class AnimatedImageError(InvalidRequestError):
    """Animated pictures are not accepted; send a single frame."""

    status = 415
    code = "image_animated"


class ImageTooIntricateError(InvalidRequestError):
    """The picture is made of far more parts than any program writes; save it anew and send that."""

    code = "image_too_intricate"


class DamagedImageError(InvalidRequestError):
    """The picture is cut off or damaged; send it again, or save it anew and send that."""

    code = "image_damaged"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an upload may be: bytes of the file, pixels in all, pixels along one side.

    WebP and AVIF have a lower limit, because their decoders hold several copies of the whole picture.
    """

    max_bytes: int = 30 << 20
    max_pixels: int = 50_000_000
    max_pixels_held_often: int = 20_000_000
    max_side: int = 16_384


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An upload as pixels, upright, in sRGB: uint8 [h, w, 3], transparent parts over white.

    `width` and `height` are the picture's own, whatever `pixels` was shrunk to. `format` is `png`, `jpeg`,
    `webp` or `avif`, from the file's content.
    """

    pixels: Pixels
    format: str
    width: int
    height: int


def decode(data: bytes, limits: Limits, *, fit: int | None = None) -> Decoded:
    """Read an uploaded picture; with `fit` its pixels are shrunk to at most that many along the longest side.

    The EXIF orientation is applied and all metadata dropped; an ICC profile is applied; 16-bit grey is scaled
    to 8. The second picture that phones hide in a JPEG (depth, gain map) is passed over.

    Raises:
        NotAnImageError, ImageTooLargeError, ImageTooIntricateError, AnimatedImageError: decided before any pixel
            is decoded.
        DamagedImageError: the pixels cannot be read to the end.
    """
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(_too_many("bytes", len(data), limits.max_bytes))
    if parts.are_too_many(data):
        raise ImageTooIntricateError
    with _opened(data) as image:
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        _check_size(image.size, kind, limits)
        if kind != "JPEG" and getattr(image, "is_animated", False):
            raise AnimatedImageError
        orientation, (width, height) = _orientation(image), image.size
        try:
            pixels = _upright(_pixels(image, fit), orientation)
        except BROKEN as error:
            raise DamagedImageError from error
    if orientation >= 5:
        width, height = height, width
    return Decoded(pixels=pixels, format=kind.lower(), width=width, height=height)


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError from error
    except BROKEN as error:
        raise NotAnImageError(f"The file is not a picture that can be read; send {ACCEPTED}.") from error


def _check_size(size: tuple[int, int], kind: str, limits: Limits) -> None:
    width, height = size
    if max(width, height) > limits.max_side:
        raise ImageTooLargeError(_too_many("pixels along one side", max(width, height), limits.max_side))
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(_too_many("pixels", width * height, limits.max_pixels))
    if kind in HELD_OFTEN and width * height > limits.max_pixels_held_often:
        most = limits.max_pixels_held_often
        raise ImageTooLargeError(_too_many("pixels", width * height, most, f" as {kind}; send PNG or JPEG"))


def _too_many(what: str, count: int, most: int, how: str = "") -> str:
    return f"The picture has {count:,} {what}; at most {most:,} are accepted{how}."


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; a damaged EXIF block says nothing and is no reason to refuse the picture."""
    try:
        found = int(image.getexif().get(ORIENTATION, 1))
    except BROKEN:
        return 1
    return found if 1 <= found <= 8 else 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _pixels(image: Image.Image, fit: int | None) -> Pixels:
    """RGB over white, as it lies in the file; shrunk to fit."""
    profile, shrink = image.info.get("icc_profile"), 1
    if fit is not None:
        image.draft(None, (fit * REDUCING_GAP, fit * REDUCING_GAP))
        shrink = max(1, max(image.size) // (fit * REDUCING_GAP))
    image.load()
    pixels = _banded(image, _to_rgb(image, profile), shrink)
    if fit is None or max(pixels.shape) <= fit:
        return pixels
    small = Image.fromarray(pixels)
    small.thumbnail((fit, fit), Image.Resampling.LANCZOS)
    return np.array(small)


def _banded(image: Image.Image, to_rgb: Callable[[Image.Image], Image.Image], shrink: int) -> Pixels:
    """The picture through `to_rgb`, each square of `shrink` pixels averaged into one, a band of rows at a time."""
    width, height = image.size
    pixels = np.empty((-(-height // shrink), -(-width // shrink), 3), np.uint8)
    rows = max(1, BAND_PIXELS // (width * shrink)) * shrink
    for top in range(0, height, rows):
        band = to_rgb(image.crop((0, top, width, min(top + rows, height)))).reduce(shrink)
        pixels[top // shrink : top // shrink + band.height] = np.asarray(band)
    return pixels


def _to_rgb(image: Image.Image, profile: bytes | None) -> Callable[[Image.Image], Image.Image]:
    """What makes a band of this picture RGB: by its colour profile, if it has a good one, and over white."""
    to_srgb = _profile_transform(image, profile)

    def convert(band: Image.Image) -> Image.Image:
        if band.mode.startswith("I"):
            return _from_wide_grey(band)
        rgba = band.convert("RGBA") if band.has_transparency_data else None
        colour = (rgba or band).convert("RGB")
        if to_srgb is not None:
            colour = ImageCms.applyTransform(band.convert(to_srgb.input_mode), to_srgb) or colour
        if rgba is None:
            return colour
        over = Image.new("RGB", band.size, "white")
        over.paste(colour, mask=rgba.getchannel("A"))
        return over

    return convert


def _profile_transform(image: Image.Image, profile: bytes | None) -> ImageCms.ImageCmsTransform | None:
    """From an embedded profile to sRGB; None where it is huge, broken or for other pixels: it is passed over."""
    if not profile or len(profile) > MAX_ICC_BYTES or image.mode not in ("RGB", "RGBA", "L", "CMYK"):
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = "RGB" if image.mode == "RGBA" else image.mode
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _from_wide_grey(band: Image.Image) -> Image.Image:
    """16-bit grey, which convert("RGB") would clip at 255 instead of scaling."""
    wide = np.asarray(band).astype(np.uint32).clip(0, 65_535)
    return Image.fromarray(((wide * 255 + 32_767) // 65_535).astype(np.uint8)).convert("RGB")
