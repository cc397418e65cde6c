"""Engines shared by tests: real, on the CPU, with the built-in model."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.engine import engines


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Generator[engines.Engine]:
    with engines.running(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.fixture
def fresh_engine(tmp_path: Path) -> Generator[engines.Engine]:
    with engines.running(tmp_path) as running:
        yield running
