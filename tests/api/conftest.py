"""One studio of real processes for all tests of the API, with clients that speak real HTTP to it."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import Servers
from tests.processes import RunningStudio


@pytest.fixture(scope="package")
async def studio(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStudio]:
    """A studio with one worker, shared: a test leaves no generation running and changes no setting."""
    running = RunningStudio(home=tmp_path_factory.mktemp("api") / "home", url=await servers.new_database())
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


@pytest.fixture
def http(studio: RunningStudio) -> httpx.AsyncClient:
    """A client of the shared studio."""
    return studio.http
