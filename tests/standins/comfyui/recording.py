"""Whole runs as a server sent them: `python -m tests.standins.comfyui.recording http://127.0.0.1:8188 CHECKPOINT`.

It writes `tests/data/comfyui/`: every message of a run in order, when it came (ms after the POST), and what the server
answers before and after. Ids, times, addresses and paths are replaced; a binary message is its description, its size
and how it begins. The stand-in is recorded with the same code and compared.
"""

import asyncio
import json
import re
import struct
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tests.standins.comfyui import graphs
from tests.standins.comfyui.graphs import Graph

DATA = Path(__file__).parents[2] / "data" / "comfyui"
HELLO = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
LONGEST_S = 120.0
# fmt: off
DESCRIBED = (
    "CLIPLoader", "CLIPSetLastLayer", "CLIPTextEncode", "CheckpointLoaderSimple", "ControlNetApplyAdvanced",
    "ControlNetLoader", "CreateVideo", "EmptyImage", "EmptyLatentImage", "ImagePadForOutpaint", "ImageScale",
    "ImageScaleBy", "InpaintModelConditioning", "KSampler", "KSamplerAdvanced", "LatentUpscale",
    "LatentUpscaleBy", "LoadImage", "LoadImageMask", "LoraLoader", "LoraLoaderModelOnly", "PreviewImage",
    "SaveAnimatedWEBP", "SaveImage", "SaveImageWebsocket", "SaveVideo", "SaveWEBM", "SetLatentNoiseMask",
    "UNETLoader", "VAEDecode", "VAEEncode", "VAEEncodeForInpaint", "VAELoader",
)
# fmt: on
"""Nodes whose description is kept."""

Heard = list[list[Any]]
"""[ms, "text", message] or [ms, "binary", event, description, size, head]."""


async def record(
    url: str, graph: Graph, *, has_flags: bool = True, interrupt_after: str | None = None
) -> dict[str, Any]:
    """One run of `graph`; it is interrupted after the second message of kind `interrupt_after`."""
    prompt_id, client_id = str(uuid.uuid4()), uuid.uuid4().hex
    async with connect(f"{url.replace('http', 'ws', 1)}/ws?clientId={client_id}", max_size=None) as socket:
        async with httpx.AsyncClient(base_url=url, timeout=LONGEST_S) as http:
            first = [await socket.recv()]
            if has_flags:
                await socket.send(HELLO)
                first.append(await socket.recv())
            began = time.perf_counter()
            body = {"prompt": graph, "client_id": client_id, "prompt_id": prompt_id}
            posting = asyncio.create_task(http.post("/prompt", json=body))
            answer = await posting
            found: dict[str, Any] = {"graph": graph, "status": answer.status_code, "answer": answer.json()}
            heard: Heard = [_heard(frame, 0) for frame in first]
            if answer.status_code == 200:
                await _listen(socket, heard, began, lambda: _interrupt(http, prompt_id), interrupt_after)
                found["history"] = (await http.get(f"/history/{prompt_id}")).json()[prompt_id]
                found["files"] = await _files(http, found["history"]["outputs"])
            found["messages"] = heard
    return _scrubbed(found, {prompt_id: "<prompt>", client_id: "<client>"})


async def _listen(
    socket: ClientConnection, heard: Heard, began: float, interrupt: Callable[[], Any], interrupt_after: str | None
) -> None:
    seen = 0
    while True:
        frame = await asyncio.wait_for(socket.recv(), LONGEST_S)
        heard.append(_heard(frame, round(1000 * (time.perf_counter() - began))))
        if heard[-1][1] != "text":
            continue
        message = heard[-1][2]
        if message["type"] == interrupt_after:
            seen += 1
            if seen == 2:
                await interrupt()
        if message["type"] == "executing" and message["data"]["node"] is None:
            return


async def _interrupt(http: httpx.AsyncClient, prompt_id: str) -> None:
    (await http.post("/interrupt", json={"prompt_id": prompt_id})).raise_for_status()


def _heard(frame: str | bytes, ms: int) -> list[Any]:
    if isinstance(frame, str):
        return [ms, "text", json.loads(frame)]
    event, number = struct.unpack_from(">II", frame)
    about, data = ({"format": number}, frame[8:]) if event == 1 else ({}, frame[4:])
    if event == 4:
        about, data = json.loads(frame[8 : 8 + number]), frame[8 + number :]
    return [ms, "binary", event, about, len(data), data[:4].hex()]


