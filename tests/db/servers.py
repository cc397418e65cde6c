"""Asking, finding and starting embedded servers, for the tests beside this file."""

import asyncio
import concurrent.futures.thread  # noqa: F401  a process that dropped its privileges may not find it later
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest

from tintype.db import embedded, privileges

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can put a server under another account")

STARTER = """
import pathlib, sys
from tintype.db import embedded
server = embedded.EmbeddedPostgres(pathlib.Path(sys.argv[1]))
url = server.start()
print("STARTED", server.owned, url, flush=True)
sys.stdin.read()
server.stop()
"""


def ask(url: str, *statements: str) -> object:
    """The first value that the last statement gives."""

    async def run() -> object:
        client = await asyncpg.connect(url, timeout=5)
        try:
            for statement in statements[:-1]:
                await client.execute(statement)
            return await client.fetchval(statements[-1])
        finally:
            await client.close()

    return asyncio.run(run())


def servers_of(data: Path) -> list[psutil.Process]:
    """Every process that has to do with a folder by its command line."""
    found = [p for p in psutil.process_iter(["cmdline"]) if str(data) in " ".join(p.info["cmdline"] or ())]
    return [p for p in found if p.pid != os.getpid() and p.info["cmdline"][0].endswith("postgres")]


def bare_initdb_s(folder: Path) -> float:
    """How long `initdb` alone takes right now: the yardstick on a machine that is busy with something else."""
    account = privileges.account_for()
    assert privileges.give_folder(folder / "bare", account)
    before = time.monotonic()
    privileges.run(account, [privileges.binaries(account) / "bin" / "initdb", folder / "bare"])
    return time.monotonic() - before


def fork_as_nobody(work: Callable[[], str]) -> str:
    """What `work` says in a forked process that has become `nobody` for good."""
    nobody = pwd.getpwnam("nobody")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            os.environ["HOME"] = nobody.pw_dir
            said = work()
        except BaseException as error:  # noqa: BLE001  told to the parent
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    return said


def spawn_starter(data: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def started(process: "subprocess.Popen[str]") -> tuple[bool, str]:
    """Whether a starter supervises, and the URL it got; read once it has started."""
    for line in process.stdout:
        if line.startswith("STARTED"):
            _, owned, url = line.split()
            return owned == "True", url
    raise AssertionError("the starter ended without starting")


def end(process: "subprocess.Popen[str]") -> None:
    process.communicate(timeout=30)


def start(data: Path) -> str:
    return embedded.EmbeddedPostgres(data).start()
