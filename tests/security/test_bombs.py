"""Small files that become large ones: refused before they do, and the process that reads them stays small."""

import io
import subprocess
import sys
import time
import zipfile

import pytest

from tests.security import hostile
from tintype.errors import TintypeError
from tintype.intake import archives
from tintype.media import decoding, embedded, recall

LIMITS = decoding.Limits()
MEASURE = """
import resource, sys, time
from tintype.errors import TintypeError
from tintype.media import decoding, recall
data = sys.stdin.buffer.read()
decoding.decode(open(sys.argv[1], "rb").read(), decoding.Limits())
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
try:
    decoding.decode(data, decoding.Limits(), fit=512)
    said = "decoded"
except TintypeError as error:
    said = error.code
recall.recall(data)
print(said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.perf_counter() - began)
"""


def measured(data: bytes, folder) -> tuple[str, int, float]:
    """What a fresh process says of an upload, the KiB it took more at the most, and the seconds."""
    plain = folder / "plain.png"
    plain.write_bytes(hostile.saved(hostile.picture(), "PNG"))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(plain)], input=data, capture_output=True, check=True)
    said, more_kib, took_s = done.stdout.split()
    return said.decode(), int(more_kib), float(took_s)


@pytest.mark.parametrize(("width", "height"), [(9_380, 9_380), (1, 2**31 - 1)])
def test_a_png_of_88_million_pixels_in_a_few_hundred_kilobytes_is_refused_undecoded(tmp_path, width, height):
    data = hostile.png_bomb(width, min(height, 20_000))
    if height > 20_000:
        data = data[:20] + height.to_bytes(4, "big") + data[24:]
    assert len(data) < 1_000_000
    said, more_kib, took_s = measured(data, tmp_path)
    assert said in ("image_too_large", "not_an_image")
    assert more_kib < 20_000
    assert took_s < 1


@pytest.mark.parametrize("kind", [b"iTXt", b"zTXt", b"iCCP", b"fdAT", b"eXIf"])
@pytest.mark.parametrize("at_end", [False, True])
def test_a_chunk_that_inflates_to_a_gigabyte_does_not(tmp_path, kind, at_end):
    """An eighth of a gigabyte in each of eight chunks; the picture itself is sound."""
    zeros = hostile.zeros_deflated(1 << 27)
    body = {
        b"iTXt": b"parameters\0\1\0\0\0" + zeros,
        b"zTXt": b"parameters\0\0" + zeros,
        b"iCCP": b"profile\0\0" + zeros,
    }.get(kind, zeros)
    png = hostile.saved(hostile.picture(), "PNG")
    said, more_kib, took_s = measured(
        hostile.with_chunks(png, *[hostile.chunk(kind, body)] * 8, at_end=at_end), tmp_path
    )
    assert said in ("decoded", "not_an_image", "image_damaged")
    assert more_kib < 60_000
    assert took_s < 5


def test_texts_without_number_are_read_in_one_short_pass(tmp_path):
    texts = hostile.chunk(b"tEXt", b"a\0b") * 300_000
    data = hostile.with_chunks(hostile.saved(hostile.picture(), "PNG"), texts)
    began = time.perf_counter()
    assert len(embedded.read(data).texts) <= 64
    recall.recall(data)
    assert time.perf_counter() - began < 5
    assert measured(data, tmp_path)[1] < 200_000


def test_a_zip_bomb_of_many_layers_is_not_opened_further_than_one(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10 << 20))
    (tmp_path / "bomb.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(16):
            archive.writestr(f"{number}.png", inner.getvalue())
    with pytest.raises(TintypeError, match="inside the archive"):
        archives.unpack(tmp_path / "bomb.zip", tmp_path / "out", archives.Limits())
    assert not (tmp_path / "out").exists()
