"""An API of a real process for the tests that hand it hostile files."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import Servers
from tests.processes import RunningStudio


@pytest.fixture(scope="package")
async def studio(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStudio]:
    """A studio without workers, shared: uploads are all that happens here."""
    running = RunningStudio(home=tmp_path_factory.mktemp("security") / "home", url=await servers.new_database())
    try:
        await running.start(workers=0)
        yield running
    finally:
        await running.stop()


@pytest.fixture
def http(studio: RunningStudio) -> httpx.AsyncClient:
    """A client of the shared studio."""
    return studio.http
