"""What the catalogue says of a workflow that somebody added: its manifest and its page, from its inputs and outputs."""

from collections.abc import Mapping
from typing import Any, Protocol

from tintype.comfy.workflows.installed import Workflow
from tintype.comfy.workflows.schema import Input

TAKEN = {
    "prompt": "prompt",
    "width": "width",
    "height": "height",
    "seed": "seed",
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "strength": "strength",
    "frames": "seconds",
    "seconds": "seconds",
    "fps": "fps",
}
"""The fields of a request, and of a manifest's `takes`, by the names of inputs."""

FEATURES = ("negative_prompt", "loras", "controls", "style_image", "last_image")
SIDE = 512
MOST_SIDE = 2048
FRAMES = 16
FPS = 8


class Said(Protocol):
    """What a person said of the workflow beside its name."""

    @property
    def description(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def scale(self) -> int | None: ...
    @property
    def licence(self) -> str: ...
    @property
    def depicts_person(self) -> bool: ...


def task_of(workflow: Workflow) -> str:
    """What a request to a workflow comes to."""
    takes = {given.name for given in workflow.bindings.inputs}
    if any(output.kind == "videos" for output in workflow.bindings.outputs):
        return "image_to_video" if "image" in takes else "text_to_video"
    if "image" not in takes:
        return "text_to_image"
    if "mask" in takes:
        return "inpaint"
    return "image_to_image" if "prompt" in takes or "seed" in takes else "upscale"


def manifest_of(workflow: Workflow, name: str, said: Said) -> dict[str, Any]:
    """The manifest of a workflow, as `tintype.catalog.manifest` reads one."""
    inputs = {given.name: given for given in workflow.bindings.inputs}
    task = task_of(workflow)
    options = [given for given in workflow.bindings.inputs if not given.is_field]
    manifest: dict[str, Any] = {
        "id": workflow.id,
        "name": name,
        "description": said.description or f"A ComfyUI workflow of {len(workflow.graph.nodes)} nodes.",
        "kind": "workflow",
        "family": said.family,
        "provider": "comfyui",
        "loader": "comfy",
        "tasks": [task],
        "features": [feature for feature in FEATURES if feature in inputs],
        "samplers": list(inputs["sampler"].choices) if "sampler" in inputs else [],
        "licence": {"id": said.licence, "commercial": "unknown"},
        "prompt_languages": ["en"],
        "draws_people": True,
        "depicts_person": said.depicts_person,
        "takes": list(dict.fromkeys(TAKEN[one] for one in inputs if one in TAKEN)),
    }
    if options:
        required = [given.name for given in options if given.required]
        properties = {given.name: _property(workflow, given) for given in options}
        manifest["options"] = {
            "type": "object",
            "properties": properties,
            **({"required": required} if required else {}),
        }
    if task == "upscale":
        manifest["scales"] = [said.scale or 4]
    else:
        manifest |= {"defaults": _defaults(workflow, inputs), "limits": _limits(workflow, inputs)}
    if task.endswith("_to_video"):
        manifest["length"] = _length(workflow, inputs)
    return manifest


def present(workflow: Workflow, given: Input) -> Any:
    """The value that stands in the graph now."""
    target = given.targets[0]
    return workflow.graph.find(target.node).inputs.get(target.input)


def _value(workflow: Workflow, inputs: Mapping[str, Input], name: str, otherwise: Any) -> Any:
    if name not in inputs:
        return otherwise
    found = present(workflow, inputs[name])
    return otherwise if found is None else found


def _defaults(workflow: Workflow, inputs: Mapping[str, Input]) -> dict[str, Any]:
    return {
        "width": _value(workflow, inputs, "width", SIDE),
        "height": _value(workflow, inputs, "height", SIDE),
        "steps": _value(workflow, inputs, "steps", 1),
        "guidance_scale": _value(workflow, inputs, "guidance_scale", 1.0),
        "sampler": _value(workflow, inputs, "sampler", ""),
        "negative_prompt": _value(workflow, inputs, "negative_prompt", ""),
    }


def _limits(workflow: Workflow, inputs: Mapping[str, Input]) -> dict[str, Any]:
    sides = [inputs[name] for name in ("width", "height") if name in inputs]
    least = max((int(side.min or 16) for side in sides), default=16)
    most = min((int(side.max or MOST_SIDE) for side in sides), default=MOST_SIDE)
    loras = inputs["loras"].slots if "loras" in inputs else ()
    return {
        "min_side": max(8, least),
        "max_side": most,
        "multiple_of": max((int(side.step or 8) for side in sides), default=8),
        "max_pixels": most * most,
        "max_steps": int(inputs["steps"].max or 1000) if "steps" in inputs else 1,
        "max_guidance_scale": (inputs["guidance_scale"].max or 100.0) if "guidance_scale" in inputs else 1.0,
        "max_images": 8 if "seed" in inputs else 1,
        "max_loras": min(3, len(loras)),
    }


def _length(workflow: Workflow, inputs: Mapping[str, Input]) -> dict[str, Any]:
    frames = int(_value(workflow, inputs, "frames", FRAMES))
    fps = round(_value(workflow, inputs, "fps", FPS))
    given, rate = inputs.get("frames"), inputs.get("fps")
    return {
        "frames": frames,
        "fps": fps,
        "min_frames": int(given.min or 1) if given is not None else frames,
        "max_frames": int(given.max or frames) if given is not None else frames,
        "multiple_of": int(given.step or 1) if given is not None and (frames - 1) % int(given.step or 1) == 0 else 1,
        "min_fps": max(1, int(rate.min or 1)) if rate is not None else fps,
        "max_fps": int(rate.max or fps) if rate is not None else fps,
    }


def _property(workflow: Workflow, given: Input) -> dict[str, Any]:
    """One option as the catalogue's part of JSON Schema says it."""
    kinds = {"integer": "integer", "seed": "integer", "number": "number", "boolean": "boolean"}
    is_picture = given.type in ("picture", "mask")
    now = given.default if given.default is not None else present(workflow, given)
    found: dict[str, Any] = {"type": kinds.get(given.type, "string"), "title": given.label or given.name}
    if given.help:
        found["description"] = given.help
    if is_picture:
        found["format"] = "picture"
    elif now is not None:
        found["default"] = now
    if given.choices:
        found["enum"] = list(given.choices)
    limits = {"minimum": given.min, "maximum": given.max, "maxLength": given.max_chars}
    return found | {name: limit for name, limit in limits.items() if limit is not None}


def readme_of(workflow: Workflow, manifest: Mapping[str, Any]) -> str:
    """The page of a workflow: what it is for, its inputs, what it needs."""
    said = workflow.bindings
    inputs = [f"- `{given.name}` ({given.type}): {given.label or given.name}" for given in said.inputs]
    models = [f"- `{one.folder}/{one.name}`" for one in said.requires.models] or [
        "- none beside those chosen by inputs"
    ]
    parts = [
        f"# {manifest['name']}",
        str(manifest["description"]),
        "## Inputs\n\n" + "\n".join(inputs),
        "## Nodes\n\n" + "\n".join(f"- `{name}`" for name in said.requires.nodes),
        "## Models\n\n" + "\n".join(models),
        f"## Licence\n\n{manifest['licence']['id']}. The licences of its models are those of their authors.",
    ]
    return "\n\n".join(parts) + "\n"
