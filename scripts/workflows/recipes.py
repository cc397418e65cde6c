"""What a shipped workflow is, and the manifest that follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from scripts.workflows.drafts import Draft
from tintype.catalog import manifest
from tintype.comfy.workflows import schema

Checked = Literal["whole runs", "whole runs of drawings", "runs after the text encoder"]
CHECKED: dict[Checked, str] = {
    "whole runs": "ran on a real ComfyUI 0.3.64 on a CPU, with small random weights, and what it saved was looked at",
    "whole runs of drawings": "ran so with control pictures that are drawings already; what draws them of photographs "
    "needs weights of its own and did not run",
    "runs after the text encoder": "ran so from the text encoder on, which is too large to run there; random numbers "
    "stood in for what it makes of words",
}
"""How far a workflow was tried, and what that means."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A workflow with everything that is said of it. `family` decides which styles, LoRAs and ControlNets fit."""

    id: str
    name: str
    description: str
    purpose: str
    family: str
    tasks: tuple[str, ...]
    draft: Draft
    defaults: Mapping[str, Any]
    limits: Mapping[str, Any]
    samplers: tuple[str, ...]
    known_limits: tuple[str, ...]
    checked: Checked
    features: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    scales: tuple[int, ...] = ()
    length: Mapping[str, int] | None = None
    languages: tuple[str, ...] = ("en",)
    examples: tuple[str, ...] = field(default=())

    def manifest(self) -> dict[str, Any]:
        """The manifest file; its licence is the one that allows least among those of the models."""
        order = ("no", "threshold", "territory", "yes")
        licence = min((file.licence for file in self.draft.files), key=lambda one: order.index(one.commercial))
        found: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "kind": "workflow",
            "family": self.family,
            "provider": "comfyui",
            "loader": "comfy",
            "tasks": list(self.tasks),
            "features": list(self.features),
            "samplers": list(self.samplers),
            "licence": {
                "id": licence.id,
                "url": licence.url,
                "commercial": licence.commercial,
                "gated": licence.gated,
            },
            "prompt_languages": list(self.languages),
            "draws_people": True,
            "controls": list(self.controls),
            "scales": list(self.scales),
            "takes": self._takes(),
            "defaults": dict(self.defaults),
            "limits": dict(self.limits),
            "length": dict(self.length) if self.length else None,
            "options": self._options(),
            "examples": list(self.examples),
        }
        return {name: value for name, value in found.items() if value not in ([], None, {})}

    def _takes(self) -> list[str]:
        """The fields of a request that have an effect; a picture that comes in is brought to the size asked for."""
        if self.scales:
            return ["scale"]
        bound = {TAKEN.get(name, name) for name in self.draft.inputs}
        if "image" in bound:
            bound |= {"width", "height"}
        return [name for name in get_args(manifest.Taken) if name in bound]

    def _options(self) -> dict[str, Any]:
        """The JSON schema of what only this workflow understands."""
        own = [one for one in self.draft.inputs.values() if one["name"] not in schema.FIELDS]
        properties = {one["name"]: _property(one) for one in own}
        return {"type": "object", "properties": properties} if properties else {}


TAKEN = {"steps": "num_inference_steps", "frames": "seconds"}
TYPES = {"integer": "integer", "number": "number", "boolean": "boolean"}
KEYWORDS = {
    "label": "title",
    "help": "description",
    "default": "default",
    "choices": "enum",
    "min": "minimum",
    "max": "maximum",
    "max_chars": "maxLength",
}


def _property(given: Mapping[str, Any]) -> dict[str, Any]:
    said = {keyword: given[name] for name, keyword in KEYWORDS.items() if name in given}
    return {"type": TYPES.get(given["type"], "string"), **said}
