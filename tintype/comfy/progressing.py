"""How far a job is: the sampler steps of a whole graph, over all its runs, as one count that only grows.

ComfyUI tells the steps of each node by itself, of decoders and upscalers as well as of samplers. What a person knows
are the steps they asked for, so the steps of samplers count where a graph has any; else whatever tells of steps does.
"""

from tintype.comfy.runs import Step
from tintype.comfy.workflows.graphs import Graph, Node
from tintype.providers.contract import Progress

LATENTS = frozenset(("latent_image", "latent", "latents", "samples", "image_embeds"))
VALUES = ("value", "int", "number", "steps")
"""Names of inputs of nodes that only hold a number for others."""

LINKS_FOLLOWED = 8


class Course:
    """The steps of one job: `runs` runs of a graph."""

    def __init__(self, graph: Graph, runs: int) -> None:
        self._runs = runs
        self._expected = sampler_steps(graph)
        self._most = dict(self._expected)
        self._done: dict[tuple[int, str], int] = {}
        self._ended: set[int] = set()
        self._fraction = -1.0

    def advance(self, run: int, step: Step) -> Progress | None:
        """What a step of one of the runs means for the whole; None where it says nothing new."""
        if step.steps > 0 and (not self._expected or step.node in self._expected):
            self._most[step.node] = step.steps
            before = self._done.get((run, step.node), 0)
            self._done[run, step.node] = max(before, min(step.step, step.steps))
        return self._news()

    def end(self, run: int) -> Progress | None:
        """A run is over, whatever it told of its steps: a server leaves out nodes that it has the result of."""
        self._most = self._most or {"": 1}
        self._ended.add(run)
        return self._news()

    def is_at_last(self, run: int) -> bool:
        """Whether a run is at its last step: what it looks like then is the picture, which is about to come."""
        return sum(done for (which, _), done in self._done.items() if which == run) >= sum(self._most.values()) - 1

    def _news(self) -> Progress | None:
        each = sum(self._most.values())
        if each == 0:
            return None
        begun = sum(done for (run, _), done in self._done.items() if run not in self._ended)
        step, steps = min(len(self._ended) * each + begun, self._runs * each), self._runs * each
        if step / steps <= self._fraction:
            return None
        self._fraction = step / steps
        return Progress(step=step, steps=steps)


def sampler_steps(graph: Graph) -> dict[str, int]:
    """How many steps each node that samples will do, as far as the graph says so."""
    found = {node.id: _steps(graph, node) for node in graph.nodes.values() if _samples(node)}
    return {name: steps for name, steps in found.items() if steps > 0}


def _samples(node: Node) -> bool:
    links = {name for name, _ in node.links()}
    is_told_steps = "steps" in node.inputs or "sigmas" in links
    return is_told_steps and ("sampler" in node.class_type.lower() or not links.isdisjoint(LATENTS))


def _steps(graph: Graph, node: Node) -> int:
    """0 where it cannot be told."""
    if "steps" in node.inputs:
        steps = _number(graph, node, "steps")
        start, end = _number(graph, node, "start_at_step"), _number(graph, node, "end_at_step")
        return max(0, min(steps, end or steps) - start)
    source = dict(node.links())["sigmas"][0]
    for behind in graph.upstream(source):
        if (steps := _number(graph, behind, "steps")) > 0:
            return steps
    return 0


def _number(graph: Graph, node: Node, name: str) -> int:
    """An input that is a whole number, or comes from a node that holds one; else 0."""
    for _ in range(LINKS_FOLLOWED):
        value = node.inputs.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        links = dict(node.links())
        source = graph.nodes.get(links[name][0]) if name in links else None
        if source is None:
            return 0
        node, name = source, next((held for held in VALUES if held in source.inputs), "")
    return 0
