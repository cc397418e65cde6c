"""A PostgreSQL that is not Tintype's: the system's programs, reached by DATABASE_URL alone, as a user's own is."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.processes import free_port

OLDEST = 15
"""The oldest version that may be used, and the one the tests take where there are several."""


class OwnPostgres:
    """A fresh server in a folder of its own; it can be stopped, killed and started again on the same port."""

    def __init__(self, *, fsync: bool = True) -> None:
        self._programs = _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="tintype-own-"))
        self._account = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        if self._account:
            shutil.chown(self._folder, "postgres", "postgres")
        port = free_port()
        self._url = f"postgresql://owner@127.0.0.1:{port}/postgres"
        self._options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        if not fsync:
            self._options += " -c fsync=off"
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", "owner")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> str:
        """Start the server if it does not run; its URL."""
        if not self.is_running():
            self._control("-l", self._folder / "log", "-o", self._options, "start")
        return self._url

    def stop(self, *, mode: str = "fast") -> None:
        """Stop the server, ending its connections."""
        if self.is_running():
            self._control("-m", mode, "stop")

    def restart(self) -> None:
        """Stop it and start it again at once."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL and wait until nothing of it serves."""
        os.kill(int((self._data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while self.is_running():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def is_running(self) -> bool:
        """Whether the postmaster is there."""
        return subprocess.run(
            [self._programs / "pg_ctl", "-D", self._data, "status"],
            check=False, capture_output=True, cwd="/", **self._account,
        ).returncode == 0  # fmt: skip

    def remove(self) -> None:
        """Stop it and delete its files."""
        self.stop(mode="immediate")
        shutil.rmtree(self._folder)

    def _control(self, *arguments: str | Path) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", *arguments)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **self._account)


def _programs() -> Path:
    """The folder of `initdb` and `pg_ctl` as Debian and Ubuntu install them."""
    found = {int(path.parts[-3]): path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")}
    usable = sorted(version for version in found if version >= OLDEST)
    if not usable:
        pytest.fail(
            "PostgreSQL 15 or newer is missing; `make test` installs it where it may, else install `postgresql`"
        )
    return found[usable[0]]
