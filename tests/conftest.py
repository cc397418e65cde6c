"""Fixtures all tests share: a real PostgreSQL with the migrated tables, and whole studios of real processes."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.processes import RunningStudio
from tintype.db import migrate
from tintype.db import session as db
from tintype.db.embedded import EmbeddedPostgres

OWN_SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
"""PostgreSQL as Debian and Ubuntu install it, oldest first; 15 is the oldest that may be used."""


class Servers:
    """Databases on one PostgreSQL, each copied from a migrated template."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._template: str | None = None

    async def new_database(self) -> str:
        """The URL of a fresh database with all tables."""
        if self._template is None:
            template = await self._create(f"template_{uuid.uuid4().hex}", "template0")
            await migrate.upgrade(template)
            self._template = template.rpartition("/")[2]
        return await self._create(f"test_{uuid.uuid4().hex}", self._template)

    async def _create(self, name: str, template: str) -> str:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        finally:
            await connection.close()
        return self._url.rpartition("/")[0] + "/" + name


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedPostgres]:
    """The embedded server of this test run."""
    folder = Path(tempfile.mkdtemp(prefix="tintype-tests-"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "postgres")
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def servers(embedded: EmbeddedPostgres) -> Servers:
    """Fresh databases on the embedded server."""
    return Servers(embedded.start())


@pytest.fixture(scope="session")
def own_server() -> Iterator[Servers]:
    """Fresh databases on a PostgreSQL that is not ours: the user's own, reached by DATABASE_URL alone."""
    usable = [path.parent for path in OWN_SERVERS if int(path.parts[-3]) >= 15]
    if not usable:
        pytest.fail(
            "PostgreSQL 15 or newer is missing; `make test` installs it where it may, else install `postgresql`"
        )
    programs = usable[0]
    folder = Path(tempfile.mkdtemp(prefix="tintype-own-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    as_postgres = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    port = _free_port()

    def run(*command: str | Path) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd="/", **as_postgres)

    run(programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "owner")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    control = [programs / "pg_ctl", "-D", folder / "data", "-w"]
    run(*control, "-l", folder / "log", "-o", options, "start")
    yield Servers(f"postgresql://owner@127.0.0.1:{port}/postgres")
    run(*control, "-m", "immediate", "stop")
    shutil.rmtree(folder)


def _free_port() -> int:
    from tests.processes import free_port

    return free_port()


@pytest.fixture(params=["embedded", "own"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[db.Database]:
    """A fresh database, once on the embedded PostgreSQL and once on one of the user's own."""
    name = "servers" if request.param == "embedded" else "own_server"
    connected = db.connect(await request.getfixturevalue(name).new_database())
    yield connected
    await db.close(connected)


@pytest.fixture
async def database_url(servers: Servers) -> str:
    """The URL of a fresh database with all tables, on the embedded server."""
    return await servers.new_database()


@pytest.fixture
async def new_studio(database_url: str, tmp_path: Path) -> AsyncIterator[type[RunningStudio]]:
    """Start studios of real processes on a fresh database: `await new_studio(workers=2)`; all end with the test."""
    started: list[RunningStudio] = []

    async def start(**options: object) -> RunningStudio:
        studio = RunningStudio(home=tmp_path / f"home{len(started)}", url=database_url)
        started.append(studio)
        await studio.start(**options)
        return studio

    yield start
    for studio in started:
        await studio.stop()
