"""How the stand-in runs a workflow: node after node, with the messages a real server was recorded with."""

import asyncio
import json
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from tests.standins.comfyui import drawing
from tests.standins.comfyui.checking import Nodes, is_link

LARGEST_BYTES = 1 << 40
"""More than that no device has."""


class NodeFailed(Exception):
    """A node failed with an exception of this kind."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


class Interrupted(Exception):
    """The prompt was ended."""


@dataclass(kw_only=True)
class Faults:
    """What goes wrong, until it is set back; counts go down as they are used up.

    `drop_after`, `die_after`: connections are cut, or the server dies, after so many messages to a client.
    `out_of_memory`: how many samplers fail for that. `frame_bytes`: the least size of a preview. `step_s`: what a step
    takes. `race_s`: between the news of success and the history, which a real server takes 2 to 11 ms for; `lag_s`:
    the same after the news that the prompt is over. `cut_files`: how many files break off half way. `lost_answers`:
    how many prompts are taken without an answer. `most_upload_bytes`: larger uploads are refused. `no_sockets`: no
    WebSocket is accepted. `begins_first`: a waiting prompt that is to leave the queue begins to run just before.
    `late_s`: what an event takes on its way, while answers take no time.
    """

    drop_after: int | None = None
    die_after: int | None = None
    out_of_memory: int = 0
    frame_bytes: int = 0
    step_s: float = 0.0
    race_s: float = 0.005
    lag_s: float = 0.0
    cut_files: int = 0
    lost_answers: int = 0
    most_upload_bytes: int = 100 << 20
    no_sockets: bool = False
    begins_first: bool = False
    late_s: float = 0.0


@dataclass(kw_only=True)
class Prompt:
    """An entry of the queue."""

    number: float
    id: str
    graph: dict[str, Any]
    extra: dict[str, Any]
    outputs: list[str]
    is_interrupted: bool = False

    def listed(self) -> list[Any]:
        return [self.number, self.id, self.graph, self.extra, self.outputs]


Send = Callable[[str | int, Any], Awaitable[None]]
"""Sends a message (its kind and data) or a binary one (its event and bytes) to the client of the prompt."""


@dataclass(kw_only=True)
class Run:
    """One prompt while it runs. `cache` holds what nodes gave by their signature, and what they showed."""

    prompt: Prompt
    nodes: Nodes
    cache: dict[str, Any]
    faults: Faults
    folders: dict[str, Path]
    has_flags: bool
    send: Send
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)
    messages: list[Any] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)

    async def perform(self) -> dict[str, Any]:
        """Run to the end, whatever it is; the entry of the history."""
        graph = self.prompt.graph
        signatures = {node: self._signature(node) for node in graph}
        for stale in self.cache.keys() - signatures.values():
            del self.cache[stale]
        await self._report("execution_start", {})
        cached = [node for node, each in signatures.items() if each in self.cache]
        await self._report("execution_cached", {"nodes": cached})
        status = "success"
        node = ""
        try:
            for node in self._order(set(cached)):
                await self._perform_node(node, signatures[node])
            await self._report("execution_success", {})
        except Interrupted:
            status = "error"
            await self._report("execution_interrupted", self._place(node))
        except NodeFailed as error:
            status = "error"
            await self._report("execution_error", self._place(node) | self._failure(node, error))
        meta = {
            node: {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node}
            for node in self.shown
        }
        return {
            "prompt": self.prompt.listed(),
            "outputs": self.shown,
            "status": {"status_str": status, "completed": status == "success", "messages": self.messages},
            "meta": meta,
        }

    def _order(self, cached: set[str]) -> list[str]:
        """Which nodes run, one after the other: outputs as soon as they can, what they wait for before the rest."""
        graph = self.prompt.graph
        needed: list[str] = []
        for output in self.prompt.outputs:
            waiting = [output]
            while waiting:
                node = waiting.pop()
                if node in needed:
                    continue
                needed.append(node)
                if node not in cached:
                    waiting += [link for link in _links(graph, node) if link not in cached]
        done: set[str] = set(cached) - set(self.prompt.outputs)
        ordered: list[str] = []
        while rest := [node for node in needed if node not in ordered]:
            ready = [node for node in rest if node in cached or done.issuperset(_links(graph, node))]
            ordered.append(min(ready, key=lambda node: self._distance(node, rest)))
            done.add(ordered[-1])
        return ordered

    def _distance(self, node: str, rest: list[str]) -> int:
        """0 for an output, 1 for what an output waits for, 2 for what that waits for, 3 for all else."""
        near = {each for each in rest if each in self.prompt.outputs}
        for distance in range(3):
            if node in near:
                return distance
            near = {link for each in near for link in _links(self.prompt.graph, each)}
        return 3

    async def _perform_node(self, node: str, signature: str) -> None:
        if signature in self.cache:
            self.shown[node] = self.cache[signature]
            await self._send("executed", {"node": node, "display_node": node, "output": self.shown[node]})
            await self._progress(node, 1, 1, "finished")
            return
        await self._progress(node, 0.0, 1.0, "running")
        await self._send("executing", {"node": node, "display_node": node})
        await asyncio.sleep(0)
        output = await self._give(node)
        if output is not None:
            self.shown[node] = output
            await self._send("executed", {"node": node, "display_node": node, "output": output})
        state = self.states[node]
        value = 1.0 if state["max"] == 1.0 else state["max"]
        await self._progress(node, value, state["max"], "finished")
        self.executed.append(node)
        self.cache[signature] = output

    async def _give(self, node: str) -> dict[str, Any] | None:
        """What a node shows, None if it shows nothing."""
        about = self.prompt.graph[node]
        kind = about["class_type"]
        self._check_interrupt()
        if "Sampler" in kind and "latent_image" in about["inputs"]:
            await self._sample(node)
            return None
        is_saver = self.nodes[kind].get("output_node")
        if not is_saver and kind not in ("LoadImage", "EmptyImage"):
            return None
        try:
            batch = drawing.batch_of(self.prompt.graph, node, self.folders["input"])
        except UnidentifiedImageError as error:
            raise NodeFailed("PIL.UnidentifiedImageError", str(error)) from error
        if isinstance(batch, drawing.Batch) and 4 * batch.width * batch.height * batch.count > LARGEST_BYTES:
            wanted = 4 * batch.width * batch.height * batch.count
            raise NodeFailed("RuntimeError", f"DefaultCPUAllocator: can't allocate memory: {wanted} bytes")
        if not is_saver:
            return None
        if kind == "SaveImageWebsocket":
            await self._send_pictures(node, batch)
            return None
        folder = self.folders["temp" if kind == "PreviewImage" else "output"]
        return drawing.save(self.prompt.graph, node, batch, folder, self.prompt.extra)

    async def _sample(self, node: str) -> None:
        if self.faults.out_of_memory > 0:
            self.faults.out_of_memory -= 1
            raise NodeFailed(
                "torch.OutOfMemoryError",
                "CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has a total capacity of 7.79 GiB.",
            )
        steps = int(self._found(node, "steps", 4))
        batch = drawing.batch_of(self.prompt.graph, node, self.folders["input"])
        picture = drawing.preview(batch)
        for step in range(1, steps + 1):
            await asyncio.sleep(self.faults.step_s)
            self._check_interrupt()
            await self._advance(node, step, steps, picture)

    async def _send_pictures(self, node: str, batch: drawing.Batch | Image.Image) -> None:
        pictures = [batch] if isinstance(batch, Image.Image) else [batch.picture(at) for at in range(batch.count)]
        for at, picture in enumerate(pictures):
            await self._advance(node, at, len(pictures), drawing.encode(picture, "PNG"))

    async def _advance(self, node: str, step: int, steps: int, picture: bytes) -> None:
        picture += bytes(max(0, self.faults.frame_bytes - len(picture)))
        is_png = picture.startswith(b"\x89PNG")
        await self._progress(node, step, steps, "running")
        if self.has_flags and self.prompt.extra.get("preview_method") != "none":
            about = {
                "node_id": node,
                "prompt_id": self.prompt.id,
                "display_node_id": node,
                "parent_node_id": None,
                "real_node_id": node,
                "image_type": "image/png" if is_png else "image/jpeg",
            }
            text = json.dumps(about).encode()
            await self.send(4, struct.pack(">I", len(text)) + text + picture)
        await self._send("progress", {"value": step, "max": steps, "node": node})
        if not self.has_flags and self.prompt.extra.get("preview_method") != "none":
            await self.send(1, struct.pack(">I", 2 if is_png else 1) + picture)

    async def _progress(self, node: str, value: float, most: float, state: str) -> None:
        self.states[node] = {
            "value": value,
            "max": most,
            "state": state,
            "node_id": node,
            "prompt_id": self.prompt.id,
            "display_node_id": node,
            "parent_node_id": None,
            "real_node_id": node,
        }
        await self._send("progress_state", {"nodes": dict(self.states)})

    async def _send(self, kind: str, data: dict[str, Any]) -> None:
        await self.send(kind, {**data, "prompt_id": self.prompt.id})

    async def _report(self, kind: str, data: dict[str, Any]) -> None:
        message = {"prompt_id": self.prompt.id, **data, "timestamp": int(1000 * time.time())}
        self.messages.append([kind, message])
        await self.send(kind, message)

    def _place(self, node: str) -> dict[str, Any]:
        kind = self.prompt.graph[node]["class_type"]
        return {"node_id": node, "node_type": kind, "executed": list(self.executed)}

    def _failure(self, node: str, error: NodeFailed) -> dict[str, Any]:
        inputs = {name: [value] for name, value in self.prompt.graph[node]["inputs"].items() if not is_link(value)}
        return {
            "exception_message": f"{error.message}\n",
            "exception_type": error.kind,
            "traceback": ['  File "execution.py", line 1, in execute\n    ...\n'],
            "current_inputs": inputs,
            "current_outputs": list(self.executed),
        }

    def _check_interrupt(self) -> None:
        if self.prompt.is_interrupted:
            raise Interrupted

    def _found(self, node: str, name: str, instead: int) -> Any:
        """The nearest value of that name at the node or before it."""
        values = (self.prompt.graph[each]["inputs"].get(name) for each in drawing.upstream(self.prompt.graph, node))
        return next((value for value in values if isinstance(value, int)), instead)

    def _signature(self, node: str) -> str:
        """Of what a node gives; uploads count with their content, and what is sent is sent anew each time."""
        parts = [drawing.signature(self.prompt.graph, node)]
        for each in drawing.upstream(self.prompt.graph, node):
            about = self.prompt.graph[each]
            if about["class_type"] == "LoadImage":
                parts.append(str((self.folders["input"] / about["inputs"]["image"]).stat().st_mtime_ns))
            if about["class_type"] == "SaveImageWebsocket":
                parts.append(self.prompt.id)
        return " ".join(parts)


def _links(graph: dict[str, Any], node: str) -> list[str]:
    return [value[0] for value in graph[node]["inputs"].values() if is_link(value)]
