"""Places for files that become full, by what the system itself does: a small disk, and a limit on the size of files."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.processes import RunningStudio

SIZE_BYTES = 4 << 20


@dataclass
class SizeLimit:
    """Files of a studio's processes may not grow beyond a limit (RLIMIT_FSIZE): needs no rights and is everywhere.

    The system answers EFBIG, which means the same to storage as ENOSPC.
    """

    folder: Path
    limited: list[int] = field(default_factory=list[int])

    def fill(self, studio: RunningStudio, *, leave_bytes: int) -> None:
        """Let every further file have at most so many bytes."""
        processes = [process for process in (studio.api, *studio.workers) if process is not None]
        self.limited = [process.pid for process in processes]
        for pid in self.limited:
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (leave_bytes, hard))

    def free(self) -> None:
        """There is room again."""
        for pid in self.limited:
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


@dataclass
class SmallDisk:
    """A disk of four megabytes (tmpfs)."""

    folder: Path

    def fill(self, _studio: RunningStudio, *, leave_bytes: int) -> None:
        """Leave so many bytes on it."""
        room = os.statvfs(self.folder)
        (self.folder / "probe-ballast").write_bytes(b"0" * (room.f_bavail * room.f_frsize - leave_bytes))

    def free(self) -> None:
        """There is room again."""
        (self.folder / "probe-ballast").unlink()


Disk = SizeLimit | SmallDisk


@contextmanager
def mounted(folder: Path) -> Iterator[SmallDisk]:
    """A small disk at `folder`; the test is skipped where this process may not mount one."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tintype-test", folder]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here ({said.stderr.strip()}); the size limit shows the same fault")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
