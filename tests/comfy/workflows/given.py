"""Workflows, bindings and requests for tests: the graphs are those that a real ComfyUI ran."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tintype.comfy.workflows import graphs, schema
from tintype.comfy.workflows.installed import Workflow
from tintype.providers.contract import GenerationRequest, ModelFiles

DATA = Path(__file__).parents[2] / "data" / "comfyui"
TXT2IMG = {
    "inputs": [
        {"name": "prompt", "type": "text", "to": [{"node": "positive", "input": "text"}]},
        {"name": "negative_prompt", "type": "text", "to": [{"node": "7", "input": "text"}]},
        {"name": "seed", "type": "seed", "to": [{"node": "KSampler", "input": "seed"}]},
        {"name": "steps", "type": "integer", "min": 1, "max": 50, "to": [{"node": "3", "input": "steps"}]},
        {"name": "width", "type": "integer", "to": [{"node": "5", "input": "width"}]},
    ],
    "outputs": [{"node": "SaveImage"}],
}


def graph_json(name: str) -> dict[str, Any]:
    """A graph that a real server ran."""
    return json.loads((DATA / "workflows" / f"{name}.json").read_text())


def object_info(version: str = "0.33") -> dict[str, Any]:
    """What a real server of this version says of its nodes."""
    return json.loads((DATA / f"object_info_{version}.json").read_text())


def bindings(**parts: Any) -> schema.Bindings:
    """Bindings as a file would hold them."""
    return schema.parse(json.dumps(parts), where="bindings.json")


def workflow(name: str = "txt2img", **parts: Any) -> Workflow:
    """A real graph with these bindings."""
    return Workflow(id=name, graph=graphs.parse(graph_json(name)), bindings=bindings(**{**TXT2IMG, **parts}))


def request(**fields: Any) -> GenerationRequest:
    """A request for one picture."""
    whole: dict[str, Any] = {
        "id": "r",
        "task": "text_to_image",
        "model": ModelFiles(id="w", family="sd15", folder=""),
        "prompt": "a red cat",
        "negative_prompt": "dogs",
        "width": 128,
        "height": 96,
        "seeds": (7,),
        "steps": 9,
        "guidance_scale": 4.5,
        "sampler": "euler",
    }
    return GenerationRequest(**{**whole, **fields})


def picture(height: int = 8, width: int = 8, colour: int = 200) -> np.ndarray:
    """A grey picture."""
    return np.full((height, width, 3), colour, np.uint8)