async def _files(http: httpx.AsyncClient, outputs: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for output in outputs.values():
        for file in output.get("images", []):
            answer = await http.get("/view", params=file)
            kind = answer.headers["content-type"]
            found.append({"name": file["filename"], "type": kind, "bytes": len(answer.content)})
    return found


def _scrubbed(found: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    text = json.dumps(found)
    for name, instead in names.items():
        text = text.replace(name, instead)
    text = re.sub(r'File \\"[^"]*/', r'File \\"', text)
    text = re.sub(r"0x[0-9a-f]{6,}", "0x0", text)
    text = re.sub(r"'/[^']*/([^/']*)'", r"'\1'", text)
    text = re.sub(r'"timestamp": \d+', '"timestamp": 0', text)
    return json.loads(text)


def runs(checkpoint: str) -> dict[str, tuple[Graph, dict[str, Any]]]:
    """The runs that are kept, by name; some follow on the one before."""
    prefix = f"tintype/{uuid.uuid4().hex[:8]}/0"
    seed = int.from_bytes(uuid.uuid4().bytes[:4])
    drawn = graphs.text_to_image(checkpoint, prefix=prefix, seed=seed)
    return {
        "text_to_image": (drawn, {}),
        "cached": (drawn, {}),
        "batch": (graphs.text_to_image(checkpoint, prefix=prefix, seed=seed, batch=3), {}),
        "old_previews": (graphs.text_to_image(checkpoint, prefix=prefix, seed=seed + 1), {"has_flags": False}),
        "websocket": (
            graphs.text_to_image(checkpoint, prefix=prefix, seed=seed + 2, batch=2, save="SaveImageWebsocket"),
            {},
        ),
        "interrupt": (
            graphs.text_to_image(checkpoint, prefix=prefix, seed=seed + 3, steps=100),
            {"interrupt_after": "progress"},
        ),
        "video_webp": (graphs.video("SaveAnimatedWEBP", prefix=prefix), {}),
        "video_webm": (graphs.video("SaveWEBM", prefix=prefix), {}),
        "video_mp4": (graphs.video("SaveVideo", prefix=prefix), {}),
        "error": (graphs.loaded("tintype-broken.png", prefix=prefix), {}),
        "out_of_memory": (graphs.too_large(prefix=prefix), {}),
        "half_wrong": (graphs.half_wrong(prefix=prefix), {}),
    }


def refused(checkpoint: str) -> dict[str, Any]:
    """What POST /prompt refuses, by name."""
    wrong = graphs.text_to_image("missing.safetensors", prefix="x")
    wrong["3"]["inputs"] |= {
        "steps": 0,
        "cfg": "much",
        "sampler_name": "none such",
        "scheduler": "none",
        "model": ["5", 0],
    }
    del wrong["5"]["inputs"]["width"]
    unknown, endless = graphs.flat(prefix="x"), graphs.flat(prefix="x")
    unknown["1"]["class_type"] = "NoSuchNode"
    del endless["2"]
    nameless = graphs.flat(prefix="x")
    del nameless["1"]["class_type"]
    return {
        "missing_model": graphs.text_to_image("missing.safetensors", prefix="x"),
        "wrong_values": wrong,
        "missing_node": unknown,
        "no_outputs": endless,
        "no_class": nameless,
        "missing_upload": graphs.loaded("missing.png", prefix="x"),
        "nothing": None,
    }


async def record_all(url: str, checkpoint: str) -> dict[str, Any]:
    """Every run and refusal, and what the server says of itself."""
    found: dict[str, Any] = {}
    async with httpx.AsyncClient(base_url=url, timeout=LONGEST_S) as http:
        await http.post("/upload/image", files={"image": ("tintype-broken.png", b"no picture")})
        for name, (graph, how) in runs(checkpoint).items():
            found[name] = await record(url, graph, **how)
        found["refusals"] = {name: await _refusal(http, graph) for name, graph in refused(checkpoint).items()}
        stats = (await http.get("/system_stats")).json()
        stats["system"]["argv"] = ["main.py"]
        found["system_stats"] = stats
        everything = (await http.get("/object_info")).json()
        found["object_info"] = {name: everything[name] for name in DESCRIBED}
    return found


async def _refusal(http: httpx.AsyncClient, graph: Graph | None) -> dict[str, Any]:
    body = {} if graph is None else {"prompt": graph, "client_id": "x"}
    answer = await http.post("/prompt", json=body)
    return _scrubbed({"graph": graph, "status": answer.status_code, "answer": answer.json()}, {})


if __name__ == "__main__":
    recorded = asyncio.run(record_all(sys.argv[1].rstrip("/"), sys.argv[2]))
    DATA.mkdir(parents=True, exist_ok=True)
    for name, run in recorded.items():
        (DATA / f"{name}.json").write_text(json.dumps(run, separators=(",", ":")) + "\n")
