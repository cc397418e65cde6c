"""Embedded servers of every kind: prepared, running, to be damaged."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.db.servers import ask
from tintype.db import embedded


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account reaches (pytest's own is 0700)."""
    path = Path(tempfile.mkdtemp(prefix="tintype-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make(folder: Path) -> Iterator[Callable[..., embedded.EmbeddedPostgres]]:
    """Make servers that are stopped at the end of the test."""
    made: list[embedded.EmbeddedPostgres] = []

    def make(data: Path = folder / "postgres", refuge: Path = folder / "refuge") -> embedded.EmbeddedPostgres:
        made.append(embedded.EmbeddedPostgres(data, refuge=refuge))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def prepared() -> Iterator[Path]:
    """A data folder whose database was made, and stopped."""
    path = Path(tempfile.mkdtemp(prefix="tintype-"))
    path.chmod(0o711)
    server = embedded.EmbeddedPostgres(path / "postgres", refuge=path / "refuge")
    server.start()
    server.stop()
    yield path / "postgres"
    shutil.rmtree(path)


@pytest.fixture
def server(prepared: Path) -> Iterator[embedded.EmbeddedPostgres]:
    """A stopped server with an empty log; its database is shared with other tests, without the table `kept`."""
    server = embedded.EmbeddedPostgres(prepared)
    ask(server.start(), "DROP TABLE IF EXISTS kept", "SELECT 1")
    server.stop()
    server.log_path.unlink()
    yield server
    server.stop()


@pytest.fixture
def disposable(make, prepared: Path, folder: Path) -> embedded.EmbeddedPostgres:
    """A stopped server with a database of its own, to be damaged."""
    subprocess.run(["cp", "-a", prepared, folder / "postgres"], check=True)
    return make()


@pytest.fixture(scope="session")
def served() -> Iterator[embedded.EmbeddedPostgres]:
    """One running server for the tests that only look at it."""
    path = Path(tempfile.mkdtemp(prefix="tintype-"))
    path.chmod(0o711)
    server = embedded.EmbeddedPostgres(path / "postgres", refuge=path / "refuge")
    os.environ["HF_TOKEN"] = "hf_do_not_pass_me_on"
    try:
        server.start()
    finally:
        del os.environ["HF_TOKEN"]
    yield server
    server.stop()
    shutil.rmtree(path)
