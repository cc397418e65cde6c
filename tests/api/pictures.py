"""Files to upload: good ones, ones with settings inside, and ones that lie."""

import base64
import io
import struct
import zlib

from PIL import Image, PngImagePlugin


def png(colour: str = "red", **texts: str) -> bytes:
    """A PNG of 40×30 pixels with text chunks."""
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_itxt(name, text)
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def data_url(data: bytes) -> str:
    """A PNG as a request carries it."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def encoded(kind: str, **options: object) -> bytes:
    """A picture in another format."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "blue").save(file, kind, **options)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few kilobytes that says it has 256 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 16000, 16000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(16000 * 3 + 1) * 50, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def animated() -> bytes:
    """A WebP of two frames."""
    first, second = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (20, 20), "blue")
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=[second], duration=100)
    return file.getvalue()
