"""Which nodes of a graph save what was made in a file that a client can fetch."""

from collections.abc import Iterator
from typing import Literal

from tintype.comfy.workflows.graphs import Graph, Node
from tintype.comfy.workflows.node_types import NodeTypes

Kind = Literal["pictures", "videos"]
KINDS: dict[str, Kind] = {
    "SaveImage": "pictures",
    "Image Save": "pictures",
    "SaveImageAdvanced": "pictures",
    "SaveVideo": "videos",
    "SaveWEBM": "videos",
    "SaveAnimatedWEBP": "videos",
    "SaveAnimatedPNG": "videos",
    "VHS_VideoCombine": "videos",
}
SHOWN_ONLY = "PreviewImage"
PREFIX = "filename_prefix"


def savers(graph: Graph, types: NodeTypes | None = None) -> Iterator[tuple[Node, Kind]]:
    """The nodes that save, each with what it saves; those that only show pictures where nothing else does."""
    has_any = False
    for node in graph.nodes.values():
        kind = _kind(node, types or {})
        if kind is not None:
            has_any = True
            yield node, kind
    for node in () if has_any else graph.nodes.values():
        if node.class_type == SHOWN_ONLY:
            yield node, "pictures"


def _kind(node: Node, types: NodeTypes) -> Kind | None:
    if node.class_type in KINDS:
        return KINDS[node.class_type]
    known = types.get(node.class_type)
    if known is None or not known.saves or not {PREFIX, "images"} <= known.inputs.keys():
        return None
    return "pictures"
