"""A picture or video of ours without its prompt and settings: the same pixels bit for bit, labelled and signed anew.

The container is taken apart and only what shows the picture is kept, so that nothing can hide in a part nobody thought
of: texts, EXIF and the old manifest go. The XMP label is written again without our JSON; the invisible mark lies in the
pixels and stays. Of an MP4 the compressed frames are put into a new container.
"""

import struct
from collections.abc import Iterator
from typing import cast, get_args

from tintype.errors import TintypeError
from tintype.media import embedded, encoding, video_encoding, xmp
from tintype.media.provenance import findings, manifest
from tintype.media.provenance.credentials import Credentials
from tintype.media.provenance.manifest import Facts, Ingredient, Relation
from tintype.media.xmp import Label

# Beside the critical chunks: colour, transparency, resolution, and fpng's note of how it packed the rows.
PNG_KEPT = (b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"tRNS", b"pHYs", b"fdEC")
# APP0 (JFIF), APP2 (colour profile), APP14 (Adobe's colour transform); then tables and frame headers.
JPEG_DROPPED = (*(0xE0 + app for app in range(16) if app not in (0, 2, 14)), 0xFE)
JPEG_SCAN = 0xDA
WEBP_KEPT = (b"VP8X", b"ICCP", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF")
WEBP_HAS_EXIF, WEBP_HAS_XMP = 0x08, 0x04
GIF_LOOP, GIF_TIMING, GIF_FRAME, GIF_END = b"\x21\xff\x0bNETSCAPE2.0", b"\x21\xf9", 0x2C, 0x3B


class PictureDamagedError(TintypeError):
    """The stored picture is damaged, so nothing can be taken out of it; bring it back from a backup."""

    code = "stored_picture_damaged"


def issue(data: bytes, content_type: str, facts: Facts, credentials: Credentials) -> bytes:
    """The picture in `data`, a file that `gate.seal` made, as a file without prompt and settings; run it in a thread.

    Ingredients of the old manifest are named in the new one; their own manifests stay behind.

    Raises:
        PictureDamagedError: it is not whole, or no file that Tintype labelled.
        SigningError, TimestampError: it cannot be signed.
    """
    said = findings.read(data, content_type)
    ingredients = [
        Ingredient(data=b"", content_type=content_type, relation=cast("Relation", part.relation))
        for part in said.parts
        if part.relation in get_args(Relation)
    ]
    return manifest.sign(strip(data), content_type, facts, credentials, ingredients)


def strip(data: bytes) -> bytes:
    """A PNG, JPEG, WebP, GIF or MP4 with its pixels, colours and label, and nothing else; not signed.

    Raises:
        PictureDamagedError: it is not whole, or carries no label.
    """
    label = xmp.label_in(embedded.read(data).xmp)
    if label is None:
        raise PictureDamagedError
    try:
        if data.startswith(embedded.PNG):
            return _png(data, label)
        if data.startswith(b"GIF8"):
            return video_encoding.with_packet(_gif(data), xmp.packet(label, None))
        if data[4:8] == b"ftyp":
            return video_encoding.packed_anew(data, label)
        return _jpeg(data, label) if data.startswith(b"\xff\xd8") else _webp(data, label)
    except (struct.error, IndexError, ValueError) as error:
        raise PictureDamagedError from error


def _png(data: bytes, label: Label) -> bytes:
    kept = b"".join(data[start:end] for kind, start, end in _png_chunks(data) if kind[:1].isupper() or kind in PNG_KEPT)
    return encoding.with_label(embedded.PNG + kept, label)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's type, start and end, to the last one."""
    at, kind = len(embedded.PNG), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise PictureDamagedError
        yield kind, at, end
        at = end


def _jpeg(data: bytes, label: Label) -> bytes:
    """Segments up to the first scan are chosen; from there on all is kept, as nothing of ours follows the pixels."""
    packet = embedded.XMP_HEADER + xmp.packet(label, None)
    said = b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet
    first, rest = b"", b""
    at = 2
    while (marker := data[at + 1]) != JPEG_SCAN:
        (length,) = struct.unpack_from(">H", data, at + 2)
        segment = data[at : at + 2 + length]
        if segment[0] != 0xFF or length < 2 or len(segment) != 2 + length:
            raise PictureDamagedError
        if marker == 0xE0 and not rest:
            first += segment
        elif marker not in JPEG_DROPPED:
            rest += segment
        at += 2 + length
    if not data.endswith(b"\xff\xd9"):
        raise PictureDamagedError
    return data[:2] + first + said + rest + data[at:]


def _webp(data: bytes, label: Label) -> bytes:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise PictureDamagedError
    end, at = 8 + struct.unpack_from("<I", data, 4)[0], 12
    if end > len(data):
        raise PictureDamagedError
    chunks: list[bytes] = []
    while at < end:
        kind, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        if len(body) != length:
            raise PictureDamagedError
        if kind == b"VP8X":
            body = bytes([body[0] & ~WEBP_HAS_EXIF | WEBP_HAS_XMP]) + body[1:]
        if kind in WEBP_KEPT:
            chunks.append(_riff(kind, body))
        at += 8 + length + length % 2
    return _riff(b"RIFF", b"WEBP" + b"".join([*chunks, _riff(b"XMP ", xmp.packet(label, None))]))


def _gif(data: bytes) -> bytes:
    """Header and colours, that it begins again, and each frame with its timing."""
    at = embedded.GIF_HEADER_BYTES + embedded.gif_colours_bytes(data)
    kept = [data[:at]]
    while data[at] != GIF_END:
        start = at
        if data[at] == GIF_FRAME:
            packed = data[at + 9]
            at += 11 + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
        else:
            at += 2
        while length := data[at]:
            at += 1 + length
        at += 1
        if data[start] == GIF_FRAME or data.startswith((GIF_LOOP, GIF_TIMING), start):
            kept.append(data[start:at])
    return b"".join(kept) + bytes([GIF_END])


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
