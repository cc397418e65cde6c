"""An API alone: no worker, and a database that goes away and comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.api import pictures, problems
from tests.processes import RunningStudio, free_port

PUBLIC = "https://studio.example"
BODY = {"prompt": "nobody draws this", "model": "scripted"}


class Wire:
    """A TCP relay to PostgreSQL that can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
        self._open.discard(writer)


@pytest.fixture(scope="module")
async def wire(servers) -> AsyncIterator[tuple[Wire, str]]:
    url = await servers.new_database()
    parts = urlsplit(url)
    relay = Wire(parts.hostname, parts.port)
    await relay.mend()
    yield relay, url.replace(f":{parts.port}/", f":{relay.port}/")
    await relay.cut()


@pytest.fixture(scope="module")
async def lonely(wire, tmp_path_factory) -> AsyncIterator[RunningStudio]:
    """An API process without a worker, that waits half a second for pictures and is known to others as `PUBLIC`."""
    running = RunningStudio(home=tmp_path_factory.mktemp("lonely") / "home", url=wire[1])
    try:
        await running.start(workers=0, environment={"TINTYPE_API_SYNC_WAIT_S": "0.5", "TINTYPE_API_PUBLIC_URL": PUBLIC})
        yield running
    finally:
        await running.stop()


async def test_health_is_degraded_without_a_worker(lonely):
    health = (await lonely.http.get("/health")).json()
    assert set(health) == {"status", "gpu_available", "timestamp"}
    assert (health["status"], health["gpu_available"]) == ("degraded", False)
    detailed = (await lonely.http.get("/health/detailed")).json()
    assert detailed["status"] == "degraded"
    assert detailed["workers"] == []
    assert detailed["database"]["status"] == detailed["storage"]["status"] == "ok"
    assert detailed["database"]["detail"].startswith("PostgreSQL 1")


async def test_health_is_good_with_one_and_names_what_is_broken(http):
    assert (await http.get("/health")).json()["status"] == "ok"
    detailed = (await http.get("/health/detailed")).json()
    [worker] = detailed["workers"]
    assert (worker["state"], set(worker["models"]) >= {"scripted", "sketch"}) == ("ready", True)
    assert detailed["providers"]["broken"]["status"] == "down"
    assert "tintype_that_is_not_there" in detailed["providers"]["broken"]["detail"]
    assert detailed["disk"]["free_bytes"] > 0


async def test_the_waiting_form_gives_the_id_when_it_takes_too_long(lonely):
    answer = await lonely.http.post("/generate", json={"prompt": "x", "extra_params": {"model": "scripted"}})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["status"], told["image"], told["error"]) == ("processing", None, None)
    assert (await lonely.read(told["task_id"]))["status"] == "queued"
    await lonely.http.delete(f"/api/generate/{told['task_id']}")


async def test_what_waits_is_cancelled_at_once(lonely):
    asked = await lonely.generate()
    answer = await lonely.http.post(f"/api/generate/{asked['id']}/cancel")
    assert answer.json()["status"] == "cancelled"
    seen = [event.type async for event in lonely.events(asked["id"])]
    assert seen == ["queued", "cancelled"]


async def test_a_waiting_line_counts_by_priority(lonely):
    waiting = [await lonely.generate(priority=priority) for priority in (0, 5, 0)]
    places = [await _first_place(lonely, asked["id"]) for asked in waiting]
    assert places == [1, 1, 3]
    assert [(await lonely.read(asked["id"]))["position"] for asked in waiting] == [2, 1, 3]
    listed = (await lonely.http.get("/api/generate", params={"status": "queued", "limit": 3})).json()["items"]
    assert [item["position"] for item in listed] == [3, 1, 2]
    depth = (await lonely.http.get("/health/detailed")).json()["queue_depth"]
    assert depth["text_to_image:scripted"] >= 3
    for asked in waiting:
        await lonely.http.delete(f"/api/generate/{asked['id']}")


async def _first_place(studio: RunningStudio, generation_id: str) -> int:
    stream = studio.events(generation_id)
    first = await anext(stream)
    await stream.aclose()
    return first.data["position"]


async def test_a_server_behind_a_proxy_answers_to_its_public_name_and_links_to_it(lonely):
    files = {"file": ("a.png", pictures.png(), "image/png")}
    for host in ("studio.example", lonely.address.removeprefix("http://")):
        answer = await lonely.http.post("/api/media", files=files, headers={"Host": host, "Origin": PUBLIC})
        assert answer.status_code == 201
        assert answer.json()["url"].startswith(f"{PUBLIC}/api/media/")
    answer = await lonely.http.get("/health", headers={"Host": "other.example"})
    problems.check(answer, 421, "host_unknown")


async def test_a_server_that_stops_ends_its_streams_and_does_not_wait_for_them(lonely):
    async with lonely.http.stream("GET", "/api/events") as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == "retry: 1000"
        lonely.api.terminate()
        async with asyncio.timeout(4):
            assert [line async for line in lines if line.startswith("data")] == []
    assert await asyncio.to_thread(lonely.api.wait, 4) is not None
    lonely.start_api()
    await lonely.wait_ready(workers=0)
    log = (lonely.home / "api.log").read_text()
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("GET", "/health", {}),
        ("GET", "/api/generate", {}),
        ("GET", "/api/generate/01a1fc6d-28f9-7341-b8cd-4bb7a55131da", {}),
        ("GET", "/api/generate/01a1fc6d-28f9-7341-b8cd-4bb7a55131da/events", {}),
        ("GET", "/api/events", {}),
        ("POST", "/api/generate/image", {"json": BODY}),
        ("POST", "/api/generate/image", {"json": BODY, "headers": {"Idempotency-Key": "k"}}),
        ("POST", "/generate", {"json": {"prompt": "x", "extra_params": {"model": "scripted"}}}),
        ("GET", "/api/media/01a1fc6d-28f9-7341-b8cd-4bb7a55131da/content", {}),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_without_the_database_a_request_is_told_to_come_back(cut_off, method, path, fields):
    answer = await cut_off.http.request(method, path, **fields)
    body = problems.check(answer, 503, "database_unavailable")
    assert "try again" in body["detail"]
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.fixture(scope="module")
async def cut_off(wire, lonely) -> AsyncIterator[RunningStudio]:
    """The lonely API while its database is out of reach."""
    await wire[0].cut()
    yield lonely
    await wire[0].mend()


async def test_what_needs_no_database_is_answered_all_the_same(cut_off):
    for path in ("/", "/api/models", "/api/styles", "/openapi.json"):
        assert (await cut_off.http.get(path)).status_code == 200


async def test_the_api_comes_back_with_its_database_and_its_log_kept_the_password(cut_off, wire):
    await wire[0].mend()
    try:
        async with asyncio.timeout(20):
            while (await cut_off.http.get("/api/generate")).status_code != 200:
                await asyncio.sleep(0.2)
        asked = await cut_off.generate()
        async with asyncio.timeout(20):
            assert (await anext(cut_off.events(asked["id"]))).type == "queued"
        log = (cut_off.home / "api.log").read_text()
        assert "database away" in log
        assert urlsplit(wire[1]).password not in log
        assert "Traceback" not in log
    finally:
        await wire[0].cut()
