"""ComfyUI as a contestant in `benchmarks.engine`: a running server, asked over HTTP as its own page asks it."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image
from websockets.sync import client as websocket

from benchmarks.engine_traces import Asked
from tintype.providers.contract import GenerationRequest

LONGEST_S = 600
PICTURE = "picture"


class ComfyFailedError(RuntimeError):
    """The server refused or broke off a workflow; says what it said."""


class Comfy:
    """A server under `address` whose folder of checkpoints holds `checkpoint`."""

    name = "comfyui"

    def __init__(self, address: str, checkpoint: str) -> None:
        self._address, self._checkpoint = address.rstrip("/"), checkpoint
        self._http = httpx.Client(base_url=self._address, timeout=LONGEST_S)

    def draw(self, request: GenerationRequest) -> np.ndarray:
        """One prompt in the server's queue; waits for the event that says it is over."""
        client_id = str(uuid.uuid4())  # of two sockets with one id the older hears nothing
        address = f"{self._address.replace('http', 'ws', 1)}/ws?clientId={client_id}"
        with websocket.connect(address, max_size=None) as socket:
            body = {"prompt": workflow(request, self._checkpoint), "client_id": client_id}
            answer = self._http.post("/prompt", json=body)
            if answer.is_error:
                raise ComfyFailedError(answer.text)
            prompt_id = answer.json()["prompt_id"]
            while not _is_over(socket.recv(timeout=LONGEST_S), prompt_id):
                pass
        outputs = self._http.get(f"/history/{prompt_id}").json()[prompt_id]["outputs"]
        file = self._http.get("/view", params=outputs[PICTURE]["images"][0])
        return np.asarray(Image.open(io.BytesIO(file.content)).convert("RGB"))

    def learn(self, asked: Sequence[Asked], *, clients: int) -> None:
        """Draw in each size once; the first time it loads the model."""
        for request in {(one.request.width, one.request.height): one.request for one in asked}.values():
            self.draw(request)

    def cpu_s(self) -> float:
        """Of the process that listens there; 0 on another machine."""
        port = httpx.URL(self._address).port
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid:
                times = psutil.Process(found.pid).cpu_times()
                return times.user + times.system
        return 0.0


def _is_over(message: str | bytes, prompt_id: str) -> bool:
    if isinstance(message, bytes):
        return False
    event = json.loads(message)
    if event["type"] == "execution_error":
        raise ComfyFailedError(event["data"]["exception_message"])
    data = event["data"]
    return event["type"] == "executing" and data["node"] is None and data["prompt_id"] == prompt_id


def workflow(request: GenerationRequest, checkpoint: str) -> dict[str, Any]:
    """The request as ComfyUI's nodes; its picture is what the node `PICTURE` shows."""
    return {
        "model": _node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "words": _node("CLIPTextEncode", text=request.prompt, clip=["model", 1]),
        "without": _node("CLIPTextEncode", text=request.negative_prompt, clip=["model", 1]),
        "size": _node("EmptyLatentImage", width=request.width, height=request.height, batch_size=1),
        "sampler": _node(
            "KSampler",
            model=["model", 0],
            positive=["words", 0],
            negative=["without", 0],
            latent_image=["size", 0],
            seed=request.seeds[0],
            steps=request.steps,
            cfg=request.guidance_scale,
            sampler_name=request.sampler,
            scheduler="normal",
            denoise=1.0,
        ),
        "pixels": _node("VAEDecode", samples=["sampler", 0], vae=["model", 2]),
        PICTURE: _node("PreviewImage", images=["pixels", 0]),
    }


def _node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}
