"""The texts a picture or video carries, without decoding a pixel: PNG text chunks, EXIF fields, the XMP packet.

Containers are walked by hand and only forwards, so text behind the pixels is found too, a file costs one
pass, and what inflates is cut off. Everything here was written by a stranger: it is only ever text.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image

from tintype.media.decoding import BROKEN

MAX_TEXT_BYTES = 4 << 20
MAX_TEXTS = 64
MAX_CHUNKS = 100_000
PNG = b"\x89PNG\r\n\x1a\n"
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
IMAGE_DESCRIPTION, MAKE, MODEL = 0x010E, 0x010F, 0x0110
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
XMP_KEY = "XML:com.adobe.xmp"
XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # Adobe's name for it in an MP4
GIF_HEADER_BYTES = 13
GIF_XMP = b"\x21\xff\x0bXMP DataXMP"
# Whoever does not know XMP reads its bytes as lengths of blocks, and each of these leads to the end of the list.
GIF_XMP_END = bytes([1, *range(255, -1, -1), 0])
# Start of scan and end of image: behind them are pixels. TEM and RSTn have no length.
JPEG_PIXELS, JPEG_BARE = (0xDA, 0xD9), (0x01, *range(0xD0, 0xD8))


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What was found: PNG texts by keyword, EXIF user comment and camera fields by tag, XMP packet."""

    texts: dict[str, str] = field(default_factory=dict[str, str])
    comment: str = ""
    fields: dict[int, str] = field(default_factory=dict[int, str])
    xmp: str = ""


def read(data: bytes) -> Embedded:
    """Everything textual in a PNG, JPEG or WebP, the XMP packet of a GIF or MP4: what is whole of a damaged one."""
    if data.startswith(PNG):
        texts, exif = _png(data)
        xmp = texts.pop(XMP_KEY, "")
    else:
        exif, packet = _blocks(data)
        texts, xmp = {}, packet.decode("utf-8", "replace")
    comment, fields = _exif(exif)
    return Embedded(texts=texts, comment=comment, fields=fields, xmp=xmp)


def gif_colours_bytes(gif: bytes) -> int:
    """How long the table of colours is that all frames of a GIF share."""
    packed = gif[10]
    return 3 << (packed & 7) + 1 if packed & 0x80 else 0


def _blocks(data: bytes) -> tuple[bytes, bytes]:
    """The EXIF block and the XMP packet of anything but a PNG."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data[4:8] == b"ftyp":
        return b"", _mp4(data)
    return (b"", _gif(data)) if data[:3] == b"GIF" and len(data) > GIF_HEADER_BYTES else _webp(data)


def _mp4(data: bytes) -> bytes:
    """The XMP packet among the outermost boxes."""
    at = 0
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= len(data):  # it stands behind the name, in 64 bits
            (length,), head = struct.unpack_from(">Q", data, at + 8), 16
        if kind == b"uuid" and data[at + head : at + head + 16] == XMP_BOX and length <= MAX_TEXT_BYTES:
            return data[at + head + 16 : at + length]
        if length < head:  # 0: to the end of the file
            break
        at += length
    return b""


def _gif(data: bytes) -> bytes:
    """The XMP packet among the extensions before the first frame."""
    at = GIF_HEADER_BYTES + gif_colours_bytes(data)
    while data[at : at + 1] == b"\x21":
        if data.startswith(GIF_XMP, at):
            start = at + len(GIF_XMP)
            end = data.find(GIF_XMP_END[:8], start, start + MAX_TEXT_BYTES)
            return data[start:end] if end >= 0 else b""
        at += 2
        while (length := data[at : at + 1]) not in (b"", b"\0"):
            at += 1 + length[0]
        at += 1
    return b""


def _png(data: bytes) -> tuple[dict[str, str], bytes]:
    texts: dict[str, str] = {}
    exif = b""
    for kind, body in _png_chunks(data):
        if kind == b"eXIf":
            exif = body
            continue
        key, text = _png_text(kind, body)
        if key and len(texts) < MAX_TEXTS:
            texts.setdefault(key, text)
    return texts, exif


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks that can hold text; `comf` is where ComfyUI writes it in animated PNGs."""
    at = len(PNG)
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"comf") and length <= MAX_TEXT_BYTES:
            yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _png_text(kind: bytes, body: bytes) -> tuple[str, str]:
    """Keyword and text of one chunk; an empty keyword for one that is malformed."""
    key, _, rest = body.partition(b"\0")
    name = key[:79].decode("latin-1")
    if kind == b"tEXt":
        return name, rest.decode("latin-1")
    if kind == b"comf":
        return name, rest.decode("utf-8", "replace")
    if kind == b"zTXt":
        return name, _inflate(rest[1:]).decode("latin-1")
    compressed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    return name, (_inflate(text) if compressed else text).decode("utf-8", "replace")


def _inflate(data: bytes) -> bytes:
    """At most MAX_TEXT_BYTES of it; nothing when it is more than that or damaged."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, MAX_TEXT_BYTES)
    except zlib.error:
        return b""
    return b"" if inflater.unconsumed_tail else text


def _jpeg(data: bytes) -> tuple[bytes, bytes]:
    """The EXIF and XMP blocks from the APP1 segments before the pixels."""
    exif = xmp = b""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in JPEG_PIXELS:
        if data[at + 1] in JPEG_BARE or data[at + 1] == 0xFF:
            at += 1 if data[at + 1] == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if data[at + 1] == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif data[at + 1] == 0xE1 and body.startswith(XMP_HEADER):
            xmp = xmp or body[len(XMP_HEADER) :]
        at += 2 + max(length, 2)
    return exif, xmp


def _webp(data: bytes) -> tuple[bytes, bytes]:
    """The EXIF and XMP chunks of a RIFF file; nothing for anything else."""
    found = {b"EXIF": b"", b"XMP ": b""}
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return b"", b""
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind in found and length <= MAX_TEXT_BYTES:
            found[kind] = found[kind] or data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return found[b"EXIF"], found[b"XMP "]


def _exif(block: bytes) -> tuple[str, dict[int, str]]:
    if not block:
        return "", {}
    exif = Image.Exif()
    try:
        exif.load(block)
        comment = exif.get_ifd(EXIF_IFD).get(USER_COMMENT) or exif.get(USER_COMMENT)
        fields = {tag: exif.get(tag) for tag in (IMAGE_DESCRIPTION, MAKE, MODEL)}
    except BROKEN:
        return "", {}
    return _user_comment(comment), {tag: text for tag, text in fields.items() if isinstance(text, str)}


def _user_comment(value: object) -> str:
    """Text after the 8 bytes that name its encoding; UTF-16 is written in either byte order."""
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        return ""
    code, body = value[:8], value[8:]
    if code == b"UNICODE\0":
        big, little = (body.decode(codec, "replace") for codec in ("utf-16-be", "utf-16-le"))
        return max(big, little, key=_readable)
    return (body if code in (b"ASCII\0\0\0", bytes(8)) else value).decode("utf-8", "replace")


def _readable(text: str) -> int:
    """How many of the first characters are Latin, which the wrong byte order turns into ideographs."""
    return sum(char < "\u0250" for char in text[:4096])
