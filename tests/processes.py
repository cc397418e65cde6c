"""A studio of real processes for tests and benchmarks: an API and any number of workers on one database."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tintype import settings

PLUGINS = Path(__file__).parent / "plugins"
HELD: int = settings.Worker.model_fields["concurrency"].default
"""Jobs a worker holds at once unless it is told otherwise; the scripted provider takes as many."""
SCRIPTED = {
    "id": "scripted",
    "name": "Scripted",
    "description": "Draws one flat colour and does what the request's options say.",
    "kind": "checkpoint",
    "family": "scripted",
    "provider": "scripted",
    "loader": "remote",
    "tasks": ["text_to_image", "image_to_image", "inpaint", "upscale", "remove_background"],
    "features": ["negative_prompt"],
    "samplers": ["euler", "other"],
    "licence": {"id": "Apache-2.0", "commercial": "yes"},
    "prompt_languages": ["en"],
    "draws_people": False,
    "defaults": {"width": 64, "height": 64, "steps": 2, "guidance_scale": 1, "sampler": "euler"},
    "limits": {
        "min_side": 16,
        "max_side": 512,
        "multiple_of": 8,
        "max_pixels": 262144,
        "max_steps": 1000,
        "max_guidance_scale": 20,
    },
    "options": {
        "type": "object",
        "properties": {
            "step_s": {"type": "number"},
            "fail_times": {"type": "integer"},
            "fail_code": {"type": "string"},
            "die": {"type": "integer"},
            "elsewhere": {"type": "boolean"},
            "die_after": {"type": "integer"},
            "picture_s": {"type": "number"},
            "noise": {"type": "boolean"},
            "echo": {"type": "boolean"},
            "previews": {"type": "integer"},
        },
    },
}


@dataclass(frozen=True, kw_only=True)
class Event:
    """One Server-Sent Event."""

    id: int | None
    type: str
    data: dict[str, Any]


class RunningStudio:
    """An API process and worker processes on the database at `url`, with their data under `home`.

    The model `scripted` (a provider installed as a third party would) is there beside the built-in ones.
    """

    def __init__(self, *, home: Path, url: str) -> None:
        self.home = home
        self.url = url
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.api: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self.http = httpx.AsyncClient(base_url=self.address, timeout=60)
        self._environment: dict[str, str] = {}

    async def start(self, *, workers: int = 1, environment: Mapping[str, str] | None = None) -> None:
        """Start the API and `workers` workers and wait until all are ready."""
        (self.home / "models" / "scripted").mkdir(parents=True, exist_ok=True)
        (self.home / "models" / "scripted" / "manifest.json").write_text(json.dumps(SCRIPTED))
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TINTYPE_")},
            "DATABASE_URL": self.url,
            "TINTYPE_HOME": str(self.home),
            "TINTYPE_API_PORT": str(self.port),
            "PYTHONPATH": str(PLUGINS),
            **(environment or {}),
        }
        self.start_api()
        for _ in range(workers):
            self.start_worker()
        await self.wait_ready(workers=workers)

    def start_api(self) -> None:
        """Start the API process."""
        self.api = self.process("api")

    def start_worker(self, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start one more worker process."""
        worker = self.process("worker", environment=environment)
        self.workers.append(worker)
        return worker

    def process(self, *command: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start `tintype COMMAND` in this studio's environment, logging to `<home>/<command>.log`."""
        with (self.home / f"{command[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tintype.cli", *command],
                env={**self._environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def wait_ready(self, *, workers: int, timeout_s: float = 60.0) -> None:
        """Wait until the API answers and sees `workers` workers."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                health = (await self.http.get("/health/detailed")).json()
                if len(health.get("workers", [])) >= workers:
                    return
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)
        raise TimeoutError(f"studio not ready:\n{self.logs()}")

    async def generate(self, prompt: str = "anything", *, model: str = "scripted", **fields: Any) -> dict[str, Any]:
        """Ask for pictures; the waiting generation."""
        answer = await self.http.post("/api/generate/image", json={"prompt": prompt, "model": model, **fields})
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def read(self, generation_id: str) -> dict[str, Any]:
        """A generation as it stands."""
        answer = await self.http.get(f"/api/generate/{generation_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def wait(self, generation_id: str, *, timeout_s: float = 60.0) -> dict[str, Any]:
        """The generation once it has ended (asking again and again, also while the API is away)."""
        return await self.wait_for(generation_id, "completed", "failed", "cancelled", timeout_s=timeout_s)

    async def wait_for(self, generation_id: str, *statuses: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The generation once it has one of `statuses`."""
        deadline = time.monotonic() + timeout_s
        last: Any = None
        while time.monotonic() < deadline:
            try:
                answer = await self.http.get(f"/api/generate/{generation_id}")
                last = answer.json()
                if answer.status_code == 200 and last["status"] in statuses:
                    return last
            except httpx.HTTPError as error:
                last = error
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{generation_id} never was {statuses}; last seen {last}\n{self.logs()}")

    async def events(
        self, generation_id: str | None = None, *, last_event_id: int | None = None
    ) -> AsyncIterator[Event]:
        """Server-Sent Events of one generation, or of all."""
        path = f"/api/generate/{generation_id}/events" if generation_id else "/api/events"
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        async with self.http.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 200
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line == "" and "data" in fields:
                    body = json.loads(fields["data"])
                    event_id = int(fields["id"]) if "id" in fields else None
                    yield Event(id=event_id, type=fields["event"], data=body["data"])
                if line == "":
                    fields = {}
                elif not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value

    def notes(self, generation_id: str) -> list[dict[str, Any]]:
        """What the scripted provider noted of its runs of this generation: `{what, at, pid}`."""
        path = self.home / "scripted" / generation_id
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def logs(self) -> str:
        """The end of all logs, for a failing test's message."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.home.glob("*.log")))

    async def stop(self) -> None:
        """Stop every process; workers give back at once what they hold."""
        await self.http.aclose()
        processes = [process for process in (self.api, *self.workers) if process is not None]
        for process in processes:
            for number in (signal.SIGCONT, signal.SIGTERM, *([signal.SIGINT] if process in self.workers else [])):
                process.send_signal(number)
        await asyncio.gather(*(asyncio.to_thread(_end, process) for process in processes))


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]
