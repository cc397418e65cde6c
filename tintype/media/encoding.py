"""Pixels into files that say what made them, and that a machine did.

| format | AUTOMATIC1111's text | our JSON | the label (XMP) |
|---|---|---|---|
| PNG | `parameters` text chunk | `tintype` text chunk | `XML:com.adobe.xmp` text chunk |
| JPEG, WebP | EXIF UserComment, UTF-16 | `tintype:Settings` in the XMP | XMP |

The ComfyUI workflow of a picture that has one stands where ComfyUI opens it from: in PNG a `prompt` text chunk, in WebP
the EXIF field `Model` behind `prompt:`; in JPEG ComfyUI looks for none.

Our JSON lies in the XMP because XMP is UTF-8, has a namespace of our own and is kept by exiftool, Lightroom
and C2PA signers; EXIF ImageDescription is ASCII and is what galleries show as the caption. A JPEG holds at
most 64 KiB of each: what does not fit is left out, the label never is.

PNG goes through fpng, 20 to 50 times faster than zlib at a tenth more bytes. It comes from PyPI as C++
source; where no compiler built it, Pillow at its fastest level takes over.
"""

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tintype.media import decoding, settings_text, xmp
from tintype.media.settings_text import GenerationSettings
from tintype.media.xmp import Label

try:
    from fpng_py import (
        fpng_encode_image_to_memory as fpng_encode,  # pyright: ignore[reportAttributeAccessIssue]
    )
except ImportError:
    fpng_encode = None

Format = Literal["png", "jpeg", "webp"]
PngEncoder = Callable[[bytes, int, int, int], bytes]

