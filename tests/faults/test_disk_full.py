"""The disk fills up while pictures are stored."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.ledger import Ledger, files_in

SIZE_BYTES = 4 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that holds four megabytes and no more."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root; tests/storage shows the same fault by a file size limit")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tintype-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, *, leave_bytes: int) -> Path:
    room = os.statvfs(disk)
    ballast = disk / "probe-ballast"
    ballast.write_bytes(b"0" * (room.f_bavail * room.f_frsize - leave_bytes))
    return ballast


@pytest.mark.parametrize("leave_bytes", [0, 48 << 10], ids=["for nothing", "for some of the pictures"])
async def test_a_full_disk_fails_the_generation_after_its_retries_and_leaves_no_half_file(
    lean_studio, small_disk, leave_bytes
):
    environment = {"TINTYPE_STORAGE_URL": str(small_disk / "media"), "TINTYPE_WORKER_MAX_ATTEMPTS": "2"}
    studio = await lean_studio(workers=1, environment=environment)
    book = Ledger(studio, media=small_disk / "media")
    first = await book.ask(num_images=2)
    await studio.wait(first)
    before = set(files_in(small_disk / "media"))
    ballast = fill(small_disk, leave_bytes=leave_bytes)
    job = await book.ask(ends=["failed"], num_images=8, width=512, height=512, output_format="png")
    row = (await book.check())[job]
    assert row["error_code"] == "storage_full"
    assert (row["attempt"], [note["what"] for note in studio.notes(job)].count("run")) == (2, 2)
    read = await studio.read(job)
    assert (read["output_paths"], read["media"], read["error"]["code"]) == ([], [], "storage_full")
    assert set(files_in(small_disk / "media")) == before
    ballast.unlink()
    after = await book.ask(num_images=8)
    await studio.wait(after)
    await book.check()
