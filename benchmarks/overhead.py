"""What Tintype itself costs: latency and throughput of the whole path with a provider that does nothing, and footprint.

    python -m benchmarks.overhead [--requests 200] [--jobs 1500] [--out FILE.json]

Everything is real (API and worker processes, embedded PostgreSQL, files on disk); only the drawing is left out. The
provider is installed as a third party's would be and notes the clock at its first and last step.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil

from benchmarks import outcome
from tests.processes import PLUGINS, RunningStudio
from tintype.db import migrate
from tintype.db.embedded import EmbeddedPostgres

GOALS = {"post_to_first_step_ms": 15, "last_step_to_completed_ms": 25, "jobs_per_s": 150}
CLIENTS = 16


class Completions:
    """When each generation was reported completed, seen over one Server-Sent Events stream."""

    def __init__(self, studio: RunningStudio) -> None:
        self.at: dict[str, float] = {}
        self._studio = studio
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        timeout = httpx.Timeout(10, read=None)
        async with (
            httpx.AsyncClient(base_url=self._studio.address, timeout=timeout) as http,
            http.stream("GET", "/api/events") as answer,
        ):
            async for line in answer.aiter_lines():
                if line.startswith("data: ") and '"completed"' in line:
                    self.at[orjson.loads(line[6:])["generation_id"]] = time.time()

    async def wait(self, ids: list[str], *, timeout_s: float) -> None:
        """Return when all of `ids` have completed."""
        async with asyncio.timeout(timeout_s):
            while not all(name in self.at for name in ids):
                await asyncio.sleep(0.005)

    def stop(self) -> None:
        """Close the stream."""
        self._task.cancel()


class Connection:
    """A keep-alive HTTP/1.1 connection that costs the client next to nothing, so that it is not what is measured."""

    def __init__(self, studio: RunningStudio) -> None:
        self._studio = studio

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._studio.port)

    async def post(self, body: bytes) -> str:
        """Ask for a picture; the generation's id."""
        head = f"POST /api/generate/image HTTP/1.1\r\nHost: 127.0.0.1:{self._studio.port}\r\n"
        self._writer.write(
            f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        header = await self._reader.readuntil(b"\r\n\r\n")
        assert header.startswith(b"HTTP/1.1 202"), header
        length = int(header.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return orjson.loads(await self._reader.readexactly(length))["id"]

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def body(number: int) -> bytes:
    """A request for one small picture."""
    return orjson.dumps({"prompt": f"job {number}", "model": "scripted", "seed": number, "steps": 2})


async def latency(studio: RunningStudio, seen: Completions, count: int) -> dict[str, Any]:
    """One request at a time: POST to first step, last step to `completed` at the client, in milliseconds."""
    connection = Connection(studio)
    await connection.open()
    first: list[float] = []
    last: list[float] = []
    for number in range(count):
        begun = time.time()
        name = await connection.post(body(number))
        await seen.wait([name], timeout_s=30)
        notes = {note["what"]: note["at"] for note in reversed(studio.notes(name))}
        first.append((notes["step"] - begun) * 1000)
        last.append((seen.at[name] - notes["last_step"]) * 1000)
        await asyncio.sleep(0.01)
    connection.close()
    warm = count // 10
    return {
        "requests": count - warm,
        "post_to_first_step_ms": spread(first[warm:]),
        "last_step_to_completed_ms": spread(last[warm:]),
    }


async def throughput(studio: RunningStudio, seen: Completions, count: int) -> dict[str, Any]:
    """`count` jobs from 16 connections at once: jobs per second from the first POST to the last `completed`."""
    numbers = iter(range(count))
    names: list[str] = []

    async def client() -> None:
        connection = Connection(studio)
        await connection.open()
        for number in numbers:
            names.append(await connection.post(body(number)))  # noqa: PERF401  they are seen while they grow
        connection.close()

    begun, before = time.time(), processor_s(studio)
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    posted = time.time()
    await seen.wait(names, timeout_s=300)
    ended = max(seen.at[name] for name in names)
    return {
        "jobs": count,
        "posts_per_s": count / (posted - begun),
        "jobs_per_s": count / (ended - begun),
        "processor_ms_per_job": {
            part: round((spent_s - before[part]) / count * 1000, 2) for part, spent_s in processor_s(studio).items()
        },
    }


def processor_s(studio: RunningStudio) -> dict[str, float]:
    """The processor time that API and worker have taken so far: on a busy machine it tells more than the clock."""
    assert studio.api is not None
    times = {
        "api": psutil.Process(studio.api.pid).cpu_times(),
        "worker": psutil.Process(studio.workers[0].pid).cpu_times(),
    }
    return {part: spent.user + spent.system for part, spent in times.items()}


def spread(values: list[float]) -> dict[str, float]:
    """p50 and p95."""
    cuts = statistics.quantiles(values, n=20)
    return {"p50": round(statistics.median(values), 2), "p95": round(cuts[18], 2)}


def footprint(folder: Path) -> dict[str, Any]:
    """`tintype up` started a second time: seconds to healthy, and memory (PSS) with `sketch` loaded and idle."""
    environment = {**os.environ, "TINTYPE_HOME": str(folder), "TINTYPE_API_PORT": "0"}
    environment.pop("DATABASE_URL", None)
    took_s: list[float] = []
    memory: dict[str, float] = {}
    for _ in range(4):
        begun = time.perf_counter()
        command = [sys.executable, "-m", "tintype.cli", "up"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            while b"Tintype is ready" not in process.stdout.readline():
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
            took_s.append(time.perf_counter() - begun)
            time.sleep(12)
            memory = megabytes(process.pid)
            process.terminate()
    return {
        "first_start_s": round(took_s[0], 2),
        "warm_start_s": round(statistics.median(took_s[1:]), 2),
        "memory_mb": memory,
    }


def megabytes(pid: int) -> dict[str, float]:
    """Proportional memory of the studio's processes, by part."""
    parts: dict[str, float] = {}
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        words = process.cmdline()
        name = "postgres" if "postgres" in words[0] else words[-1]
        parts[name] = parts.get(name, 0.0) + process.memory_full_info().pss / 1e6
    parts["all"] = sum(parts.values())
    return {name: round(value, 1) for name, value in parts.items()}


@asynccontextmanager
async def studio_in(folder: Path) -> AsyncGenerator[RunningStudio]:
    """An API and one worker on an embedded PostgreSQL."""
    server = EmbeddedPostgres(folder / "postgres")
    url = server.start()
    await migrate.upgrade(url)
    studio = RunningStudio(home=folder / "home", url=url)
    await studio.start(environment={"TINTYPE_WORKER_CONCURRENCY": "16"})
    try:
        yield studio
    finally:
        await studio.stop()
        server.stop()


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="tintype-overhead-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        async with studio_in(folder) as studio:
            await asyncio.sleep(8)  # the worker loads its default model meanwhile
            seen = Completions(studio)
            await asyncio.sleep(0.5)
            found = await latency(studio, seen, options.requests)
            found |= {"throughput": [await throughput(studio, seen, options.jobs) for _ in range(3)]}
            seen.stop()
        found["footprint"] = await asyncio.to_thread(footprint, folder / "up")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1500)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(PLUGINS)
    outcome.tell(asyncio.run(measure(options)), options.out)


if __name__ == "__main__":
    main()
