"""ComfyUI for tests: the stand-in, and a real server where COMFYUI_URL names one."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.standins.comfyui import server
from tests.standins.comfyui.server import ComfyUI
from tintype.comfy.client import Server, Timeouts

SOON = Timeouts(silence_s=0.5, poll_s=0.05, absence_s=5.0, lag_s=0.5, cancel_s=20.0)
"""Short where nothing is waited for but what a test does on purpose."""


@pytest.fixture
async def standin(tmp_path: Path) -> AsyncIterator[ComfyUI]:
    """A stand-in of this test alone."""
    async with server.running(tmp_path / "comfyui") as started:
        yield started


@pytest.fixture
async def client(standin: ComfyUI) -> AsyncIterator[Server]:
    """A client of it."""
    async with Server(standin.url, SOON) as connected:
        yield connected


@pytest.fixture(params=["standin", "real"])
async def comfyui(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    """A client of the stand-in, and then one of a real server, to which the same must apply."""
    if request.param == "real":
        if not os.environ.get("COMFYUI_URL"):
            pytest.skip("COMFYUI_URL names no real server")
        async with Server(os.environ["COMFYUI_URL"].split(",")[0].strip(), SOON) as connected:
            yield connected
    else:
        async with server.running(tmp_path / "comfyui") as started:
            started.faults.step_s = 0.005
            async with Server(started.url, SOON) as connected:
                yield connected
