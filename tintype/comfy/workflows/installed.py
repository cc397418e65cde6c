"""A workflow in its folder: the graph, and the bindings that say how a request fills it in."""

from dataclasses import dataclass
from pathlib import Path

from tintype.comfy.workflows import graphs, schema
from tintype.comfy.workflows.graphs import Graph
from tintype.comfy.workflows.schema import Bindings

GRAPH_NAME = "workflow.json"
BINDINGS_NAME = "bindings.json"


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A graph and its bindings."""

    id: str
    graph: Graph
    bindings: Bindings


def read(folder: Path) -> Workflow:
    """The workflow in a folder of the catalogue.

    Raises:
        schema.BindingsError: a file is missing, or the bindings are not valid.
        graphs.GraphError: the graph is none.
    """
    path = folder / GRAPH_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise schema.BindingsError(f"{path} cannot be read: {error.strerror}; add the workflow again") from error
    return Workflow(id=folder.name, graph=graphs.read(data), bindings=schema.read(folder / BINDINGS_NAME))
