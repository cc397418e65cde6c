"""One ComfyUI server over HTTP: typed questions, each with a time limit and named errors.

No `Origin` is sent: to one that differs from its own address the server answers 403. Proxies of the environment are
left aside, since a server under COMFYUI_URL is named by its address.
"""

import types
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import orjson

from tintype.comfy import refusals
from tintype.comfy.errors import (
    AccessError,
    AnswerError,
    BrokenServerError,
    TooSlowError,
    UnreachableError,
    WorkflowRefusedError,
)
from tintype.comfy.refusals import Graph


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long a server may take for what, in seconds.

    `connect_s`: until it accepts a connection. `answer_s`: until it answers; the list of its nodes is the slowest, as
    it looks through all folders of models. `transfer_s`: between two pieces of a file. `silence_s`: how long an open
    WebSocket is believed that says nothing, before the history is asked. `poll_s`: how often it is asked without
    a WebSocket. `absence_s`: how long a server may be away before its prompts are given up. `lag_s`: how long a prompt
    may be in neither queue nor history before it counts as forgotten. `cancel_s`: how long a prompt may take to end.
    """

    connect_s: float = 5.0
    answer_s: float = 60.0
    transfer_s: float = 60.0
    silence_s: float = 5.0
    poll_s: float = 0.5
    absence_s: float = 60.0
    lag_s: float = 3.0
    cancel_s: float = 15.0


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a server computes on; memory in bytes."""

    name: str
    type: str
    memory_bytes: int
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What a server says of itself; `arguments` are the words it was started with."""

    version: str
    torch_version: str
    devices: tuple[Device, ...]
    arguments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The ids of the prompts that run and wait, in the order in which they will run."""

    running: tuple[str, ...]
    waiting: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class File:
    """A file on a server; `node` is the one that made it and `kind` the list it stood in (`images`, `gifs`, …).

    SaveVideo lists its videos among `images`, and VHS_VideoCombine lists its among `gifs`, whatever format they have.
    """

    name: str
    subfolder: str = ""
    type: str = "output"
    node: str = ""
    kind: str = "images"
    is_animated: bool = False


