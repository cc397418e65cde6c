"""What lies behind an input of a graph: which texts are drawn and which avoided, however many nodes are between.

A node with both a `positive` and a `negative` input hands each on through its own output, the first and the second;
so does every node of ComfyUI's that has the two.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tintype.comfy.workflows import graphs
from tintype.comfy.workflows.graphs import Graph, Link, Node

SIDES = ("positive", "negative")


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Ids of nodes behind what is drawn (`positive`) and behind what is avoided, of every sampler."""

    positive: frozenset[str]
    negative: frozenset[str]

    @property
    def avoided(self) -> frozenset[str]:
        """Nodes that have a part in what is avoided and in nothing else."""
        return self.negative - self.positive


def behind(graph: Graph, node: Node, name: str) -> Iterator[Node]:
    """The nodes that an input of a node depends on, nearest first, each once; nothing where it holds a value."""
    link = graphs.link_in(node.inputs.get(name))
    waiting: list[Link] = [link] if link is not None else []
    seen, given = set[tuple[str, str | None]](), set[str]()
    while waiting:
        following: list[Link] = []
        for source, slot in waiting:
            side = SIDES[slot] if slot < 2 and source in graph.nodes and _has_sides(graph.nodes[source]) else None
            if source not in graph.nodes or (source, side) in seen:
                continue
            seen.add((source, side))
            if source not in given:
                given.add(source)
                yield graph.nodes[source]
            other = SIDES[1 - SIDES.index(side)] if side is not None else None
            following += [way for input_name, way in graph.nodes[source].links() if input_name != other]
        waiting = following


def sides(graph: Graph) -> Sides:
    """What every sampler draws and avoids."""
    reached: dict[str, set[str]] = {side: set() for side in SIDES}
    for node in samplers(graph):
        for name in (*SIDES, "conditioning", "guider"):
            side = "negative" if name == "negative" else "positive"
            if name != "guider":
                reached[side] |= {one.id for one in behind(graph, node, name)}
    return Sides(positive=frozenset(reached["positive"]), negative=frozenset(reached["negative"]))


def samplers(graph: Graph) -> Iterator[Node]:
    """The nodes at the end of what is drawn and avoided: samplers, and the guiders of samplers."""
    for node in graph.nodes.values():
        names = {name for name, _ in node.links()}
        is_last = not any(name in (*SIDES, "conditioning") for _, name, _ in graph.consumers(node.id))
        if is_last and ("conditioning" in names or "positive" in names):
            yield node


def _has_sides(node: Node) -> bool:
    return all(graphs.link_in(node.inputs.get(side)) is not None for side in SIDES)
