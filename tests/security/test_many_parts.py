"""Pictures of far too many parts: refused within a moment, where decoding them would take minutes."""

import re
import time

import pytest
from PIL import Image

from tests.security import hostile
from tintype.media import decoding, parts

LIMITS = decoding.Limits()


def progressive(count: int, *, between: bytes = b"") -> bytes:
    """A small progressive JPEG with one of its scans repeated `count` times."""
    data = hostile.saved(Image.new("L", (640, 640), 128), "JPEG", progressive=True)
    starts = [found.start() for found in re.finditer(b"\xff\xda", data)]
    scan = data[starts[1] : starts[2]]
    return data[: starts[2]] + (between + scan) * count + data[starts[2] :]


def many(kind: str) -> bytes:
    png, jpeg = hostile.saved(hostile.picture(), "PNG"), hostile.saved(hostile.picture(), "JPEG")
    return {
        "scans": progressive(200),
        "scans behind markers without a length": progressive(200, between=b"\xff\x01\xff\xff\x00\xff\xd0"),
        "segments": jpeg[:2] + b"\xff\xfe\x00\x02" * 2_000_000 + jpeg[2:],
        "filling": jpeg[:2] + b"\xff" * 8_000_000 + jpeg[2:],
        "stuffing": jpeg[:2] + b"\xff\x00" * 4_000_000 + jpeg[2:],
        "chunks": hostile.with_chunks(png, hostile.chunk(b"abCd", b"") * 800_000),
        "parts of pixels": hostile.with_chunks(png, hostile.chunk(b"IDAT", b"") * 800_000),
        "texts": hostile.with_chunks(png, hostile.chunk(b"tEXt", b"a\0b") * 800_000, at_end=True),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "scans",
        "scans behind markers without a length",
        "segments",
        "filling",
        "stuffing",
        "chunks",
        "parts of pixels",
        "texts",
    ],
)
def test_a_picture_of_too_many_parts_is_refused_within_a_moment(kind):
    data = many(kind)
    began = time.perf_counter()
    with pytest.raises(decoding.ImageTooIntricateError) as caught:
        decoding.decode(data, LIMITS)
    assert time.perf_counter() - began < 1
    assert (caught.value.status, caught.value.code) == (422, "image_too_intricate")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_large_pictures_as_programs_write_them_are_not_too_many_parts(kind):
    large = hostile.picture(3000, 2000)
    options = [{"exif": hostile.located_exif(), "icc_profile": bytes(300_000)}]
    options += [{"progressive": True, "restart_marker_rows": 1}] if kind == "JPEG" else []
    for option in options:
        assert not parts.are_too_many(hostile.saved(large, kind, **option))


def test_scans_up_to_the_limit_are_decoded_and_one_more_is_not():
    own = len(re.findall(b"\xff\xda", progressive(0)))
    assert decoding.decode(progressive(parts.MAX_SCANS - own), LIMITS).width == 640
    with pytest.raises(decoding.ImageTooIntricateError):
        decoding.decode(progressive(parts.MAX_SCANS - own + 1), LIMITS)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0", hostile.PNG, hostile.PNG + b"\0" * 11]
)
def test_what_is_cut_off_is_left_to_the_decoder(data):
    assert not parts.are_too_many(data)
