"""Programs that open what strangers made, run where they can do little: `confined.py` says how little."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CONFINED = Path(__file__).with_name("confined.py")
MAX_SAID_BYTES = 1 << 20
# What programs need to find themselves; no token, no proxy, no path of the user's.
PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a program may use. `memory_bytes` counts addresses; None leaves it to the program to limit itself."""

    wall_s: float
    cpu_s: int
    memory_bytes: int | None
    file_bytes: int
    open_files: int = 256


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a program ended: its exit code (negative: the signal), what it wrote, and what confined it."""

    code: int
    output: bytes
    errors: bytes
    timed_out: bool
    without_network: bool
    writes_inside: bool


def run(
    command: Sequence[str],
    folder: Path,
    limits: Limits,
    *,
    extra: Mapping[str, str] | None = None,
    keep: Sequence[int] = (),
) -> Ended:
    """Run `command` (an absolute program and its arguments) confined to `folder`, to its end or `limits.wall_s`.

    It sees an environment of its own with `extra` added, no input, and of what this process has open only the files
    `keep`, under their numbers. Blocks: run it in a thread.
    """
    said, complaints = folder / ".output", folder / ".errors"
    reading, writing = os.pipe()
    wanted = {
        "folder": str(folder.resolve()),
        "memory_bytes": limits.memory_bytes,
        "cpu_s": limits.cpu_s,
        "file_bytes": limits.file_bytes,
        "open_files": limits.open_files,
        "report": writing,
    }
    with said.open("xb") as output, complaints.open("xb") as errors, os.fdopen(reading, "rb") as pipe:
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell; the program is ours
                [sys.executable, "-I", str(CONFINED), json.dumps(wanted), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=_environment(folder) | dict(extra or {}),
                pass_fds=(writing, *keep),
                start_new_session=True,
            )
        finally:
            os.close(writing)
        timed_out = _wait(process, limits.wall_s)
        report: dict[str, bool] = json.loads(pipe.readline() or b"{}")
    return Ended(
        code=process.returncode,
        output=_start_of(said),
        errors=_start_of(complaints),
        timed_out=timed_out,
        without_network=report.get("network", False) or report.get("namespace", False),
        writes_inside=report.get("writes", False),
    )


def _environment(folder: Path) -> dict[str, str]:
    own = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder)}
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | own


def _wait(process: subprocess.Popen[bytes], wall_s: float) -> bool:
    """Whether its time ran out; whatever happens, nothing of its group lives on."""
    try:
        process.wait(wall_s)
        return False
    except subprocess.TimeoutExpired:
        return True
    finally:
        with suppress(ProcessLookupError, PermissionError):  # all gone; macOS says so with "not permitted"
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_SAID_BYTES)
