"""From a request to the graphs that a server gets: checked against what it has, and for what is not done here."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tintype.comfy import files, pictures
from tintype.comfy.client import Server
from tintype.comfy.servers import Inventory
from tintype.comfy.workflows import checking, choosing, forbidden, injecting, installed, model_names, node_types
from tintype.comfy.workflows.graphs import Graph
from tintype.comfy.workflows.injecting import PREFIX_INPUT, Run
from tintype.comfy.workflows.installed import Workflow
from tintype.comfy.workflows.node_types import NodeTypes
from tintype.providers.contract import GenerationRequest

UNIQUE_INPUT = "tintype_job"
"""An input that no node has. A server does not look at it, but does not take the node for one it ran before either."""


class Shelf:
    """The workflows in their folders, read again when a file of one changes."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[tuple[int, ...], Workflow]] = {}

    def get(self, folder: Path) -> Workflow:
        """The workflow in a folder.

        Raises:
            schema.BindingsError, graphs.GraphError: as `installed.read`.
        """
        paths = [folder / name for name in (installed.GRAPH_NAME, installed.BINDINGS_NAME)]
        seen = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
        known = self._read.get(folder)
        if known is None or known[0] != seen:
            known = self._read[folder] = (seen, installed.read(folder))
        return known[1]


class Types:
    """What servers say of their nodes, understood once for each time that it was read."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Inventory, NodeTypes]] = {}

    def of(self, inventory: Inventory) -> NodeTypes:
        """The classes of nodes of a server with this inventory."""
        known = self._known.get(id(inventory))
        if known is None or known[0] is not inventory:
            self._known = dict(list(self._known.items())[-8:])
            known = self._known[id(inventory)] = (inventory, node_types.read(inventory.nodes))
        return known[1]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A request and its workflow, on the way to one of several servers.

    Every seed is a run of its own: a batch would make a picture depend on how many are drawn with it.
    """

    workflow: Workflow
    request: GenerationRequest
    types: Types = field(default_factory=Types)

    @property
    def runs(self) -> tuple[Run, ...]:
        """One run for each seed."""
        return tuple(Run(index=index, count=1, seed=seed) for index, seed in enumerate(self.request.seeds))

    @property
    def outputs(self) -> Mapping[str, str]:
        """What the nodes that save give, `pictures` or `videos`, by their id."""
        return {self.workflow.graph.find(one.node).id: one.kind for one in self.workflow.bindings.outputs}

    def missing(self, inventory: Inventory) -> Sequence[str]:
        """What a server with this inventory lacks for it, one sentence each."""
        keys = dict.fromkeys(injecting.pictures_of(self.workflow, self.request), "")
        graph = self.graph(inventory, self.runs[0], keys, prefix="tintype")
        return [problem.message for problem in checking.check_graph(graph, self.types.of(inventory))]

    def graph(self, inventory: Inventory, run: Run, uploaded: Mapping[str, str], *, prefix: str) -> Graph:
        """The graph of one run, with models called as the server calls them.

        Raises:
            TintypeError: a value does not fit, or the graph holds what is not done here.
        """
        request = choosing.choose(self.workflow, self.request, lambda folder: inventory.models.get(folder, ()))
        graph = injecting.inject(self.workflow, request, run, pictures=uploaded, prefix=prefix)
        graph = model_names.resolved(graph, self.types.of(inventory))
        forbidden.refuse_run(self.workflow, graph, request)
        for node in self.outputs:
            if PREFIX_INPUT not in graph.nodes[node].inputs:
                graph = graph.with_value(node, UNIQUE_INPUT, prefix)
        return graph

    async def upload(self, server: Server) -> dict[str, str]:
        """Send the pictures that the server has not yet; its names for them, by the workflow's inputs."""
        given = injecting.pictures_of(self.workflow, self.request)
        encoded = await asyncio.to_thread(lambda: {key: pictures.encode(pixels) for key, pixels in given.items()})
        return {key: await files.upload(server, data, suffix=".png") for key, data in encoded.items()}
