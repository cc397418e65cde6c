"""Data folders for whole studios."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tintype.db import migrate, orphans
from tintype.db.embedded import EmbeddedPostgres


@pytest.fixture
def home() -> Iterator[Path]:
    """A data folder that does not exist yet; what lies in it is gone after the test, and databases kept apart too."""
    folder = Path(tempfile.mkdtemp(prefix="tintype-home-"))
    folder.chmod(0o755)
    yield folder / "data"
    shutil.rmtree(folder)
    for orphan in orphans.find():
        if orphan.data.is_relative_to(folder):
            subprocess.run(["sh", "-c", orphan.removal], check=True)


@pytest.fixture(scope="session")
def made_database() -> Iterator[Path]:
    """A stopped database with all tables, as a studio leaves it, to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="tintype-made-"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "postgres")
    try:
        asyncio.run(migrate.upgrade(server.start()))
        server.stop()
        yield server.data
    finally:
        server.stop(timeout_s=0.5)
        shutil.rmtree(folder)


@pytest.fixture
def used_home(home: Path, made_database: Path) -> Path:
    """A data folder that was used before: making its database is not what the test is about."""
    home.mkdir()
    subprocess.run(["cp", "-a", made_database, home / "postgres"], check=True)
    return home
