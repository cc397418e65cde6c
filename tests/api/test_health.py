"""What the studio says of itself when a part of it is away or hangs: always an answer, soon, and part by part."""

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from tests.api import problems
from tests.conftest import Servers
from tests.own_postgres import OwnPostgres
from tests.processes import RunningStudio
from tintype.api import vitals
from tintype.api.probes import Probe, ProbeSlowError

SOON_S = vitals.DEADLINE_S + 1.5


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[OwnPostgres]:
    """A PostgreSQL these tests may stop."""
    server = OwnPostgres(fsync=False)
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
async def unlucky(own_postgres: OwnPostgres, tmp_path_factory) -> AsyncIterator[RunningStudio]:
    """An API process whose database and storage come to harm."""
    url = await Servers(own_postgres.start()).new_database()
    running = RunningStudio(home=tmp_path_factory.mktemp("unlucky") / "home", url=url)
    try:
        await running.start(workers=0)
        yield running
    finally:
        await running.stop()


async def detailed(studio: RunningStudio) -> dict:
    """What `/health/detailed` says, which it says soon."""
    begun = time.monotonic()
    answer = await studio.http.get("/health/detailed")
    assert time.monotonic() - begun < SOON_S
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until(studio: RunningStudio, part: str, status: str) -> dict:
    async with asyncio.timeout(30):
        while (seen := await detailed(studio))[part]["status"] != status:
            await asyncio.sleep(0.2)
    return seen


async def test_a_studio_without_a_worker_is_degraded_and_says_how_to_start_one(unlucky):
    seen = await detailed(unlucky)
    assert seen["status"] == "degraded"
    assert (seen["staff"]["status"], seen["workers"]) == ("degraded", [])
    assert "tintype worker" in seen["staff"]["detail"]
    for part in ("database", "storage", "queue", "disk"):
        assert seen[part]["status"] == "ok", part
    assert seen["storage"]["detail"].startswith("a file was written, read and deleted in")


async def test_a_stopped_database_is_said_to_be_down_beside_the_parts_that_work(unlucky, own_postgres):
    own_postgres.stop(mode="immediate")
    try:
        seen = await detailed(unlucky)
        assert seen["status"] == "down"
        for part in ("database", "queue", "staff"):
            assert seen[part]["status"] == "down", part
            assert "cannot be reached" in seen[part]["detail"]
        assert seen["storage"]["status"] == seen["disk"]["status"] == "ok"
        assert seen["disk"]["free_bytes"] > 0
        assert (seen["workers"], seen["queue_depth"]) == ([], {})
        problems.check(await unlucky.http.get("/health"), 503, "database_unavailable")
    finally:
        own_postgres.start()
    assert (await until(unlucky, "database", "ok"))["queue"]["status"] == "ok"
    assert (await until(unlucky, "staff", "degraded"))["status"] == "degraded"


async def test_a_database_that_hangs_is_said_to_be_down_in_time_and_asked_once_at_a_time(unlucky, own_postgres):
    frozen = processes_of(own_postgres)
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    try:
        for seen in await asyncio.gather(*(detailed(unlucky) for _ in range(20))):
            assert seen["status"] == "down"
            assert "does not answer within 2 s" in seen["database"]["detail"]
            assert seen["storage"]["status"] == "ok"
        connections = psutil.Process(unlucky.api.pid).net_connections()
        port = int(unlucky.url.rpartition(":")[2].partition("/")[0])
        assert len([one for one in connections if one.raddr and one.raddr.port == port]) <= 6
        begun = time.monotonic()
        assert (await unlucky.http.get("/health")).status_code == 503
        assert time.monotonic() - begun < SOON_S
    finally:
        for process in frozen:
            process.send_signal(signal.SIGCONT)
    assert (await until(unlucky, "database", "ok"))["storage"]["status"] == "ok"


def processes_of(server: OwnPostgres) -> list[psutil.Process]:
    main = psutil.Process(int((server._data / "postmaster.pid").read_text().splitlines()[0]))
    return [main, *main.children()]


async def test_a_storage_that_refuses_is_said_to_be_down_and_comes_back(unlucky):
    folder = unlucky.home / "media"
    shutil.rmtree(folder)
    folder.write_text("not a folder")
    try:
        seen = await until(unlucky, "storage", "down")
        assert seen["status"] == "down"
        assert "storage cannot be used" in seen["storage"]["detail"]
        assert str(folder) not in str(seen)
        assert seen["database"]["status"] == "ok"
    finally:
        folder.unlink()
        folder.mkdir()
    assert (await until(unlucky, "storage", "ok"))["status"] == "degraded"


async def test_a_storage_that_hangs_is_said_to_be_down_in_time_and_asked_once_at_a_time(servers, tmp_path):
    asked = 0

    over = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    studio = RunningStudio(home=tmp_path / "home", url=await servers.new_database())
    environment = {
        "TINTYPE_STORAGE_URL": "s3://bucket/prefix",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    try:
        await studio.start(workers=0, environment=environment)
        for seen in await asyncio.gather(*(detailed(studio) for _ in range(20))):
            assert seen["status"] == "down"
            assert "does not answer within 2 s" in seen["storage"]["detail"]
            assert seen["database"]["status"] == "ok"
        assert asked == 1
    finally:
        await studio.stop()
        over.set()
        server.close()
        await asyncio.sleep(0.05)  # its connections end on this loop


async def test_what_a_probe_found_is_given_out_again_for_a_while_to_whoever_asks():
    looks = 0

    async def look() -> int:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.01)
        return looks

    probe = Probe(look, deadline_s=1, keep_s=0.2)
    assert set(await asyncio.gather(*(probe.result() for _ in range(50)))) == {1}
    assert await probe.result() == 1
    await asyncio.sleep(0.25)
    assert await probe.result() == 2


async def test_a_probe_that_hangs_is_given_up_in_the_end_and_tried_anew():
    looks = 0

    async def look() -> int:
        nonlocal looks
        looks += 1
        await asyncio.sleep(60 if looks == 1 else 0)
        return looks

    probe = Probe(look, deadline_s=0.05, give_up_s=0.2)
    for _ in range(3):
        with pytest.raises(ProbeSlowError):
            await probe.result()
    assert looks == 1
    await asyncio.sleep(0.2)
    assert await probe.result() == 2


async def test_what_a_probe_raises_reaches_everybody_who_waits_and_is_not_kept():
    async def look() -> int:
        await asyncio.sleep(0.01)
        raise OSError("broken")

    probe = Probe(look, deadline_s=1, keep_s=60)
    outcomes = await asyncio.gather(*(probe.result() for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["broken"] * 3
    with pytest.raises(OSError, match="broken"):
        await probe.result()
