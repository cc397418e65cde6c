"""A workflow while it is put together: its graph in ComfyUI's API format, and what of a request goes where in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.workflows.files import File

Link = list[Any]
"""An output of a node, as its API format writes it: the node's id and the number of the output."""

ORDER = (
    *("prompt", "negative_prompt", "image", "last_image", "mask", "controls", "strength", "scale"),
    *("width", "height", "frames", "fps", "seed"),
    *("steps", "guidance_scale", "sampler", "scheduler", "loras"),
)
"""How a form shows these; what else there is follows as it was bound."""


@dataclass(frozen=True)
class Node:
    """A node of a draft; `node[0]` is its first output."""

    id: str
    title: str

    def __getitem__(self, output: int) -> Link:
        return [self.id, output]


@dataclass
class Draft:
    """What has been put together so far."""

    graph: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    bypass: dict[str, Mapping[str, str]] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)
    outputs: list[dict[str, str]] = field(default_factory=list)

    def add(self, title: str, kind: str, **inputs: Any) -> Node:
        """A node of the class `kind`; titles are unique, because inputs are bound by them."""
        if any(node["_meta"]["title"] == title for node in self.graph.values()):
            raise ValueError(f"two nodes are called {title!r}")
        node = Node(id=str(len(self.graph) + 1), title=title)
        self.graph[node.id] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
        return node

    def need(self, file: File) -> str:
        """The name of a model's file in its folder; the workflow lists it as required."""
        if file not in self.files:
            self.files.append(file)
        return file.name

    def bind(self, name: str, kind: str, node: Node, target: str, **more: Any) -> None:
        """Let a value of the request go to an input of a node; bound again, it goes to both."""
        given = self.inputs.setdefault(name, {"name": name, "type": kind, **more, "to": []})
        given["to"].append({"node": node.title, "input": target})

    def slot(self, name: str, slot: Mapping[str, Any], **more: Any) -> None:
        """One more place for a LoRA or a control picture."""
        self.inputs.setdefault(name, {"name": name, "type": name, **more, "slots": []})["slots"].append(slot)

    def bindings(self) -> dict[str, Any]:
        """The bindings file."""
        rank = {name: place for place, name in enumerate(ORDER)}
        names = sorted(self.inputs, key=lambda name: rank.get(name, len(ORDER)))
        return {
            "inputs": [self.inputs[name] for name in names],
            "bypass": self.bypass,
            "requires": {
                "nodes": sorted({node["class_type"] for node in self.graph.values()}),
                "models": [{"folder": file.folder, "name": file.name} for file in self.files],
            },
            "outputs": self.outputs,
        }
