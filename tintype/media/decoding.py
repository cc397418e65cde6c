"""Uploaded pictures into pixels: what is not allowed is refused undecoded, and nothing but pixels is kept.

Pillow does the decoding, from an allow-list of formats so that its rarer plug-ins never see the bytes. No
global state of Pillow is changed: its own bomb limit (89 million pixels warn, twice that raise) stays as a
second line behind `Limits`.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, features

from tintype.errors import InvalidRequestError

FORMATS = ("PNG", "JPEG", "WEBP", *(["AVIF"] if features.check("avif") else []))
ACCEPTED = "PNG, JPEG, WebP" + (" or AVIF" if "AVIF" in FORMATS else "")
MAX_ICC_BYTES = 1 << 20
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
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


class DamagedImageError(InvalidRequestError):
    """The picture is cut off or damaged; send it again, or save it anew and send that."""

    code = "image_damaged"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an upload may be: bytes of the file, pixels in all, pixels along one side."""

    max_bytes: int = 30 << 20
    max_pixels: int = 50_000_000
    max_side: int = 16_384


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An upload as pixels, upright, in sRGB: uint8 [h, w, 3], transparent parts over white.

    `alpha` is uint8 [h, w] where the file had transparency (255 opaque), else None. `format` is `png`,
    `jpeg`, `webp` or `avif`, from the file's content.
    """

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    format: str
    width: int
    height: int


def decode(data: bytes, limits: Limits) -> Decoded:
    """Read an uploaded picture.

    The EXIF orientation is applied and all metadata dropped; an ICC profile is applied; 16-bit grey is scaled
    to 8. The second picture that phones hide in a JPEG (depth, gain map) is passed over.

    Raises:
        NotAnImageError, ImageTooLargeError, AnimatedImageError: decided before any pixel is decoded.
        DamagedImageError: the pixels cannot be read to the end.
    """
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(_too_many("bytes", len(data), limits.max_bytes))
    with _opened(data) as image:
        _check_size(image.size, limits)
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        if kind != "JPEG" and getattr(image, "is_animated", False):
            raise AnimatedImageError
        orientation, profile = _orientation(image), image.info.get("icc_profile")
        try:
            image.load()
            pixels, alpha = _pixels(_upright(_to_srgb(image, profile), orientation))
        except BROKEN as error:
            raise DamagedImageError from error
    height, width = pixels.shape[:2]
    return Decoded(pixels=pixels, alpha=alpha, format=kind.lower(), width=width, height=height)


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError from error
    except BROKEN as error:
        raise NotAnImageError(f"The file is not a picture that can be read; send {ACCEPTED}.") from error


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if max(width, height) > limits.max_side:
        raise ImageTooLargeError(_too_many("pixels along one side", max(width, height), limits.max_side))
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(_too_many("pixels", width * height, limits.max_pixels))


def _too_many(what: str, count: int, most: int) -> str:
    return f"The picture has {count:,} {what}; at most {most:,} are accepted."


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; a damaged EXIF block says nothing and is no reason to refuse the picture."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except BROKEN:
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Apply an embedded colour profile; one that is huge, broken or for other pixels is passed over."""
    if not profile or len(profile) > MAX_ICC_BYTES or image.mode not in ("RGB", "RGBA", "L", "CMYK"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        colour = image.convert("RGB") if image.mode == "RGBA" else image
        converted = ImageCms.profileToProfile(colour, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    if converted is not None and image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted or image


def _pixels(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    if image.mode.startswith("I"):  # 16-bit grey: convert("RGB") would clip at 255 instead of scaling
        wide = np.asarray(image).astype(np.uint32).clip(0, 65_535)
        grey = ((wide * 255 + 32_767) // 65_535).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2), None
    if not image.has_transparency_data:
        return np.array(image.convert("RGB")), None
    rgba = image.convert("RGBA")
    over = Image.new("RGBA", rgba.size, "white")
    over.alpha_composite(rgba)
    return np.array(over.convert("RGB")), np.array(rgba.getchannel("A"))
