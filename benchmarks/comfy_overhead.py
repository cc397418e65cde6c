"""What Tintype adds to a job over posting it to ComfyUI directly: both take turns in one run, on the same server.

    python -m benchmarks.comfy_overhead [--jobs 100] [--out FILE.json]

Without COMFYUI_URL the server is the stand-in of the tests, whose sampler takes no time: what is left of a job is what
ComfyUI's own messages and files cost. With it, a real server is asked, with `--checkpoint` and `--side`.

Directly: the WebSocket is open already, the prompt is posted, its end awaited, the history asked, the file read.
Through Tintype: a request is posted to the API, the end is heard on an open stream of events, the picture is fetched
from the link in it. Both begin with words and end with the bytes of a PNG. The second one has been checked, labelled,
signed, stored and recorded on the way.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
from websockets.asyncio.client import ClientConnection, connect

from benchmarks import outcome
from benchmarks.overhead import processor_s, spread
from tests.comfy import studios
from tests.processes import RunningStudio
from tintype.db import migrate
from tintype.db.embedded import EmbeddedPostgres

GOAL_MS = 20
ROOT = Path(__file__).parents[1]
BREATH_S = 0.05
"""Between two jobs, so that what one leaves to be tidied is not counted with the next."""


class Direct:
    """Posts to ComfyUI as its own page does."""

    def __init__(self, url: str, graph: dict[str, Any]) -> None:
        self._url = url
        self._graph = graph
        self._http = httpx.AsyncClient(base_url=url, timeout=600)
        self._client_id = uuid.uuid4().hex
        self._socket: ClientConnection | None = None

    async def open(self) -> None:
        """Open the WebSocket."""
        address = f"{self._url.replace('http', 'ws', 1)}/ws?clientId={self._client_id}"
        self._socket = await connect(address, max_size=None, compression=None)

    async def close(self) -> None:
        """Hang up."""
        assert self._socket is not None
        await self._socket.close()
        await self._http.aclose()

    async def draw(self, seed: int) -> bytes:
        """One picture, as a file."""
        assert self._socket is not None
        graph = json.loads(json.dumps(self._graph))
        graph[studios.KSAMPLER]["inputs"]["seed"] = seed
        graph[studios.SAVER]["inputs"]["filename_prefix"] = f"direct/{uuid.uuid4().hex}"
        answer = await self._http.post("/prompt", json={"prompt": graph, "client_id": self._client_id})
        prompt_id = answer.raise_for_status().json()["prompt_id"]
        while True:
            message = await self._socket.recv()
            if isinstance(message, str) and '"executing"' in message:
                data = orjson.loads(message)["data"]
                if data["node"] is None and data["prompt_id"] == prompt_id:
                    break
        outputs = (await self._http.get(f"/history/{prompt_id}")).json()[prompt_id]["outputs"]
        file = outputs[studios.SAVER]["images"][0]
        return (await self._http.get("/view", params=file)).raise_for_status().content


class Through:
    """Asks Tintype, as any client does."""

    def __init__(self, studio: RunningStudio, fields: dict[str, Any]) -> None:
        self._studio = studio
        self._fields = fields
        self._http = httpx.AsyncClient(base_url=studio.address, timeout=600)
        self._ended: dict[str, asyncio.Future[str]] = {}
        self._links: dict[str, str] = {}
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async with self._http.stream("GET", "/api/events", timeout=httpx.Timeout(600)) as answer:
            async for line in answer.aiter_lines():
                if not line.startswith("data: "):
                    continue
                event = orjson.loads(line[6:])
                generation_id, data = event["generation_id"], event["data"]
                if "media_id" in data:
                    self._links[generation_id] = data["url"]
                elif "media_ids" in data:
                    self._end(generation_id).set_result(self._links.pop(generation_id))
                elif "code" in data:
                    self._end(generation_id).set_exception(RuntimeError(data["message"]))

    def _end(self, generation_id: str) -> "asyncio.Future[str]":
        return self._ended.setdefault(generation_id, asyncio.get_running_loop().create_future())

    async def draw(self, seed: int) -> bytes:
        """One picture, as a file."""
        answer = await self._http.post("/api/generate/image", json={**self._fields, "seed": seed})
        link = await self._end(answer.raise_for_status().json()["id"])
        return (await self._http.get(link)).raise_for_status().content

    async def close(self) -> None:
        """Hang up."""
        self._listening.cancel()
        await self._http.aclose()


@asynccontextmanager
async def server_for(folder: Path) -> AsyncGenerator[str]:
    """The address of the real server that COMFYUI_URL names, or of a stand-in in a process of its own."""
    if url := os.environ.get("COMFYUI_URL"):
        yield url.split(",")[0].strip().rstrip("/")
        return
    command = [sys.executable, "-m", "tests.standins.comfyui", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@asynccontextmanager
async def studio_at(folder: Path, url: str, options: argparse.Namespace) -> AsyncGenerator[RunningStudio]:
    """An API and one worker on an embedded PostgreSQL, whose pictures that server makes."""
    postgres = EmbeddedPostgres(folder / "postgres")
    database = postgres.start()
    await migrate.upgrade(database)
    studio = RunningStudio(home=folder / "home", url=database)
    studios.add_workflows(studio, "drawn")
    await studio.start(environment=studios.environment(folder, url))
    try:
        yield studio
    finally:
        await studio.stop()
        postgres.stop()


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both, in turns: A B B A."""
    with tempfile.TemporaryDirectory(prefix="tintype-comfy-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        async with server_for(folder / "comfyui") as url, studio_at(folder, url, options) as studio:
            graph = studios.read_graph("txt2img")
            graph["4"]["inputs"]["ckpt_name"] = options.checkpoint
            graph["5"]["inputs"] |= {"width": options.side, "height": options.side}
            graph[studios.KSAMPLER]["inputs"]["steps"] = options.steps
            graph["6"]["inputs"]["text"], graph["7"]["inputs"]["text"] = "a boat", ""
            fields = {"prompt": "a boat", "model": "drawn", "steps": options.steps}
            fields |= {"width": options.side, "height": options.side, "options": {"checkpoint": options.checkpoint}}
            direct, through = Direct(url, graph), Through(studio, fields)
            await direct.open()
            await asyncio.sleep(1)
            taken: dict[str, list[float]] = {"direct": [], "through": []}
            before = processor_s(studio)
            for turn in range(options.jobs + options.warm):
                pair = [("direct", direct), ("through", through)]
                for which, contestant in pair if turn % 2 else pair[::-1]:
                    begun = time.perf_counter()
                    await contestant.draw(1000 + 2 * turn + (which == "direct"))
                    if turn >= options.warm:
                        taken[which].append((time.perf_counter() - begun) * 1000)
                    await asyncio.sleep(BREATH_S)
            spent = {part: spent_s - before[part] for part, spent_s in processor_s(studio).items()}
            await through.close()
            await direct.close()
            version = (httpx.get(f"{url}/system_stats").json()["system"])["comfyui_version"]
    added = [there - here for here, there in zip(taken["direct"], taken["through"], strict=True)]
    return {
        "server": f"ComfyUI {version}" if os.environ.get("COMFYUI_URL") else "the stand-in",
        "jobs": options.jobs,
        "direct_ms": spread(taken["direct"]),
        "through_tintype_ms": spread(taken["through"]),
        "added_ms": spread(added),
        "goal_p50_ms": GOAL_MS,
        "processor_ms_per_job": {
            part: round(spent_s / (options.jobs + options.warm) * 1000, 1) for part, spent_s in spent.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--warm", type=int, default=5)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--checkpoint", default=studios.CHECKPOINT)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    outcome.tell(asyncio.run(measure(options)), options.out)


if __name__ == "__main__":
    main()
