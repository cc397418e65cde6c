"""Whether a workflow can run: its bindings against its graph, and the graph against what a server has.

Everything that is wrong is found at once, and each sentence names the node, what is missing and what to do.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tintype import errors
from tintype.comfy.workflows import choosing, graphs, model_names
from tintype.comfy.workflows.graphs import Graph, Node
from tintype.comfy.workflows.installed import Workflow
from tintype.comfy.workflows.node_types import ANY, CHOICE, InputType, NodeTypes
from tintype.comfy.workflows.schema import Input, Target

SHOWN = 12
"""Choices that a sentence lists at most."""

FIT: dict[str, tuple[str, ...]] = {
    "text": ("STRING",),
    "integer": ("INT", "FLOAT"),
    "seed": ("INT",),
    "number": ("FLOAT", "INT"),
    "boolean": ("BOOLEAN",),
}
"""The kinds of a node's inputs that each type of a workflow's inputs fits; the others are choices or files."""


class WorkflowUnfitError(errors.InvalidRequestError):
    """The workflow cannot run as it is."""

    code = "workflow_unfit"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that keeps a workflow from running: a stable code, the node it is about, and a sentence."""

    code: str
    node: str
    message: str


def refuse(problems: Sequence[Problem]) -> None:
    """Let a workflow through that has no problems.

    Raises:
        WorkflowUnfitError: it has some; all are listed.
    """
    if problems:
        raise WorkflowUnfitError("; ".join(problem.message for problem in problems))


def check(workflow: Workflow, types: NodeTypes | None = None) -> list[Problem]:
    """All that is wrong with a workflow by itself and, given what a server has, with running it there."""
    found = list(_binding_problems(workflow, types))
    if types is None or found:
        return found
    graph = model_names.resolved(workflow.graph, types)
    return [*_required_problems(workflow, types), *check_graph(graph, types, given=_written(workflow))]


def check_graph(graph: Graph, types: NodeTypes, *, given: Collection[tuple[str, str]] = frozenset()) -> list[Problem]:
    """All that keeps a server from running a graph; `given` are inputs, by node id and name, still to be filled in."""
    return [problem for node in graph.nodes.values() for problem in _node_problems(graph, node, types, given)]


def _written(workflow: Workflow) -> set[tuple[str, str]]:
    """The inputs that get pictures and LoRAs, or whose nodes are taken out: what stands there now is never used."""
    always = ("picture", "mask", "controls", "loras")
    found = [one for one in workflow.bindings.inputs if one.type in always or one.default == choosing.NONE]
    return {(workflow.graph.find(one.node).id, one.input) for given in found for one in given.targets}


def _binding_problems(workflow: Workflow, types: NodeTypes | None) -> Iterator[Problem]:
    for given in workflow.bindings.inputs:
        for target in given.targets:
            yield from _target_problems(workflow.graph, given, target, types)
    named = [*workflow.bindings.bypass, *(name for given in workflow.bindings.inputs for name in given.without)]
    for name in (*named, *(output.node for output in workflow.bindings.outputs)):
        if (problem := _not_found(workflow.graph, name)) is not None:
            yield problem
    for name, places in workflow.bindings.bypass.items():
        if _not_found(workflow.graph, name) is None:
            yield from _bypass_problems(workflow.graph, workflow.graph.find(name), places.values())


def _bypass_problems(graph: Graph, node: Node, places: Collection[str]) -> Iterator[Problem]:
    for place in places:
        if place not in node.inputs:
            said = f"`bypass` of {node.name} names the input {place!r}, which it has not; it has {_listed(node.inputs)}"
            yield Problem(code="input_unknown", node=node.title, message=said)


def _not_found(graph: Graph, name: str) -> Problem | None:
    try:
        graph.find(name)
    except (graphs.NodeUnknownError, graphs.NodeAmbiguousError) as error:
        return Problem(code=error.code, node=name, message=error.detail)
    return None


def _target_problems(graph: Graph, given: Input, target: Target, types: NodeTypes | None) -> Iterator[Problem]:
    if (problem := _not_found(graph, target.node)) is not None:
        yield Problem(code=problem.code, node=target.node, message=f"input {given.name!r}: {problem.message}")
        return
    node = graph.find(target.node)
    known = types[node.class_type].inputs_of(node) if types is not None and node.class_type in types else {}
    if target.input not in node.inputs and target.input not in known:
        said = f"input {given.name!r} goes to {target.input!r} of {node.name}, which it has not; it has "
        yield Problem(code="input_unknown", node=node.title, message=said + _listed({**node.inputs, **known}))
        return
    if (link := graphs.link_in(node.inputs.get(target.input))) is not None:
        source = graph.nodes[link[0]].name if link[0] in graph.nodes else repr(link[0])
        said = f"input {given.name!r} goes to {target.input!r} of {node.name}, which {source} feeds; bind that one"
        yield Problem(code="input_linked", node=node.title, message=said)
    elif target.input in known:
        yield from _fit_problems(node, given, target, known[target.input])
    elif _is_of_other_type(given, node.inputs[target.input]):
        said = f"input {given.name!r} is of type {given.type}, and {target.input!r} of {node.name} holds "
        yield Problem(
            code="type_mismatch", node=node.title, message=f"{said}{node.inputs[target.input]!r}; choose another type"
        )


