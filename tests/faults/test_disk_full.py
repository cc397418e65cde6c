"""The disk fills up while pictures are stored: by a worker, and by an upload."""

import asyncio
import io
import resource
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.api import problems
from tests.faults.disks import Disk, SizeLimit, mounted
from tests.faults.ledger import Ledger, files_in
from tintype.media import decoding, encoding

NOISE = {"num_images": 2, "width": 512, "height": 512, "output_format": "png", "options": {"noise": True}}
"""Files of 770 KB, and thumbnails of 250 KB."""


@pytest.fixture(params=["size limit", "small disk"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "size limit":
        if not hasattr(resource, "prlimit"):
            pytest.skip("only Linux can change the limits of a running process")
        yield SizeLimit(folder)
        return
    with mounted(folder) as small:
        yield small


@pytest.mark.parametrize("leave_bytes", [200 << 10, 400 << 10], ids=["for nothing", "for a thumbnail"])
async def test_a_full_disk_fails_the_generation_after_its_retries_and_leaves_no_half_file(
    lean_studio, disk, leave_bytes
):
    media = disk.folder / "media"
    environment = {"TINTYPE_STORAGE_URL": str(media), "TINTYPE_WORKER_MAX_ATTEMPTS": "2"}
    studio = await lean_studio(workers=1, environment=environment)
    book = Ledger(studio, media=media)
    await studio.wait(await book.ask(num_images=2))
    before = set(files_in(media))
    disk.fill(studio, leave_bytes=leave_bytes)
    job = await book.ask(ends=["failed"], **NOISE)
    row = (await book.check())[job]
    assert row["error_code"] == "storage_full"
    assert (row["attempt"], [note["what"] for note in studio.notes(job)].count("run")) == (2, 2)
    read = await studio.read(job)
    assert (read["output_paths"], read["media"], read["error"]["code"]) == ([], [], "storage_full")
    assert set(files_in(media)) == before
    disk.free()
    await studio.wait(await book.ask(**NOISE))
    await book.check()


def noise(side: int) -> bytes:
    """A picture that is much larger than its thumbnail."""
    file = io.BytesIO()
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pattern() -> bytes:
    """A picture of a few kilobytes whose thumbnail has a hundred: what PNG finds simple is hard for WebP."""
    tile = np.random.default_rng(1).integers(0, 2, (32, 32), dtype=np.uint8) * 255
    file = io.BytesIO()
    Image.fromarray(np.tile(tile, (16, 16))).save(file, "PNG", optimize=True)
    return file.getvalue()


async def upload(http: httpx.AsyncClient, data: bytes) -> httpx.Response:
    return await http.post("/api/media", files={"file": ("a.png", data)})


@pytest.mark.parametrize(
    ("data", "leave_bytes"),
    [(noise(400), 60 << 10), (pattern(), 60 << 10), (noise(900), 60 << 10)],
    ids=["for the picture", "for its thumbnail", "for what has to wait on disk"],
)
async def test_an_upload_to_a_full_disk_answers_507_and_leaves_nothing(lean_studio, disk, data, leave_bytes):
    media = disk.folder / "media"
    studio = await lean_studio(workers=0, environment={"TINTYPE_STORAGE_URL": str(media)})
    book = Ledger(studio, media=media)
    assert (await upload(studio.http, noise(40))).status_code == 201
    before = set(files_in(media))
    disk.fill(studio, leave_bytes=leave_bytes)
    answers = await asyncio.gather(*(upload(studio.http, data) for _ in range(2)))
    for answer in answers:
        problems.check(answer, 507, "storage_full")
    assert set(files_in(media)) == before
    disk.free()
    assert (await upload(studio.http, data)).status_code == 201
    await book.check_files()


def test_the_pattern_is_small_and_its_thumbnail_is_not():
    thumbnail = encoding.thumbnail(decoding.decode(pattern(), decoding.Limits()).pixels)
    assert len(pattern()) < 40 << 10 < 80 << 10 < len(thumbnail)
