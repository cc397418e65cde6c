"""Studios for fault tests: real processes, without the engine where a test only needs the scripted provider."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Servers
from tests.faults.ledger import until
from tests.processes import PLUGINS, RunningStudio


def lean_environment(folder: Path) -> dict[str, str]:
    """Hides the engine: a distribution of the same name that comes first and declares no provider.

    A worker then starts and stops without PyTorch, which takes seconds of a busy machine.
    """
    metadata = folder / "lean" / "tintype-0.1.0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tintype\nVersion: 0.1.0\n")
    return {"PYTHONPATH": f"{metadata.parent}{os.pathsep}{PLUGINS}", "PYTHONSAFEPATH": "1"}


@pytest.fixture
async def lean_studio(new_studio, tmp_path: Path) -> Callable[..., Any]:
    """`new_studio` without the engine."""

    async def start(*, environment: dict[str, str] | None = None, **options: Any) -> RunningStudio:
        return await new_studio(environment={**lean_environment(tmp_path), **(environment or {})}, **options)

    return start


@pytest.fixture(scope="session")
async def calm_studios(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callable[..., Any]]:
    """One studio with one worker on each PostgreSQL that is asked for."""
    running: dict[Servers, RunningStudio] = {}

    async def on(postgres: Servers) -> RunningStudio:
        if postgres not in running:
            folder = tmp_path_factory.mktemp("calm")
            running[postgres] = RunningStudio(home=folder / "home", url=await postgres.new_database())
            await running[postgres].start(workers=1, environment=lean_environment(folder))
        return running[postgres]

    try:
        yield on
    finally:
        await asyncio.gather(*(studio.stop() for studio in running.values()))


@pytest.fixture
async def calm_studio(calm_studios, postgres: Servers) -> RunningStudio:
    """One studio with one worker for all tests that leave its processes alone."""
    return await calm_studios(postgres)


@pytest.fixture
def steps_noted() -> Callable[..., Any]:
    """Wait until a generation's provider has noted `count` steps in its `run`th run; the process that runs it."""

    async def wait(studio: RunningStudio, generation_id: str, count: int = 1, *, run: int = 1) -> int:
        def is_there() -> int:
            notes = studio.notes(generation_id)
            starts = [place for place, note in enumerate(notes) if note["what"] == "run"]
            if len(starts) < run:
                return 0
            mine = notes[starts[run - 1] :]
            return mine[0]["pid"] if sum(note["what"] == "step" for note in mine) >= count else 0

        return await until(is_there, f"step {count} of run {run}", timeout_s=40)

    return wait


@pytest.fixture
def kill() -> Callable[[int], float]:
    """Kill a process as the system would when memory runs out; the clock just before."""

    def send(pid: int) -> float:
        at = time.time()
        os.kill(pid, signal.SIGKILL)
        return at

    return send


@pytest.fixture
def keep_workers() -> Callable[..., Any]:
    """A small supervisor: starts a worker for each one of the studio's that ended, until it is cancelled."""

    async def supervise(studio: RunningStudio, *, exits: list[int]) -> None:
        while True:
            for worker in tuple(studio.workers):
                if worker.poll() is not None:
                    exits.append(worker.returncode)
                    studio.workers.remove(worker)
                    studio.start_worker()
            await asyncio.sleep(0.05)

    return supervise
