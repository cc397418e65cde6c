"""PostgreSQL restarted, and killed, under load: clients repeat with the same key, and nothing is lost or doubled."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.conftest import on_both_kinds
from tests.faults.conftest import lean_environment
from tests.faults.ledger import Ledger, until
from tests.own_postgres import OwnPostgres
from tests.processes import RunningStudio
from tintype.db import cluster, migrate
from tintype.db.embedded import EmbeddedPostgres

LOAD = 100


class StoppableEmbedded(EmbeddedPostgres):
    """The embedded server, which can be killed like `OwnPostgres`."""

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL and wait until it is gone."""
        running = cluster.postmaster(self.data / cluster.read(self.data).folder)
        os.kill(running.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while self.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)


Stoppable = StoppableEmbedded | OwnPostgres


@pytest.fixture
def stoppable(request: pytest.FixtureRequest) -> Iterator[Stoppable]:
    """A server of this test alone, which it may stop: one of each kind."""
    if request.param == "own":
        server = OwnPostgres()
        try:
            yield server
        finally:
            server.remove()
        return
    folder = Path(tempfile.mkdtemp(prefix="tintype-restart-"))
    folder.chmod(0o755)
    server = StoppableEmbedded(folder / "postgres")
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


async def submit(studio: RunningStudio, key: str, body: dict) -> tuple[str, int]:
    """Ask for one generation as a patient client does; its id, and how many tries that took."""
    for tries in range(1, 400):
        try:
            answer = await studio.http.post("/api/generate/image", json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code != 503:
            assert answer.status_code == 202, answer.text
            return answer.json()["id"], tries
        await asyncio.sleep(0.1)
    raise AssertionError(f"never accepted:\n{studio.logs()}")


async def submit_under(studio: RunningStudio, disturbance) -> tuple[list[str], int]:
    """Submit the load in five lanes while `disturbance` happens; the ids, and the tries that failed."""
    body = {"prompt": "anything", "model": "scripted", "num_images": 2, "options": {"step_s": 0.02}}
    accepted: list[tuple[str, int]] = []

    async def lane(number: int) -> None:
        for place in range(LOAD // 5):
            accepted.append(await submit(studio, f"{number}-{place}-{uuid.uuid4()}", body))
            await asyncio.sleep(0.02)

    lanes = asyncio.gather(*(lane(number) for number in range(5)))
    await until(lambda: len(accepted) >= LOAD // 5, "the load has begun")
    await asyncio.to_thread(disturbance)
    await lanes
    return [name for name, _ in accepted], sum(tries - 1 for _, tries in accepted)


AWAY_S = 4.0
"""Longer than the silence after which a worker counts as dead."""


def stopped_for_a_while(server: Stoppable) -> None:
    server.stop()
    time.sleep(AWAY_S)
    server.start()


def restarted(server: Stoppable) -> None:
    server.restart()


def killed(server: Stoppable) -> None:
    server.kill()
    server.start()


@pytest.mark.parametrize(
    ("stoppable", "disturb"),
    [
        pytest.param("embedded", restarted, id="embedded, restart"),
        pytest.param("embedded", stopped_for_a_while, id="embedded, away"),
        pytest.param("embedded", killed, id="embedded, kill -9"),
        pytest.param("own", restarted, id="own, restart"),
        pytest.param("own", killed, id="own, kill -9"),
    ],
    indirect=["stoppable"],
)
async def test_a_load_survives_the_database_going_away(stoppable, tmp_path, steps_noted, disturb):
    url = stoppable.start()
    await migrate.upgrade(url)
    studio = RunningStudio(home=tmp_path / "home", url=url)
    try:
        await studio.start(workers=2, environment=lean_environment(tmp_path))
        book = Ledger(studio)
        long = await book.ask(steps=45, options={"step_s": 0.2})
        await steps_noted(studio, long, 1)
        processes = [studio.api, *studio.workers]
        ids, repeated = await submit_under(studio, lambda: disturb(stoppable))
        assert len(set(ids)) == LOAD
        for name in ids:
            book.expect(name, pictures=2)
        rows = await book.check(timeout_s=90)
        assert len(await book.fetch("SELECT id FROM generations")) == LOAD + 1, "a repeated request made a second one"
        assert [process.poll() for process in processes] == [None, None, None]
        runs = [note for note in studio.notes(long) if note["what"] == "run"]
        assert len(runs) == 1, "what ran over the restart was begun again"
        print(f"{repeated} requests repeated; most attempts {max(row['attempt'] for row in rows.values())}")
        fresh = await book.ask()
        await studio.wait(fresh)
        await book.check()
    finally:
        await studio.stop()


async def end_connections(studio: RunningStudio) -> None:
    """End every connection of the studio to its database, again and again for a second and a half."""
    ending = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    admin = await asyncpg.connect(studio.url)
    try:
        assert len(await admin.fetch(ending)) >= 4
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            await admin.fetch(ending)
            await asyncio.sleep(0.005)
    finally:
        await admin.close()


@on_both_kinds
async def test_a_worker_takes_new_jobs_beside_a_long_one_that_runs_over_a_lost_connection(lean_studio, steps_noted):
    studio = await lean_studio(workers=1)
    book = Ledger(studio)
    long = await book.ask(ends=["cancelled"], steps=600, options={"step_s": 0.1})
    await steps_noted(studio, long, 1)
    await end_connections(studio)
    for _ in range(3):
        quick, _ = await submit(studio, str(uuid.uuid4()), {"prompt": "anything", "model": "scripted"})
        book.expect(quick)
        await studio.wait(quick)
    assert (await studio.read(long))["status"] == "processing"
    assert [note["what"] for note in studio.notes(long)].count("run") == 1
    await studio.http.post(f"/api/generate/{long}/cancel")
    await book.check()
    studio.workers[0].terminate()
    assert await asyncio.to_thread(studio.workers[0].wait, 20) == 0
