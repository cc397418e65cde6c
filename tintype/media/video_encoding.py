"""Frames into files that say what made them, and that a machine did.

| format | pictures | our JSON | the label (XMP) |
|---|---|---|---|
| MP4 | H.264, 4:2:0, BT.709 | `comment`, and `tintype:Settings` in the XMP | Adobe's `uuid` box, the last |
| WebP | lossy, 8 bits | `tintype:Settings` in the XMP | `XMP ` chunk |
| GIF | 256 colours a frame | `tintype:Settings` in the XMP | the first application extension |

WebM is not written, because nothing can sign it. None of them has sound.
"""

import io
import struct
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tintype.media import embedded, settings_text, xmp
from tintype.media.settings_text import GenerationSettings
from tintype.media.xmp import Label

if TYPE_CHECKING:
    from av.container import OutputContainer

Format = Literal["mp4", "gif", "webp"]

CONTENT_TYPES: dict[Format, str] = {"mp4": "video/mp4", "gif": "image/gif", "webp": "image/webp"}
CODECS: dict[Format, str] = {"mp4": "h264", "gif": "gif", "webp": "webp"}
MOST_FPS: dict[Format, int] = {"mp4": 120, "gif": 50, "webp": 120}
"""GIF counts hundredths of a second, and what is shown for less than two of them most programs slow down."""

QUALITY, PRESET = 18, "medium"  # x264's: at 18 a trained eye finds hardly a difference; slower presets save a tenth
KEYFRAME_S = 2  # so far a player must go back at most when somebody jumps
BT709, LIMITED_RANGE = 1, 1  # as ISO 23091-2 numbers them
WEBP_QUALITY, WEBP_METHOD = 85, 2


def encode(
    frames: Iterable[NDArray[np.uint8]],
    shape: tuple[int, ...],
    fps: float,
    format: Format,  # noqa: A002
    settings: GenerationSettings | None,
    label: Label,
) -> bytes:
    """A finished file of frames (uint8 RGB), `shape` [frames, height, width, 3], that carries `settings` and `label`.

    H.264 holds even sides only: the last row or column of an odd one is left out. Takes the frames one by one.
    """
    own = settings_text.to_json(settings) if settings else None
    packet = xmp.packet(label, own)
    if format == "mp4":
        return _mp4(frames, shape, fps, own) + _xmp_box(packet)
    if format == "gif":
        return with_packet(_pillow(frames, "GIF", _durations_ms(shape[0], fps, unit_ms=10)), packet)
    lossy = {"quality": WEBP_QUALITY, "method": WEBP_METHOD, "xmp": packet}
    return _pillow(frames, "WEBP", _durations_ms(shape[0], fps, unit_ms=1), **lossy)


def size_in(format: Format, shape: tuple[int, ...]) -> tuple[int, int]:  # noqa: A002
    """Height and width of frames of `shape` [frames, height, width, 3] in a file of this format."""
    height, width = shape[1:3]
    return (height & ~1, width & ~1) if format == "mp4" else (height, width)


def _mp4(frames: Iterable[NDArray[np.uint8]], shape: tuple[int, ...], fps: float, comment: str | None) -> bytes:
    import av
    from av.video.reformatter import Colorspace

    buffer = io.BytesIO()
    container = _new_mp4(buffer)
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate, options={"crf": str(QUALITY), "preset": PRESET})
    stream.height, stream.width = size_in("mp4", shape)
    stream.pix_fmt = "yuv420p"
    stream.gop_size = max(1, round(KEYFRAME_S * fps))
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED_RANGE
    if comment is not None:
        container.metadata["comment"] = comment
    for pixels in frames:
        even = np.ascontiguousarray(pixels[: stream.height, : stream.width])
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
    container.mux(stream.encode(None))
    container.close()
    return buffer.getvalue()


def _new_mp4(buffer: io.BytesIO) -> "OutputContainer":
    """A container with everything a player needs in front of the pictures, so that it can begin before it has all."""
    import av

    options = {"movflags": "+faststart"}
    # FFmpeg reads again what it has written, to move it back.
    return av.open(buffer, "w", format="mp4", options=options, io_open=lambda *_: _SecondLook(buffer))


def packed_anew(mp4: bytes, label: Label) -> bytes:
    """The compressed frames of an MP4 of ours in a new one with this label; not one is decoded.

    Raises:
        ValueError: it is not whole.
    """
    import av
    from av.error import FFmpegError

    buffer = io.BytesIO()
    try:
        with av.open(io.BytesIO(mp4), "r", format="mov") as source, _new_mp4(buffer) as target:
            frames = source.streams.video[0]
            stream = target.add_stream_from_template(frames)
            for packet in source.demux(frames):
                if packet.dts is not None:  # the last one is empty
                    packet.stream = stream
                    target.mux(packet)
    except (FFmpegError, IndexError) as error:
        raise ValueError(f"the MP4 is not whole: {error}") from error
    return buffer.getvalue() + _xmp_box(xmp.packet(label, None))


class _SecondLook:
    """A file that is being written, read from its start by somebody else, with a place of their own."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer = buffer
        self._at = 0

    def read(self, size: int) -> bytes:
        with self._buffer.getbuffer() as held:
            data = bytes(held[self._at : self._at + size])
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._buffer.getbuffer() as held:
            start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(held)}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at


def _pillow(frames: Iterable[NDArray[np.uint8]], kind: str, durations_ms: list[int], **options: object) -> bytes:
    images = (Image.fromarray(pixels) for pixels in frames)
    buffer = io.BytesIO()
    next(images).save(buffer, kind, save_all=True, append_images=images, duration=durations_ms, loop=0, **options)
    return buffer.getvalue()


def _durations_ms(count: int, fps: float, *, unit_ms: int) -> list[int]:
    """How long each frame is shown, in whole units; together as long as they should be."""
    ends = [round(1000 * place / fps / unit_ms) * unit_ms for place in range(count + 1)]
    return [end - start for start, end in pairwise(ends)]


def with_packet(gif: bytes, packet: bytes) -> bytes:
    """A GIF with an XMP packet before its first frame, as Adobe's specification (part 3, 1.1.2) puts it."""
    start = embedded.GIF_HEADER_BYTES + embedded.gif_colours_bytes(gif)
    return gif[:start] + embedded.GIF_XMP + packet + embedded.GIF_XMP_END + gif[start:]


def _xmp_box(packet: bytes) -> bytes:
    return struct.pack(">I4s", 24 + len(packet), b"uuid") + embedded.XMP_BOX + packet
