"""Shipped workflows for tests: the smallest and the largest request of each, and what a real server knows."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.comfy.workflows import given
from tintype.catalog import manifest
from tintype.catalog import operations as catalog
from tintype.catalog.manifest import Manifest
from tintype.comfy.workflows import injecting, installed, node_types
from tintype.comfy.workflows.graphs import Graph
from tintype.comfy.workflows.installed import Workflow
from tintype.comfy.workflows.node_types import NodeTypes
from tintype.comfy.workflows.schema import ControlSlot, Input
from tintype.providers.contract import Control, GenerationRequest, Lora, ModelFiles

IDS = tuple(sorted(path.parent.name for path in catalog.WORKFLOWS.glob(f"*/{catalog.MANIFEST_NAME}")))


def folder(workflow_id: str) -> Path:
    return catalog.WORKFLOWS / workflow_id


def manifest_of(workflow_id: str) -> Manifest:
    return manifest.read(folder(workflow_id) / catalog.MANIFEST_NAME)


def workflow(workflow_id: str) -> Workflow:
    return installed.read(folder(workflow_id))


@cache
def object_info() -> dict[str, Any]:
    """What a real server of 0.3.64 said of the classes that shipped workflows use, packages of others included."""
    return json.loads((given.DATA / "object_info_shipped_0.3.64.json").read_text())


@cache
def types() -> NodeTypes:
    return node_types.read(object_info())


def smallest(workflow_id: str) -> GenerationRequest:
    """A request that leaves out whatever may be left out, as small as the model makes it."""
    said, found = manifest_of(workflow_id), workflow(workflow_id)
    side = said.limits.min_side if said.limits else 256
    steps = next((one.min for one in found.bindings.inputs if one.name == "steps" and one.min is not None), 1)
    return _request(said, found, side=side, steps=int(steps))


def largest(workflow_id: str, loras: Path) -> GenerationRequest:
    """A request with everything the workflow takes, each at its end; `loras` is an empty folder to keep LoRAs in."""
    said, found = manifest_of(workflow_id), workflow(workflow_id)
    side = (
        int(said.limits.max_pixels**0.5) // said.limits.multiple_of * said.limits.multiple_of if said.limits else 2048
    )
    options = {one.name: _extreme(one) for one in found.bindings.inputs if not one.is_field}
    most = said.limits.max_loras if said.limits else 0
    return _request(
        said,
        found,
        side=side,
        steps=100,
        options={name: value for name, value in options.items() if value is not None},
        loras=tuple(_lora(loras, f"{said.family}-{number}") for number in range(most)),
        controls=_controls(found, every=True),
        sampler=said.samplers[-1] if said.samplers else "",
        frames=said.length.max_frames if said.length else 0,
        fps=said.length.max_fps if said.length else 0,
    )


def _request(said: Manifest, found: Workflow, *, side: int, steps: int, **more: Any) -> GenerationRequest:
    bound = {one.name: one for one in found.bindings.inputs}
    fields: dict[str, Any] = {
        "id": "r",
        "task": said.tasks[0],
        "model": ModelFiles(id=said.id, family=said.family, folder=str(folder(said.id))),
        "prompt": "a lighthouse",
        "negative_prompt": "fog",
        "width": side,
        "height": side,
        "seeds": (2**32 - 1,),
        "steps": steps,
        "guidance_scale": said.defaults.guidance_scale if said.defaults else 0.0,
        "sampler": said.defaults.sampler if said.defaults else "",
        "frames": said.length.min_frames if said.length else 0,
        "fps": said.length.min_fps if said.length else 0,
        "source": given.picture(side, side) if "image" in bound else None,
        "mask": np.full((side, side), 255, np.uint8) if "mask" in bound else None,
        "controls": _controls(found, every=False),
    }
    return GenerationRequest(**fields | more)


def _controls(found: Workflow, *, every: bool) -> tuple[Control, ...]:
    bound = found.bindings.get("controls")
    slots = [slot for slot in bound.slots if isinstance(slot, ControlSlot)] if bound else []
    model = ModelFiles(id=found.id, family="", folder="")
    return tuple(Control(type=slot.type, model=model, pixels=given.picture()) for slot in slots[: None if every else 1])


def _lora(folder: Path, name: str) -> Lora:
    (folder / name).mkdir(parents=True)
    (folder / name / f"{name}.safetensors").touch()
    return Lora(model=ModelFiles(id=name, family="", folder=str(folder / name)), weight=-0.5)


def _extreme(one: Input) -> Any:
    if one.choices:
        return one.choices[-1]
    return one.max if one.max is not None else one.default


def inject(found: Workflow, request: GenerationRequest) -> Graph:
    """The graph of the request's first run, its pictures under the names that a server might have given them."""
    names = {key: f"{key}.png" for key in injecting.pictures_of(found, request)}
    run = injecting.runs_of(found, request)[0]
    return injecting.inject(found, request, run, pictures=names, prefix="tintype/r/0")
