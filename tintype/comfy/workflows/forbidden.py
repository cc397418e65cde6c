"""What no workflow may hold, whoever made it: looked for when one is added, and again in every graph that is run.

Parts that put one person's face onto another; words that ask for what is not made here; nodes that run programs; and
nodes that load pictures which did not come through Tintype's own door, where every picture is looked at.
"""

import re
from collections.abc import Iterator

from tintype import errors, safety
from tintype.comfy.workflows import model_names, tracing
from tintype.comfy.workflows.graphs import Graph, Node
from tintype.comfy.workflows.installed import Workflow
from tintype.providers.contract import GenerationRequest
from tintype.safety import Facts, Stage, identity

LOADS_PICTURES = re.compile(r"load(image|video|latent|img|picture|gif)|image(load|from(url|base64|path|file))|webcam")
LOADS_MODELS = re.compile(r"checkpoint|model|lora|clip")
RUNS_PROGRAMS = re.compile(r"python|shell|subprocess|executecode|runcode|evalcode|execscript")
MASK_TO_PICTURE = re.compile(r"masks?to(image|rgb|picture)")
PICTURES = ("picture", "mask", "controls")


class WorkflowForbiddenError(errors.InvalidRequestError):
    """The workflow has a part that is not used here."""

    code = "workflow_forbidden"


def refuse_names(graph: Graph) -> None:
    """Let a graph through, unless a part of it is called as parts that transfer identity are; used or not.

    Raises:
        identity.IdentityTransferError: it names which.
    """
    identity.refuse_identity_transfer(_names(graph), field="workflow")


def refuse_workflow(workflow: Workflow) -> None:
    """Let a workflow in, unless something in it is not used here.

    Raises:
        identity.IdentityTransferError: a node, title or model is made to put a person's face onto another picture.
        safety.BlockedError: words in it ask for what is not made here.
        WorkflowForbiddenError: it runs programs, loads a file of the server's, or takes a mask for a picture.
    """
    _refuse_masks_as_pictures(workflow)
    _refuse(workflow, workflow.graph, frozenset())


def refuse_run(workflow: Workflow, graph: Graph, request: GenerationRequest) -> None:
    """Let a graph that was made of a workflow run, unless something in it is not used here; before every submit.

    The words of the request itself were looked at when it arrived, beside what is known of its pictures.

    Raises:
        identity.IdentityTransferError, safety.BlockedError, WorkflowForbiddenError: as `refuse_workflow`.
    """
    asked = {text for text in request.options.values() if isinstance(text, str)}
    _refuse(workflow, graph, frozenset({request.prompt, request.negative_prompt, *asked}))


def _refuse(workflow: Workflow, graph: Graph, screened: frozenset[str]) -> None:
    refuse_names(graph)
    loaded = {
        (workflow.graph.find(target.node).id, target.input)
        for given in workflow.bindings.inputs
        if given.type in PICTURES
        for target in given.targets
    }
    for node in graph.nodes.values():
        if RUNS_PROGRAMS.search(_letters(node.class_type)):
            raise WorkflowForbiddenError(
                f"{node.name} is of class {node.class_type!r}, which runs programs of the workflow's; take it out"
            )
        if loads_pictures(node) and not any((node.id, name) in loaded for name in node.inputs):
            raise WorkflowForbiddenError(
                f"{node.name} loads a file of the server's, which nobody has looked at; make it an input of the "
                "workflow, or take it out"
            )
    _refuse_words(graph, screened, Facts(stage=Stage.PROMPT, has_person_source=bool(loaded)))


def loads_pictures(node: Node) -> bool:
    """Whether a node brings pictures into the graph, by what its class is called."""
    kind = _letters(node.class_type)
    return bool(LOADS_PICTURES.search(kind)) and not LOADS_MODELS.search(kind)


def _names(graph: Graph) -> Iterator[str]:
    """Every name that says what a part is for: classes, titles, and files of models."""
    for node in graph.nodes.values():
        yield node.class_type
        yield node.title
        for name, value in node.inputs.items():
            if isinstance(value, str) and (model_names.is_file(value) or name.endswith("_name")):
                yield value


def _refuse_words(graph: Graph, screened: frozenset[str], facts: Facts) -> None:
    """Look at every text of the graph's own, as what is drawn or as what is avoided."""
    avoided = tracing.sides(graph).avoided
    for node in graph.nodes.values():
        for value in node.inputs.values():
            if not isinstance(value, str) or value in screened or model_names.is_file(value):
                continue
            if node.id in avoided:
                safety.screen_text("", facts, negative=value, field="workflow")
            else:
                safety.screen_text(value, facts, field="workflow")


def _refuse_masks_as_pictures(workflow: Workflow) -> None:
    """A mask is not counted among the pictures that may show a person, so nothing may make a picture of one."""
    graph = workflow.graph
    found = [given for given in workflow.bindings.inputs if given.type in ("picture", "mask")]
    pictures = {graph.find(target.node).id for given in found if given.type == "picture" for target in given.to}
    masks = {graph.find(target.node).id for given in found if given.type == "mask" for target in given.to}
    for loader in masks - pictures:
        for node, _, slot in graph.consumers(loader):
            if slot == 0 and graph.nodes[loader].class_type != "LoadImageMask":
                raise _mask_as_picture(graph.nodes[loader], node)
    for node in graph.nodes.values():
        if MASK_TO_PICTURE.search(_letters(node.class_type)):
            for loader in {one.id for one in graph.upstream(node.id)} & masks - pictures:
                raise _mask_as_picture(graph.nodes[loader], node)


def _mask_as_picture(loader: Node, node: Node) -> WorkflowForbiddenError:
    return WorkflowForbiddenError(
        f"{loader.name} is given a mask, and {node.name} makes a picture of it; bind it as a picture instead"
    )


def _letters(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())