class Server:
    """A ComfyUI server under `url`; a user and a password in it are sent along.

    `output_folder` is where its output lies, if that is a folder of this machine. `uploads` are the names under which
    it has files that were sent, by the names they were to have. Close it when it is no longer used.
    """

    def __init__(self, url: str, timeouts: Timeouts | None = None, *, output_folder: Path | None = None) -> None:
        self.timeouts = timeouts or Timeouts()
        self._address = httpx.URL(url.rstrip("/") + "/")
        self.output_folder = output_folder
        self.uploads: dict[str, str] = {}
        self._has_jobs = True  # until it says otherwise
        limits = httpx.Timeout(self.timeouts.answer_s, connect=self.timeouts.connect_s)
        headers = {"Accept-Encoding": "identity", "User-Agent": "tintype"}
        self._http = httpx.AsyncClient(base_url=self._address, timeout=limits, headers=headers, trust_env=False)

    @property
    def url(self) -> str:
        """The address without user and password; it names the server in tokens and logs."""
        return str(self._address.copy_with(userinfo=b"")).rstrip("/")

    def socket_url(self, client_id: str) -> str:
        """Where a WebSocket for `client_id` is opened; user and password included."""
        address = self._address.join("ws").copy_with(scheme="wss" if self._address.scheme == "https" else "ws")
        return str(address.copy_merge_params({"clientId": client_id}))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back the connections."""
        await self._http.aclose()

    async def stats(self) -> Stats:
        """Version and devices, as they are now."""
        found = await self._read("system_stats")
        system = found.get("system") or {}
        return Stats(
            version=str(system.get("comfyui_version", "unknown")),
            torch_version=str(system.get("pytorch_version", "unknown")),
            devices=tuple(
                Device(
                    name=str(each.get("name", "")),
                    type=str(each.get("type", "")),
                    memory_bytes=int(each.get("vram_total") or 0),
                    free_bytes=int(each.get("vram_free") or 0),
                )
                for each in found.get("devices") or ()
            ),
            arguments=tuple(map(str, system.get("argv") or ())),
        )

    async def remaining(self) -> int:
        """How many prompts run or wait."""
        return int((await self._read("prompt"))["exec_info"]["queue_remaining"])

    async def queue(self) -> Queue:
        """Which prompts run and wait."""
        found = await self._read("queue")
        waiting = sorted(found.get("queue_pending") or (), key=lambda item: float(item[0]))
        return Queue(
            running=tuple(str(item[1]) for item in found.get("queue_running") or ()),
            waiting=tuple(str(item[1]) for item in waiting),
        )

    async def object_info(self) -> Mapping[str, Mapping[str, Any]]:
        """All nodes the server has, as it describes them; choices of a model input are the files it has."""
        return await self._read("object_info")

    async def model_folders(self) -> tuple[str, ...]:
        """The names of the server's folders of models."""
        return tuple(map(str, await self._read("models")))

    async def models(self, folder: str) -> tuple[str, ...]:
        """The files in one of the server's folders of models, relative to it; empty if it has no such folder."""
        answer = await self.ask("GET", f"models/{folder}")
        return () if answer.status_code == 404 else tuple(map(str, self.json(answer)))

    async def history(self, prompt_id: str) -> Mapping[str, Any] | None:
        """What became of a prompt. None while it waits or runs, and of prompts the server does not know."""
        return (await self._read(f"history/{prompt_id}")).get(prompt_id)

    async def submit(
        self, graph: Graph, *, prompt_id: str, client_id: str, extra_data: Mapping[str, Any] | None = None
    ) -> None:
        """Queue a workflow. The server does not look whether it has the id already: it would run twice.

        Raises:
            WorkflowRefusedError: it is at fault, wholly or in part. If in part, the server runs the rest: cancel it.
            ComfyError: the server could not be asked, so it may have it and may not.
        """
        body = {"prompt": graph, "client_id": client_id, "prompt_id": prompt_id, "extra_data": dict(extra_data or {})}
        answer = await self.ask(
            "POST", "prompt", content=orjson.dumps(body), headers={"Content-Type": "application/json"}
        )
        if answer.status_code == 400:
            raise refusals.refusal(self.json(answer, status=400), graph)
        accepted = self.json(answer)
        if accepted.get("node_errors"):
            raise refusals.refusal(accepted, graph)
        if accepted.get("prompt_id") != prompt_id:
            raise WorkflowRefusedError("ComfyUI gave the prompt another id than was asked for; update ComfyUI.")

    async def end(self, prompt_id: str) -> bool:
        """Ask the server to end a prompt, waiting or running; False if it is too old to have a route for that.

        Unlike `interrupt` this cannot hit the next prompt where this one ends at the same moment.
        """
        if not self._has_jobs:
            return False
        answer = await self.ask("POST", f"api/jobs/{prompt_id}/cancel")
        self._has_jobs = answer.status_code not in (404, 405)
        if self._has_jobs:
            self.settle(answer)
        return self._has_jobs

    async def interrupt(self, prompt_id: str) -> None:
        """Break a prompt off if it is what runs; nothing happens else."""
        self.settle(await self.ask("POST", "interrupt", json={"prompt_id": prompt_id}))

    async def withdraw(self, prompt_id: str) -> None:
        """Take a prompt out of the queue if it waits; nothing happens else."""
        self.settle(await self.ask("POST", "queue", json={"delete": [prompt_id]}))

    async def forget(self, prompt_id: str) -> None:
        """Delete what the history holds of a prompt: its words and settings."""
        self.settle(await self.ask("POST", "history", json={"delete": [prompt_id]}))

    async def free(self, *, caches: bool = True) -> None:
        """Drop all models as soon as nothing runs, and with `caches` also what nodes gave."""
        self.settle(await self.ask("POST", "free", json={"unload_models": True, "free_memory": caches}))

    async def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        """The answer to any request, whatever its status."""
        async with self._named(path):
            return await self._http.request(method, path, **content)

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[httpx.Response]:
        """An answer whose body is still to come, piece by piece."""
        timeout = httpx.Timeout(self.timeouts.transfer_s, connect=self.timeouts.connect_s)
        async with self._named(path), self._http.stream("GET", path, params=params, timeout=timeout) as answer:
            yield answer

    async def _read(self, path: str) -> Any:
        return self.json(await self.ask("GET", path))

    @asynccontextmanager
    async def _named(self, path: str) -> AsyncGenerator[None]:
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise UnreachableError(f"No ComfyUI answers at {self.url}; start it, or correct COMFYUI_URL.") from error
        except httpx.TimeoutException as error:
            raise TooSlowError(f"ComfyUI at {self.url} did not answer /{path} in time; look at its log.") from error
        except httpx.TransportError as error:
            raise UnreachableError(
                f"ComfyUI at {self.url} cannot be reached ({type(error).__name__}); start it, or correct COMFYUI_URL."
            ) from error

    def json(self, answer: httpx.Response, *, status: int = 200) -> Any:
        """What an answer holds that has to be of this status."""
        if answer.status_code != status:
            self.settle(answer)
        try:
            return orjson.loads(answer.content)
        except orjson.JSONDecodeError as error:
            raise AnswerError(
                f"What answers at {self.url} is not ComfyUI, or something stands before it; correct COMFYUI_URL."
            ) from error

    def settle(self, answer: httpx.Response) -> None:
        """Let an answer of success pass, and raise what any other means."""
        status = answer.status_code
        if status in (401, 403, 407):
            raise AccessError(
                f"{self.url} lets this machine not in ({status}); put user and password into COMFYUI_URL."
            )
        if status >= 500:
            raise BrokenServerError(f"ComfyUI at {self.url} failed ({status}); look at its log.")
        if not 200 <= status < 300:
            raise AnswerError(f"{self.url} answers with status {status}, which ComfyUI does not; correct COMFYUI_URL.")
