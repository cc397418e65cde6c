"""A data folder for whole studios."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tintype.db import orphans


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