CONTENT_TYPES: dict[Format, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
JPEG_QUALITY = 95
JPEG_SUBSAMPLING = 0  # 4:4:4: text and edges in saturated colours stay sharp
WEBP_QUALITY = 90
WEBP_SIDE_MAX = 16_383
JPEG_SIDE_MAX = 65_535
THUMBNAIL_SIDE = 512
THUMBNAIL_QUALITY = 80
PREVIEW_SIDE = 256
LEAST_PREVIEW_SIDE = 16
PREVIEW_QUALITY = 60
JPEG_SEGMENT_BYTES = 65_000  # 65,533 less the marker and Pillow's own headers
IHDR_END = 33  # signature 8, length 4, type 4, header 13, checksum 4
EXIF_IFD, USER_COMMENT, CAMERA_MODEL = 0x8769, 0x9286, 0x0110


def encode(
    pixels: NDArray[np.uint8],
    format: Format,  # noqa: A002
    settings: GenerationSettings | None,
    label: Label | None = None,
    *,
    alpha: NDArray[np.uint8] | None = None,
) -> bytes:
    """A finished file of `pixels` (uint8 [h, w, 3], sRGB) that carries `settings`, if any, and the machine-made label.

    `alpha` (uint8 [h, w]) says how opaque each pixel is; not in a JPEG.
    `label` defaults to what the settings say. PNG is lossless. Deterministic: the same pixels, settings and label
    give the same bytes.

    Raises:
        ValueError: the pixels have another shape or type, or are larger than the format allows; or neither
            `settings` nor `label` is given.
    """
    _check(pixels, format)
    label = label or _label(settings)
    if alpha is not None:
        pixels = _with_alpha(pixels, alpha, format)
    if format == "png":
        return _with_chunks(_png(pixels), _png_chunks(settings, label))
    exif = (
        _exif(settings_text.to_parameters(settings), settings.graph if format == "webp" else None) if settings else b""
    )
    packet = xmp.packet(label, settings_text.to_json(settings) if settings else None)
    if format == "jpeg":
        exif = exif if len(exif) <= JPEG_SEGMENT_BYTES else b""
        packet = packet if len(packet) <= JPEG_SEGMENT_BYTES else xmp.packet(label, None)
        return _pillow(pixels, "JPEG", quality=JPEG_QUALITY, subsampling=JPEG_SUBSAMPLING, exif=exif, xmp=packet)
    return _pillow(pixels, "WEBP", quality=WEBP_QUALITY, exif=exif, xmp=packet)


def with_label(png: bytes, label: Label) -> bytes:
    """A PNG with the machine-made label put in."""
    return _with_chunks(png, _png_chunks(None, label))


def thumbnail(picture: bytes | NDArray[np.uint8], limits: decoding.Limits | None = None) -> bytes:
    """A WebP of at most 512 pixels along the longest side, never enlarged and without metadata.

    `picture` is pixels (uint8 [h, w, 3]) or a file, which `decoding.decode` reads under `limits` and may
    refuse.
    """
    if isinstance(picture, bytes):
        picture = decoding.decode(picture, limits or decoding.Limits()).pixels
    return _pillow(shrink(picture), "WEBP", quality=THUMBNAIL_QUALITY)


def shrink(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels of a thumbnail: at most 512 along the longest side, never enlarged."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image)


def small_webp(pixels: NDArray[np.uint8], most_bytes: int) -> bytes:
    """A WebP of at most `most_bytes`, as large as fits, without metadata: for what is shown and not kept."""
    side = min(max(pixels.shape), PREVIEW_SIDE)
    while True:
        image = Image.fromarray(pixels)
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        data = _pillow(np.asarray(image), "WEBP", quality=PREVIEW_QUALITY)
        if len(data) <= most_bytes or side <= LEAST_PREVIEW_SIDE:
            return data
        side = side * 3 // 4


def content_hash(data: bytes) -> str:
    """The SHA-256 of a file, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def over_white(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colours of a picture that is transparent where `alpha` is 0: white there, so that nothing hides in them."""
    return np.where(alpha[..., None] == 0, np.uint8(255), pixels)


def _with_alpha(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8], format: Format) -> NDArray[np.uint8]:  # noqa: A002
    if format == "jpeg" or alpha.dtype != np.uint8 or alpha.shape != pixels.shape[:2]:
        raise ValueError(f"alpha is {alpha.dtype} {alpha.shape} for {format} of {pixels.shape}")
    return np.dstack((pixels, alpha))


def _label(settings: GenerationSettings | None) -> Label:
    if settings is None:
        raise ValueError("a file without settings needs a label of its own")
    system = " ".join(filter(None, (settings.tool, settings.tool_version)))
    return Label(system=system, model=settings.model)


def _check(pixels: NDArray[np.uint8], format: Format) -> None:  # noqa: A002
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, not uint8 [h, w, 3]")
    most = {"png": None, "jpeg": JPEG_SIDE_MAX, "webp": WEBP_SIDE_MAX}[format]
    if most is not None and max(pixels.shape) > most:
        raise ValueError(f"{pixels.shape[1]}x{pixels.shape[0]} is more than {format} can hold ({most} a side)")


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels that `_check` passed: fpng_py reads past a short buffer and dies of SIGFPE on an empty one."""
    height, width, channels = pixels.shape
    if fpng_encode is None:
        return _pillow(pixels, "PNG", compress_level=1)
    return cast(PngEncoder, fpng_encode)(pixels.tobytes(), width, height, channels)


def _pillow(pixels: NDArray[np.uint8], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _png_chunks(settings: GenerationSettings | None, label: Label) -> bytes:
    said = _international_chunk("XML:com.adobe.xmp", xmp.packet(label, None))
    if settings is None:
        return said
    parameters = _text_chunk("parameters", settings_text.to_parameters(settings))
    graph = b"" if settings.graph is None else _text_chunk("prompt", json.dumps(settings.graph))
    return parameters + graph + _text_chunk(settings_text.TOOL, settings_text.to_json(settings)) + said


def _text_chunk(key: str, text: str) -> bytes:
    """tEXt where the text is Latin-1, else iTXt: as Pillow, and so AUTOMATIC1111, writes the same text."""
    text = text.replace("\0", "\ufffd")
    try:
        return _chunk(b"tEXt", key.encode("latin-1") + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _international_chunk(key, text.encode("utf-8", "replace"))


def _international_chunk(key: str, text: bytes) -> bytes:
    """Uncompressed iTXt: keyword, two compression flags, no language, no translated keyword, UTF-8."""
    return _chunk(b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + text)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _with_chunks(png: bytes, chunks: bytes) -> bytes:
    return png[:IHDR_END] + chunks + png[IHDR_END:]


def _exif(parameters: str, graph: Mapping[str, Any] | None) -> bytes:
    exif = Image.Exif()
    if graph is not None:
        exif[CAMERA_MODEL] = f"prompt:{json.dumps(graph)}"
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"UNICODE\0" + parameters.encode("utf-16-be", "replace")
    return exif.tobytes()