def _is_of_other_type(given: Input, present: object) -> bool:
    if given.type in ("text", "picture", "mask", "model"):
        return not isinstance(present, str)
    if given.type in ("integer", "number", "seed"):
        return isinstance(present, bool) or not isinstance(present, int | float)
    return given.type == "boolean" and not isinstance(present, bool)


def _fit_problems(node: Node, given: Input, target: Target, kind: InputType) -> Iterator[Problem]:
    """What of an input's type, limits and choices the node would not take."""
    fitting = FIT.get(given.type)
    if fitting is not None and kind.kind not in fitting and not kind.is_open:
        said = f"input {given.name!r} is of type {given.type}, and {target.input!r} of {node.name} takes "
        yield Problem(code="type_mismatch", node=node.title, message=f"{said}{kind.kind}; choose another type")
        return
    for limit, own, sign in ((kind.min, given.min, 1), (kind.max, given.max, -1)):
        if limit is not None and own is not None and (own - limit) * sign < 0:
            said = f"input {given.name!r} allows {own:g}, and {target.input!r} of {node.name} takes "
            end = f"{limit:g} or {'more' if sign > 0 else 'less'}; change `{'min' if sign > 0 else 'max'}`"
            yield Problem(code="out_of_range", node=node.title, message=said + end)
    if given.type == "choice" and kind.choices is not None:
        for strange in [one for one in given.choices if one not in kind.choices]:
            said = f"input {given.name!r} offers {strange!r}, which {target.input!r} of {node.name} does not take"
            message = f"{said}; it takes {_listed(kind.choices)}"
            yield Problem(code="value_not_in_list", node=node.title, message=message)


def _required_problems(workflow: Workflow, types: NodeTypes) -> Iterator[Problem]:
    """What the bindings say is needed and the server has not, beyond what the graph shows."""
    shown = {node.class_type for node in workflow.graph.nodes.values()}
    for name in workflow.bindings.requires.nodes:
        if name not in types and name not in shown:
            yield _missing_class(Node(id="?", class_type=name, title=name, inputs={}))
    for model in workflow.bindings.requires.models:
        listed = _models_in(model.folder, types)
        if listed is not None and model_names.resolve(model.name, listed) is None:
            yield _missing_file("the workflow", workflow.id, model.name, model.folder, listed)


def _models_in(folder: str, types: NodeTypes) -> list[object] | None:
    """What a server lists of one model folder, wherever a node chooses from it; None where none does."""
    found = [
        kind.choices
        for one in types.values()
        for name, kind in one.inputs.items()
        if kind.choices is not None and model_names.folder_of(one.name, name) == folder
    ]
    return [choice for choices in found for choice in choices] if found else None


def _node_problems(graph: Graph, node: Node, types: NodeTypes, given: Collection[tuple[str, str]]) -> Iterator[Problem]:
    if node.class_type not in types:
        yield _missing_class(node)
        return
    kinds = types[node.class_type].inputs_of(node)
    for name, kind in kinds.items():
        if name in node.inputs:
            if (node.id, name) not in given:
                yield from _value_problems(graph, node, name, kind, types)
        elif kind.is_required and not _is_given_otherwise(node, name, kind):
            said = f"{node.name} needs its input {name!r}, and nothing is connected to it; connect it in ComfyUI and "
            yield Problem(code="input_missing", node=node.title, message=said + "export the workflow again")
    for name, (source, slot) in node.links():
        if name not in kinds:
            yield from _link_problems(graph, node, name, (source, slot), None, types)


def _is_given_otherwise(node: Node, name: str, kind: InputType) -> bool:
    """Whether an input stands in the graph under a name that older or newer servers know it by."""
    flat = name.rpartition(".")[2]
    return flat in node.inputs or (kind.is_open and any(one.startswith(f"{name}.") for one in node.inputs))


