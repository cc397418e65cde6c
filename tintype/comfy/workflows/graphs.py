"""A graph in ComfyUI's API format: read, searched and changed as data, never as text."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from tintype import errors

MAX_BYTES = 4 << 20
MAX_NODES = 2000
MAX_DEPTH = 20
EXPORT = (
    "in ComfyUI choose Workflow, then Export (API), and give that file (in older versions: switch on the "
    "developer options in the settings, then Save (API Format))"
)

Link = tuple[str, int]
"""An output slot of a node, as an input is linked to it."""


class GraphError(errors.InvalidRequestError):
    """This is no workflow that ComfyUI could run."""

    code = "workflow_unreadable"


class NodeUnknownError(errors.InvalidRequestError):
    """No node of the workflow has this title or id."""

    code = "workflow_node_unknown"


class NodeAmbiguousError(errors.InvalidRequestError):
    """Several nodes of the workflow have this title."""

    code = "workflow_node_ambiguous"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: its inputs are values, or links `[id, slot]`."""

    id: str
    class_type: str
    title: str
    inputs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What a person finds it by: title and id."""
        return f"{self.title!r} ({self.id})"

    def links(self) -> Iterator[tuple[str, Link]]:
        """Every input that comes from another node, and from which output."""
        for name, value in self.inputs.items():
            if (link := link_in(value)) is not None:
                yield name, link


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes by id, in the order of the file."""

    nodes: Mapping[str, Node]

    def find(self, name: str) -> Node:
        """The node with this title or id.

        Raises:
            NodeUnknownError: there is none; the message names those there are.
            NodeAmbiguousError: there are several; the message names their ids.
        """
        found = [node for node in self.nodes.values() if name in (node.title, node.id)]
        if len(found) > 1:
            ids = ", ".join(node.id for node in found)
            raise NodeAmbiguousError(
                f"several nodes are called {name!r} (ids {ids}); give each its own title in ComfyUI, or name one by id"
            )
        if not found:
            there = ", ".join(repr(node.title) for node in list(self.nodes.values())[:20])
            raise NodeUnknownError(f"no node has the title or id {name!r}; there are {there}")
        return found[0]

    def with_value(self, node_id: str, name: str, value: object) -> "Graph":
        """The graph with one input of a node replaced."""
        node = self.nodes[node_id]
        return self._with(replace(node, inputs={**node.inputs, name: value}))

    def _with(self, node: Node) -> "Graph":
        return Graph(nodes={**self.nodes, node.id: node})

    def consumers(self, node_id: str) -> Iterator[tuple[Node, str, int]]:
        """Who takes what the node gives: the node, its input, and the output slot."""
        for node in self.nodes.values():
            for name, (source, slot) in node.links():
                if source == node_id:
                    yield node, name, slot

    def without(self, node_id: str, places: Mapping[str, str]) -> "Graph":
        """The graph with a node taken out: who took an output takes what the input in its place was given.

        `places` gives the input for each output slot. An input whose place is empty is left out.

        Raises:
            GraphError: an output that somebody takes has no place.
        """
        gone = self.nodes[node_id]
        nodes = {name: node for name, node in self.nodes.items() if name != node_id}
        for node, name, slot in self.consumers(node_id):
            if str(slot) not in places:
                raise GraphError(
                    f"{gone.name} cannot be taken out: {node.name} takes its output {slot}, and `bypass` names no "
                    "input in its place; add one"
                )
            kept = dict(nodes[node.id].inputs)
            if places[str(slot)] in gone.inputs:
                kept[name] = gone.inputs[places[str(slot)]]
            else:
                del kept[name]
            nodes[node.id] = replace(nodes[node.id], inputs=kept)
        return Graph(nodes=nodes)

    def upstream(self, node_id: str) -> Iterator[Node]:
        """The node and everything it depends on, nearest first, each once."""
        waiting, seen = [node_id], set[str]()
        while waiting:
            following: list[str] = []
            for name in waiting:
                if name in seen or name not in self.nodes:
                    continue
                seen.add(name)
                yield self.nodes[name]
                following += [source for _, (source, _) in self.nodes[name].links()]
            waiting = following

    def needed_for(self, outputs: list[str]) -> "Graph":
        """The graph with only those nodes that these outputs depend on."""
        wanted = {node.id for name in outputs for node in self.upstream(name)}
        return Graph(nodes={name: node for name, node in self.nodes.items() if name in wanted})

    def as_prompt(self) -> dict[str, Any]:
        """The graph as `POST /prompt` takes it."""
        return {
            node.id: {"class_type": node.class_type, "inputs": _plain(node.inputs), "_meta": {"title": node.title}}
            for node in self.nodes.values()
        }


