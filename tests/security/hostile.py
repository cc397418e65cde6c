"""Files as somebody would make them who means harm; each harmless here."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its true checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def zeros_deflated(count: int) -> bytes:
    """`count` zeros, a thousandth as long."""
    squeeze = zlib.compressobj(9)
    parts = [squeeze.compress(bytes(min(1 << 20, count - at))) for at in range(0, count, 1 << 20)]
    return b"".join(parts) + squeeze.flush()


def png_bomb(width: int, height: int) -> bytes:
    """A whole black RGB picture of that size, about a thousandth as long as its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zeros_deflated((3 * width + 1) * height)) + chunk(b"IEND", b"")


def with_chunks(png: bytes, *chunks: bytes, at_end: bool = False) -> bytes:
    """`png` with more chunks behind its header, or before its end."""
    place = len(png) - 12 if at_end else 33
    return png[:place] + b"".join(chunks) + png[place:]


def picture(width: int = 48, height: int = 32) -> Image.Image:
    """A small picture in which every pixel differs."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns * 5, rows * 7, columns + rows], axis=-1).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_xmp(image: Image.Image, kind: str, packet: bytes, **options) -> bytes:
    """The picture as a file with an XMP packet, which Pillow writes into all but PNG."""
    if kind != "PNG":
        return saved(image, kind, xmp=packet, **options)
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    return with_chunks(saved(image, kind, **options), text)


def located_exif() -> Image.Exif:
    """EXIF that says where, when, by whom and with which camera, as phones write it."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x013B] = "SecretCamera", "SecretModel", "SecretName"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:02 03:04:05"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.3), 3: "E", 4: (13.0, 24.0, 18.0), 29: "2024:01:02"})
    return exif


def xmp_pointing_at(url: str) -> bytes:
    """An XMP packet that says: my manifest lies at `url`."""
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
        ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        f' xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="{url}"/></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()