def _value_problems(graph: Graph, node: Node, name: str, kind: InputType, types: NodeTypes) -> Iterator[Problem]:
    value = node.inputs[name]
    link = graphs.link_in(value)
    if link is not None and not kind.takes_several:
        yield from _link_problems(graph, node, name, link, kind, types)
    elif kind.is_open or kind.takes_several or kind.is_upload:
        return
    elif not kind.takes_value:
        if any(kind.kind in one.outputs for one in types.values()):
            said = f"{name!r} of {node.name} holds {value!r} where a {kind.kind} is to be connected; connect one"
            yield Problem(code="input_missing", node=node.title, message=said)
    elif kind.choices is not None:
        if value not in kind.choices:
            yield _not_in_list(node, name, value, kind.choices)
    elif (wrong := _wrong_type(value, kind)) is not None:
        yield Problem(code="type_mismatch", node=node.title, message=f"{name!r} of {node.name} {wrong}")
    elif isinstance(value, int | float):
        yield from _range_problems(node, name, value, kind)


def _wrong_type(value: object, kind: InputType) -> str | None:
    expected: dict[str, tuple[tuple[type, ...], str]] = {
        "INT": ((int,), "a whole number"),
        "FLOAT": ((int, float), "a number"),
        "STRING": ((str,), "a text"),
        "BOOLEAN": ((bool,), "true or false"),
    }
    if kind.kind not in expected:
        return None
    types, what = expected[kind.kind]
    is_whole = kind.kind == "INT" and isinstance(value, float) and value.is_integer()
    fits = isinstance(value, types) and (isinstance(value, bool) == (kind.kind == "BOOLEAN"))
    return None if fits or is_whole else f"is {_short(value)}; set it to {what}"


def _range_problems(node: Node, name: str, value: float, kind: InputType) -> Iterator[Problem]:
    beyond = None
    if kind.min is not None and value < kind.min:
        beyond = f"{kind.min:g} or more"
    elif kind.max is not None and value > kind.max:
        beyond = f"{kind.max:g} or less"
    if beyond is not None:
        said = f"{name!r} of {node.name} is {value:g}; set it to {beyond}"
        yield Problem(code="out_of_range", node=node.title, message=said)


def _link_problems(
    graph: Graph, node: Node, name: str, link: graphs.Link, kind: InputType | None, types: NodeTypes
) -> Iterator[Problem]:
    source, slot = link
    if source not in graph.nodes:
        said = (
            f"{name!r} of {node.name} is linked to the node {source!r}, which is not there; export the workflow again"
        )
        yield Problem(code="link_broken", node=node.title, message=said)
        return
    there = graph.nodes[source]
    if there.class_type not in types:
        return  # reported as a class that is missing
    outputs = types[there.class_type].outputs
    if not 0 <= slot < len(outputs):
        said = f"{name!r} of {node.name} is linked to output {slot} of {there.name}, which has {len(outputs)}"
        yield Problem(code="link_broken", node=node.title, message=f"{said}; export the workflow again")
    elif kind is not None and not _connects(outputs[slot], kind):
        said = f"{name!r} of {node.name} takes {kind.kind}, and {there.name} gives {outputs[slot]} there"
        yield Problem(code="type_mismatch", node=node.title, message=f"{said}; connect another")


def _connects(given: str, kind: InputType) -> bool:
    offered, taken = set(given.split(",")), set(kind.kind.split(","))
    return kind.is_open or ANY in offered or bool(offered & taken) or CHOICE in taken | offered


def _not_in_list(node: Node, name: str, value: object, choices: Sequence[object]) -> Problem:
    folder = model_names.folder_of(node.class_type, name)
    if folder is not None or model_names.is_file(value):
        return _missing_file(node.name, node.title, str(value), folder, choices)
    said = f"{name!r} of {node.name} is {_short(value)}, which this server does not offer; choose one of "
    return Problem(code="value_not_in_list", node=node.title, message=said + _listed(choices))


def _missing_file(who: str, title: str, name: str, folder: str | None, there: Sequence[object]) -> Problem:
    place = f"the folder {folder!r} of ComfyUI's models" if folder else "ComfyUI's models"
    has = f"there are {_listed(there)}" if there else "there are none"
    said = f"{who} needs the file {name!r} in {place}; put it there, or choose one of those it has: {has}"
    return Problem(code="model_missing", node=title, message=said)


def _missing_class(node: Node) -> Problem:
    package = package_of(node.class_type)
    where = f"the custom nodes {package!r}" if package else "the custom nodes that have it, or a newer ComfyUI,"
    said = f"{node.name} is of class {node.class_type!r}, which this server does not know; install {where} there and "
    return Problem(code="node_missing", node=node.title, message=f"{said}restart it")


def package_of(class_type: str) -> str | None:
    """The package of custom nodes that a class comes from, where it is a well-known one."""
    known = _packages()
    if class_type in known["classes"]:
        return known["classes"][class_type]
    return next((package for start, package in known["prefixes"].items() if class_type.startswith(start)), None)


@cache
def _packages() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "packages.json").read_text())


def _listed(names: Collection[object]) -> str:
    shown = ", ".join(_short(name) for name in list(names)[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown or "none"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
