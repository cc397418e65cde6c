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


@pytest.fixture(scope="session")
def unets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny models around UNets, and with all that steers them."""
    from tests.engine.parity import unet_cases

    folder = tmp_path_factory.mktemp("unets")
    unet_cases.write_models(folder)
    return folder