def link_in(value: object) -> Link | None:
    """The link that an input holds; None where it holds a value."""
    parts = cast("list[object] | tuple[object, ...]", value) if isinstance(value, list | tuple) else ()
    if len(parts) != 2 or not isinstance(parts[0], str) or isinstance(parts[1], bool):
        return None
    return (parts[0], parts[1]) if isinstance(parts[1], int) else None


def read(data: bytes | str) -> Graph:
    """The graph in a file that ComfyUI exported.

    Raises:
        GraphError: it is too large, not JSON, the editor's own format, or no graph; the message says what to do.
    """
    if len(data) > MAX_BYTES:
        raise GraphError(f"the workflow has more than {MAX_BYTES:,} bytes; nothing that large is taken")
    try:
        value = json.loads(data, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise GraphError(f"this is not JSON ({str(error)[:100]}); {EXPORT}") from error
    return parse(value)


def parse(value: object) -> Graph:
    """The graph in a JSON value, which may be wrapped as `POST /prompt` takes it.

    Raises:
        GraphError: as `read`.
    """
    if not isinstance(value, dict):
        raise GraphError(f"a workflow is a JSON object of nodes; {EXPORT}")
    found = cast("dict[str, object]", value)
    if isinstance(found.get("nodes"), list):
        raise GraphError(f"this is the file that ComfyUI's editor saves for itself, which it cannot run; {EXPORT}")
    wrapped = found.get("prompt")
    if isinstance(wrapped, dict) and "class_type" not in wrapped:
        found = cast("dict[str, object]", wrapped)
    if not found or len(found) > MAX_NODES:
        raise GraphError(f"the workflow has {len(found)} nodes; one to {MAX_NODES} are taken")
    return Graph(nodes={id_: _node(id_, node) for id_, node in found.items()})


def _node(id_: str, value: object) -> Node:
    node = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    class_type, inputs = node.get("class_type"), node.get("inputs", {})
    if not isinstance(class_type, str) or not isinstance(inputs, dict):
        raise GraphError(f"the entry {id_[:40]!r} is no node: it has no `class_type` and `inputs`; {EXPORT}")
    if _depth(cast("object", inputs)) > MAX_DEPTH:
        raise GraphError(
            f"the node {id_[:40]!r} is nested more than {MAX_DEPTH} levels deep; nothing that deep is taken"
        )
    meta = node.get("_meta")
    title = cast("dict[str, object]", meta).get("title") if isinstance(meta, dict) else None
    return Node(
        id=id_,
        class_type=class_type,
        title=title if isinstance(title, str) and title else class_type,
        inputs=cast("dict[str, Any]", inputs),
    )


def _depth(value: object) -> int:
    deepest, left = 0, [(value, 1)]
    while left:
        item, depth = left.pop()
        deepest = max(deepest, depth)
        if isinstance(item, dict):
            left += [(part, depth + 1) for part in cast("dict[str, object]", item).values()]
        elif isinstance(item, list):
            left += [(part, depth + 1) for part in cast("list[object]", item)]
    return deepest


def _plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: list(cast("tuple[object, ...]", value)) if isinstance(value, tuple) else value
        for name, value in inputs.items()
    }
