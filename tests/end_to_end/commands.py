"""`tintype` as processes of their own: started, asked to stop, and looked after."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.processes import free_port

COMMAND = [sys.executable, "-m", "tintype.cli"]
READY = re.compile(r"Tintype is ready: (http://\S+)")


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TINTYPE_", "DATABASE_URL"))}
    return {**kept, "TINTYPE_HOME": str(home), "TINTYPE_API_PORT": str(free_port()), "COLUMNS": "200", **more}


def start(home: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """`tintype ARGUMENTS`, with all it says in one pipe."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def heard(process: subprocess.Popen[str], pattern: str | re.Pattern[str]) -> str:
    """What the process says up to the line that `pattern` is found in."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if re.search(pattern, line):
            return said
    raise AssertionError(said)


def up(home: Path, *arguments: str, **more: str) -> tuple[subprocess.Popen[str], str]:
    """`tintype up`, and what it said up to being ready."""
    process = start(home, "up", *arguments, **more)
    return process, heard(process, READY)


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def ended(process: subprocess.Popen[str], begun: list[psutil.Process], *, timeout_s: float = 30) -> str:
    """What a process said to its end; of those it had begun none may be left."""
    said, _ = process.communicate(timeout=timeout_s)
    _, alive = psutil.wait_procs(begun, timeout=5)
    assert alive == [], said
    return said


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C, and nothing may be left."""
    begun = descendants(process)
    process.send_signal(signal.SIGINT)
    said = ended(process, begun)
    assert process.returncode == 0, said
