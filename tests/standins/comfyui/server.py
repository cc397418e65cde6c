"""The stand-in itself: the routes and the WebSocket of ComfyUI, its queue and history, in this process."""

import asyncio
import contextlib
import copy
import heapq
import json
import socket
import struct
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.standins.comfyui.checking import Checked
from tests.standins.comfyui.drawing import DATA
from tests.standins.comfyui.running import Faults, Prompt, Run

FEATURES = {"supports_preview_metadata": True, "max_upload_size": 104857600}
MODEL_INPUTS = {
    "checkpoints": ("CheckpointLoaderSimple", "ckpt_name"),
    "loras": ("LoraLoader", "lora_name"),
    "vae": ("VAELoader", "vae_name"),
    "controlnet": ("ControlNetLoader", "control_net_name"),
    "diffusion_models": ("UNETLoader", "unet_name"),
    "text_encoders": ("CLIPLoader", "clip_name"),
}
"""Which node's choices list the files of a folder of models."""


class Memory:
    """All that a real server loses when it ends."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, int, Prompt]] = []
        self.running: Prompt | None = None
        self.history: dict[str, Any] = {}
        self.cache: dict[str, Any] = {}
        self.sockets: dict[str, WebSocket] = {}
        self.flagged: set[str] = set()
        self.count = 0
        self.client_id: str | None = None
        self.last_node: str | None = None
        self.is_to_free = False
        self.news = asyncio.Event()


class OnlyOwnOrigin:
    """Refuses what a page of another site sends to a server on this machine."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        origin, host = headers.get(b"origin", b"").decode(), headers.get(b"host", b"").decode()
        if origin and urlsplit(origin).netloc != host:
            await Response(status_code=403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class ComfyUI:
    """A server on the loopback with its files under `folder`; `nodes` is what `/object_info` says, and may be changed.

    `requests` are the methods and paths it was asked with. `kill` and `start` again is what a crash and a restart are:
    address and files stay, queue and history go.
    """

    def __init__(self, folder: Path, *, version: str = "0.3.64", port: int = 0) -> None:
        self.version = version
        self.port = port
        self.faults = Faults()
        self.nodes: dict[str, Any] = json.loads((DATA / "object_info.json").read_text())
        self.folders = {name: folder / name for name in ("input", "output", "temp")}
        self.requests: list[tuple[str, str]] = []
        self.freed = 0
        self._under_way: set[asyncio.Task[None]] = set()
        for path in self.folders.values():
            path.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory(self) -> Memory:
        return self._memory

    @property
    def connections(self) -> int:
        """How many are open, of both kinds."""
        return len(self._server.server_state.connections)

    def offer(self, folder: str, *names: str) -> None:
        """Have these files of models."""
        node, name = MODEL_INPUTS[folder]
        self.nodes[node]["input"]["required"][name][0] = list(names)

    async def start(self) -> "ComfyUI":
        """Listen, with an empty memory, on the port of before where there was one."""
        self._memory = Memory()
        # Named as TCP, so that asyncio sends what is small at once, as a real server does.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(
            self._app(), log_level="error", ws="websockets-sansio", lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._server.capture_signals = contextlib.nullcontext
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        self._working = asyncio.create_task(self._work(self._memory))
        while not self._server.started:
            await asyncio.sleep(0.001)
        return self

    async def stop(self) -> None:
        """End, politely or not: nobody is left waiting."""
        await self.kill()

    async def kill(self) -> None:
        """End as a killed process does: connections break, nobody is told, nobody is listening."""
        self._working.cancel()
        for listener in self._server.servers:
            listener.close()
        self._cut()
        self._server.should_exit = self._server.force_exit = True
        await asyncio.gather(self._serving, self._working, return_exceptions=True)

    def _cut(self, scope: Scope | None = None) -> None:
        """Break all connections, or the one of a WebSocket."""
        for connection in list(self._server.server_state.connections):
            if scope is None or getattr(connection, "scope", None) is scope:
                connection.transport.abort()

    def drop_sockets(self) -> None:
        """Break the WebSockets, as a network does."""
        for connected in list(self._memory.sockets.values()):
            self._cut(connected.scope)

    def _app(self) -> Starlette:
        routes = [
            WebSocketRoute("/ws", self._ws),
            Route("/prompt", self._post_prompt, methods=["POST"]),
            Route("/prompt", self._get_prompt),
            Route("/queue", self._post_queue, methods=["POST"]),
            Route("/queue", self._get_queue),
            Route("/history", self._post_history, methods=["POST"]),
            Route("/history/{id}", self._get_history),
            Route("/interrupt", self._post_interrupt, methods=["POST"]),
            Route("/free", self._post_free, methods=["POST"]),
            Route("/upload/image", self._post_upload, methods=["POST"]),
            Route("/view", self._view),
            Route("/system_stats", self._stats),
            Route("/object_info", self._object_info),
            Route("/models", self._model_folders),
            Route("/models/{folder}", self._models),
        ]
        if not self.version.startswith("0.3."):
            routes.append(Route("/jobs/{id}/cancel", self._cancel_job, methods=["POST"]))
        return Starlette(routes=[*routes, Mount("/api", routes=routes)], middleware=[Middleware(OnlyOwnOrigin)])

    async def _ws(self, connected: WebSocket) -> None:
        memory = self._memory
        sid = connected.query_params.get("clientId") or uuid.uuid4().hex
        if self.faults.no_sockets:
            await connected.close()
            return
        await connected.accept()
        memory.sockets[sid] = connected
        memory.flagged.discard(sid)
        try:
            await self._send(memory, "status", {**self._status(memory), "sid": sid}, sid)
            if memory.client_id == sid and memory.last_node is not None:
                await self._send(memory, "executing", {"node": memory.last_node}, sid)
            is_first = True
            while True:
                message = json.loads(await connected.receive_text())
                if is_first and message.get("type") == "feature_flags":
                    if message["data"].get("supports_preview_metadata"):
                        memory.flagged.add(sid)
                    await self._send(memory, "feature_flags", FEATURES, sid)
                is_first = False
        except WebSocketDisconnect:
            pass
        finally:
            memory.sockets.pop(sid, None)  # of whichever connection has the id now, as the real one does
            memory.flagged.discard(sid)

    async def _send(self, memory: Memory, kind: str | int, data: Any, sid: str | None) -> None:
        receivers = [memory.sockets[sid]] if sid in memory.sockets else list(memory.sockets.values())
        for connected in receivers if sid is None or sid in memory.sockets else ():
            with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):  # it went away meanwhile
                if isinstance(kind, int):
                    await connected.send_bytes(struct.pack(">I", kind) + data)
                else:
                    await connected.send_text(json.dumps({"type": kind, "data": data}))

    async def _send_late(self, memory: Memory, kind: str | int, data: Any, sid: str | None) -> None:
        if not self.faults.late_s:
            await self._send(memory, kind, data, sid)
            return

        async def send() -> None:
            await asyncio.sleep(self.faults.late_s)
            await self._send(memory, kind, data, sid)

        task = asyncio.create_task(send())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _work(self, memory: Memory) -> None:
        while True:
            await memory.news.wait()
            memory.news.clear()
            while memory.waiting:
                prompt = memory.running = heapq.heappop(memory.waiting)[2]
                await self._changed(memory)
                await self._run(memory, prompt)
            if memory.is_to_free:
                memory.is_to_free = False
                memory.cache.clear()

    async def _run(self, memory: Memory, prompt: Prompt) -> None:
        sid = memory.client_id = prompt.extra.get("client_id")
        sent = 0

        async def send(kind: str | int, data: Any) -> None:
            nonlocal sent
            if kind == "executing":
                memory.last_node = data["node"]
            if sid is None and isinstance(kind, str) and kind.startswith("execut"):
                return  # without a client only progress and previews go out, to everybody
            await self._send_late(memory, kind, data, sid)
            sent += 1
            if self.faults.drop_after == sent:
                self.faults.drop_after = None
                self.drop_sockets()
            if self.faults.die_after == sent:
                self.faults.die_after = None
                self._killing = asyncio.create_task(self.kill())
                await asyncio.sleep(60)

        run = Run(
            prompt=prompt,
            nodes=self.nodes,
            cache=memory.cache,
            faults=self.faults,
            folders=self.folders,
            has_flags=sid in memory.flagged,
            send=send,
        )
        entry = await run.perform()
        memory.last_node = None
        await asyncio.sleep(self.faults.race_s)
        memory.running = None
        if self.faults.lag_s:
            asyncio.get_running_loop().call_later(self.faults.lag_s, memory.history.__setitem__, prompt.id, entry)
        else:
            memory.history[prompt.id] = entry
        await self._changed(memory)
        if sid is not None:
            await self._send_late(memory, "executing", {"node": None, "prompt_id": prompt.id}, sid)

    def _status(self, memory: Memory) -> dict[str, Any]:
        remaining = len(memory.waiting) + (memory.running is not None)
        return {"status": {"exec_info": {"queue_remaining": remaining}}}

    async def _changed(self, memory: Memory) -> None:
        await self._send(memory, "status", self._status(memory), None)

    async def _post_prompt(self, request: Request) -> Response:
        body = await self._body(request)
        memory = self._memory
        if "prompt" not in body:
            said = "No prompt provided"
            error = {"type": "no_prompt", "message": said, "details": said, "extra_info": {}}
            return JSONResponse({"error": error, "node_errors": {}}, status_code=400)
        prompt_id = str(body.get("prompt_id") or uuid.uuid4())
        if not self.version.startswith("0.3.") and not _is_canonical(prompt_id):
            error = {
                "type": "invalid_prompt_id",
                "message": "prompt_id must be a UUID",
                "details": "",
                "extra_info": {},
            }
            return JSONResponse({"error": error, "node_errors": {}}, status_code=400)
        graph = copy.deepcopy(body["prompt"])
        checked = Checked(graph, self.nodes, self._has_upload, self.version)
        if checked.error:
            return JSONResponse({"error": checked.error, "node_errors": checked.node_errors}, status_code=400)
        extra = {**body.get("extra_data", {}), **({"client_id": body["client_id"]} if "client_id" in body else {})}
        number = -memory.count if body.get("front") else memory.count
        memory.count += 1
        prompt = Prompt(number=number, id=prompt_id, graph=graph, extra=extra, outputs=checked.outputs)
        heapq.heappush(memory.waiting, (number, memory.count, prompt))
        await self._changed(memory)
        memory.news.set()
        if self.faults.lost_answers > 0:
            self.faults.lost_answers -= 1
            self._cut(request.scope)
        return JSONResponse({"prompt_id": prompt_id, "number": number, "node_errors": checked.node_errors})

    async def _get_prompt(self, request: Request) -> Response:
        self._note(request)
        return JSONResponse(self._status(self._memory)["status"])

    async def _get_queue(self, request: Request) -> Response:
        self._note(request)
        running = self._memory.running
        waiting = [entry[2].listed() for entry in self._memory.waiting]
        return JSONResponse({"queue_running": [running.listed()] if running else [], "queue_pending": waiting})

    async def _post_queue(self, request: Request) -> Response:
        body = await self._body(request)
        memory = self._memory
        while self.faults.begins_first and any(entry[2].id in body.get("delete", ()) for entry in memory.waiting):
            await asyncio.sleep(0.001)
        gone = {entry[2].id for entry in memory.waiting} if body.get("clear") else set(body.get("delete", ()))
        memory.waiting = [entry for entry in memory.waiting if entry[2].id not in gone]
        heapq.heapify(memory.waiting)
        await self._changed(memory)
        return Response()

    async def _get_history(self, request: Request) -> Response:
        self._note(request)
        found = self._memory.history.get(request.path_params["id"])
        return JSONResponse({} if found is None else {request.path_params["id"]: found})

    async def _post_history(self, request: Request) -> Response:
        body = await self._body(request)
        for prompt_id in list(self._memory.history) if body.get("clear") else body.get("delete", ()):
            self._memory.history.pop(prompt_id, None)
        return Response()

    async def _post_interrupt(self, request: Request) -> Response:
        wanted = (await self._body(request)).get("prompt_id")
        running = self._memory.running
        if running is not None and wanted in (None, running.id):
            running.is_interrupted = True
        return Response()

    async def _cancel_job(self, request: Request) -> Response:
        """What newer servers have: whatever the prompt does, and never another one."""
        self._note(request)
        memory, wanted = self._memory, request.path_params["id"]
        is_running = memory.running is not None and memory.running.id == wanted
        if is_running:
            memory.running.is_interrupted = True
        waiting = [entry for entry in memory.waiting if entry[2].id == wanted]
        for entry in waiting:
            memory.waiting.remove(entry)
        heapq.heapify(memory.waiting)
        await self._changed(memory)
        return JSONResponse({"cancelled": is_running or bool(waiting)})

    async def _post_free(self, request: Request) -> Response:
        body = await self._body(request)
        self.freed += bool(body.get("unload_models"))
        self._memory.is_to_free = bool(body.get("free_memory"))
        self._memory.news.set()
        return Response()

    async def _post_upload(self, request: Request) -> Response:
        self._note(request)
        if int(request.headers.get("content-length", 0)) > self.faults.most_upload_bytes:
            return Response(status_code=413)
        async with request.form() as form:
            file, place = form["image"], str(form.get("type") or "input")
            subfolder, is_kept = str(form.get("subfolder") or ""), str(form.get("overwrite")) not in ("true", "1")
            data, name = await file.read(), file.filename
        folder = (self.folders[place] / subfolder).resolve()
        if not folder.is_relative_to(self.folders[place].resolve()) or not name:
            return Response(status_code=400)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        if is_kept:
            taken = path
            count = 1
            while path.exists() and path.read_bytes() != data:
                path = taken.with_name(f"{taken.stem} ({count}){taken.suffix}")
                count += 1
        path.write_bytes(data)
        return JSONResponse({"name": path.name, "subfolder": subfolder, "type": place})

    async def _view(self, request: Request) -> Response:
        self._note(request)
        query = request.query_params
        root = self.folders[query.get("type", "output")].resolve()
        path = (root / query.get("subfolder", "") / query["filename"]).resolve()
        if not path.is_relative_to(root):
            return Response(status_code=403)
        if not path.is_file():
            return Response(status_code=404)
        if self.faults.cut_files > 0 and request.method == "GET":
            self.faults.cut_files -= 1
            size = {"content-length": str(path.stat().st_size)}
            return StreamingResponse(self._half(request, path), headers=size)
        return FileResponse(path)

    async def _half(self, request: Request, path: Path) -> AsyncIterator[bytes]:
        data = path.read_bytes()
        yield data[: len(data) // 2]
        await asyncio.sleep(0.01)
        self._cut(request.scope)

    async def _stats(self, request: Request) -> Response:
        self._note(request)
        stats = json.loads((DATA / "system_stats.json").read_text())
        stats["system"]["comfyui_version"] = self.version
        return JSONResponse(stats)

    async def _object_info(self, request: Request) -> Response:
        self._note(request)
        return JSONResponse(self.nodes)

    async def _model_folders(self, request: Request) -> Response:
        self._note(request)
        return JSONResponse([*MODEL_INPUTS, "configs", "custom_nodes"])

    async def _models(self, request: Request) -> Response:
        self._note(request)
        folder = request.path_params["folder"]
        if folder not in MODEL_INPUTS:
            return Response(status_code=404)
        node, name = MODEL_INPUTS[folder]
        return JSONResponse(self.nodes[node]["input"]["required"][name][0])

    def _has_upload(self, name: str) -> bool:
        return (self.folders["input"] / name).is_file()

    async def _body(self, request: Request) -> dict[str, Any]:
        """What was posted; what is no JSON is an error of the server, except for an interrupt."""
        self._note(request)
        data = await request.body()
        return json.loads(data) if data or "interrupt" not in request.url.path else {}

    def _note(self, request: Request) -> None:
        self.requests.append((request.method, request.url.path))


def _is_canonical(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


@contextlib.asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[ComfyUI]:
    """A started stand-in, ended afterwards."""
    server = await ComfyUI(folder, **options).start()
    try:
        yield server
    finally:
        await server.stop()
