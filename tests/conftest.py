"""Fixtures all tests share: a real PostgreSQL with the migrated tables, and whole studios of real processes."""

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.own_postgres import OwnPostgres
from tests.processes import RunningStudio
from tintype.db import migrate
from tintype.db import session as db
from tintype.db.embedded import EmbeddedPostgres

on_both_kinds = pytest.mark.parametrize("postgres", ["servers", "own_server"], indirect=True, ids=["embedded", "own"])
"""Runs a test once with its studio on the embedded PostgreSQL and once on one of the user's own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each file is run by one process, and all faults by the same one: they look at the clock, so never two at once."""
    for item in items:
        group = "faults" if item.path.parent.name == "faults" else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


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
    try:
        server.start()
        yield server
    finally:
        server.stop(timeout_s=0.5)  # nobody needs its last checkpoint
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def servers(embedded: EmbeddedPostgres) -> Servers:
    """Fresh databases on the embedded server."""
    return Servers(embedded.start())


@pytest.fixture(scope="session")
def own_server() -> Iterator[Servers]:
    """Fresh databases on a PostgreSQL that is not ours: the user's own, reached by DATABASE_URL alone."""
    server = OwnPostgres(fsync=False)
    try:
        yield Servers(server.start())
    finally:
        server.remove()


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Servers:
    """The PostgreSQL of this test's studio: the embedded one, or what `on_both_kinds` says."""
    return request.getfixturevalue(getattr(request, "param", "servers"))


@pytest.fixture(params=["embedded", "own"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[db.Database]:
    """A fresh database, once on the embedded PostgreSQL and once on one of the user's own."""
    name = "servers" if request.param == "embedded" else "own_server"
    connected = db.connect(await request.getfixturevalue(name).new_database())
    try:
        yield connected
    finally:
        await db.close(connected)


@pytest.fixture
async def database_url(postgres: Servers) -> str:
    """The URL of a fresh database with all tables."""
    return await postgres.new_database()


@pytest.fixture
async def new_studio(database_url: str, tmp_path: Path) -> AsyncIterator[type[RunningStudio]]:
    """Start studios of real processes on a fresh database: `await new_studio(workers=2)`; all end with the test."""
    started: list[RunningStudio] = []

    async def start(**options: object) -> RunningStudio:
        studio = RunningStudio(home=tmp_path / f"home{len(started)}", url=database_url)
        started.append(studio)
        await studio.start(**options)
        return studio

    try:
        yield start
    finally:
        await asyncio.gather(*(studio.stop() for studio in started))
