"""Workers that die with a video in their hands: it is made once, or fails, and nothing of it stays behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import videos
from tests.conftest import Servers
from tests.faults.ledger import Ledger, files_in, until
from tests.processes import RunningStudio
from tests.videos import ask, leftovers


@pytest.fixture
async def studio(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningStudio]:
    async with videos.studio(servers, tmp_path) as running:
        yield running


@pytest.mark.parametrize("options", [{"die": 2}, {"die_after": True, "as_file": "mp4"}], ids=["drawing", "stored"])
async def test_a_video_that_kills_its_workers_fails_and_leaves_no_file(studio, keep_workers, options):
    supervisor = asyncio.create_task(keep_workers(studio, exits=[]))
    try:
        asked = await ask(studio, options=options)
        failed = await studio.wait(asked["id"], timeout_s=120)
        assert (failed["status"], failed["attempt"], failed["media"]) == ("failed", 3, [])
        await until(lambda: leftovers(studio, asked["id"]) == [], "what the dead workers stored is deleted")
        assert await Ledger(studio).fetch("SELECT id FROM media") == []
    finally:
        supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await supervisor


async def test_a_worker_killed_while_it_encodes_leaves_the_video_to_the_next(studio, kill):
    asked = await ask(studio, width=512, height=512, frames=49)
    noted = await until(lambda: [note for note in studio.notes(asked["id"]) if note["what"] == "last_step"], "drawn")
    kill(noted[0]["pid"])
    assert (await studio.read(asked["id"]))["status"] == "processing", "it was killed too late to show anything"
    studio.start_worker()
    done = await studio.wait(asked["id"])
    assert (done["status"], done["attempt"], len(done["media"])) == ("completed", 2, 1)
    mine = [path.name for path in files_in(studio.home / "media") if asked["id"] in path.name]
    assert len(mine) == 3
    assert all(name.startswith(f"{asked['id']}-2-") for name in mine)
    assert files_in(videos.put_aside(studio)) == []
