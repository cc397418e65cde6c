"""Why a ComfyUI installation will not start or has ended, told from what it said last."""

import re
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

TRACEBACK = "Traceback (most recent call last):"
LAST_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how it was started: what a sentence about its end names."""

    folder: Path
    python: Path
    port: int


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """What stands in its output when it ends of this, and the sentence to say: `{0}` is what the pattern caught."""

    pattern: re.Pattern[str]
    says: str


KNOWN = (
    Obstacle(
        pattern=re.compile(r"^ModuleNotFoundError: No module named '([^']+)'", re.MULTILINE),
        says="the Python package {0!r} is missing: run `{python} -m pip install -r {folder}/requirements.txt`",
    ),
    Obstacle(
        pattern=re.compile(r"\[Errno (?:98|48)\]|address already in use", re.IGNORECASE),
        says="port {port} was taken by another program meanwhile: choose another with --port",
    ),
    Obstacle(
        pattern=re.compile(r"\[Errno 28\]|No space left on device"),
        says="the disk is full ({free}): free some space there",
    ),
    Obstacle(
        pattern=re.compile(
            r"Torch not compiled with CUDA enabled|Found no NVIDIA driver|No CUDA GPUs are available"
            r"|CUDA driver version is insufficient|CUDA unknown error|CUDA error: no CUDA-capable device"
            r"|no kernel image is available"
        ),
        says="it found no CUDA device that its PyTorch can use: start it with --cpu, or install the driver and a "
        "PyTorch for it in {python}",
    ),
    Obstacle(
        pattern=re.compile(
            r"^(?:CUDA|HIP) out of memory|OutOfMemoryError|^MemoryError|can't allocate memory", re.MULTILINE
        ),
        says="memory ran out: end what else uses it, or pass `-- --lowvram`",
    ),
    Obstacle(
        pattern=re.compile(r"main\.py: error: (.+)"),
        says="its main.py does not take that: {0}",
    ),
    Obstacle(
        pattern=re.compile(r"PermissionError: \[Errno 13\] [^:]+: (.+)"),
        says="it may not use {0}: give this user the right to",
    ),
)


def explain(said: str, code: int, place: Place) -> str:
    """Why it ended, and what to do, from the end of what it `said` and its exit status (negative: a signal).

    Tracebacks that it caught stand in there as well, of custom nodes that it left out for instance: only the last
    counts.
    """
    if code < 0:
        name = signal.Signals(-code).name
        why = ", most often because memory ran out" if -code == signal.SIGKILL else ""
        return f"{name} ended it{why}{_last_words(said)}"
    last = said.rpartition(TRACEBACK)[2]
    for obstacle in KNOWN:
        if (found := obstacle.pattern.search(last)) is not None:
            names = {"folder": place.folder, "python": place.python, "port": place.port, "free": _free(place.folder)}
            return obstacle.says.format(*found.groups(), **names)
    return f"it ended with status {code}{_last_words(said)}"


def _free(folder: Path) -> str:
    """How much is left on the disks it writes to: its own folder's and the temporary one's."""
    return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free for {folder}"


def _last_words(said: str) -> str:
    lines = [line for line in said.replace("\r", "\n").splitlines() if line.strip()][-LAST_LINES:]
    return "; the end of what it said:\n" + "\n".join(lines) if lines else " without a word"
