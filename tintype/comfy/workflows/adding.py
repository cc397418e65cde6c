"""A workflow becomes a model: what a person keeps of a proposal, as the files of a folder of the catalogue."""

import json
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tintype import errors
from tintype.comfy.workflows import checking, describing, forbidden, installed, model_names, schema
from tintype.comfy.workflows.installed import Workflow
from tintype.comfy.workflows.node_types import NodeTypes
from tintype.comfy.workflows.proposing import Proposal, Proposed
from tintype.comfy.workflows.schema import Bindings, Input, RequiredModel, Requires

SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MANIFEST_NAME = "manifest.json"
README_NAME = "README.md"


class AnswerInvalidError(errors.InvalidRequestError):
    """What was chosen for a workflow does not fit it."""

    code = "workflow_answer_invalid"


class WorkflowThereError(errors.ConflictError):
    """A model with this id is installed already."""

    code = "workflow_exists"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a person decides when a workflow is added: its name, the inputs to keep, and narrower limits.

    `limits` gives least and most of inputs that are numbers; `scale` how many times an upscaling workflow enlarges.
    `depicts_person` says that a model in it was trained on one person.
    """

    id: str
    name: str
    description: str = ""
    keep: Collection[str] = ()
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    family: str = "comfyui"
    scale: int | None = None
    licence: str = "unknown"
    depicts_person: bool = False


@dataclass(frozen=True, kw_only=True)
class Addition:
    """A workflow that passed every check, and its manifest."""

    workflow: Workflow
    manifest: dict[str, Any]


def slug_of(name: str) -> str:
    """An id for a model of this name."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64].strip("-")
    return slug or "workflow"


def prepare(proposal: Proposal, answers: Answers, types: NodeTypes | None = None) -> Addition:
    """The workflow with the inputs that were kept, checked by itself and, given `types`, against a server.

    Raises:
        AnswerInvalidError: an id, an input or a limit does not fit.
        checking.WorkflowUnfitError: it could not run; every reason is listed.
        identity.IdentityTransferError, safety.BlockedError, forbidden.WorkflowForbiddenError: it may not run here.
    """
    if not SLUG.fullmatch(answers.id):
        raise AnswerInvalidError(
            f"{answers.id[:80]!r} is no id of a model: use small letters, digits, dots and dashes, 64 at most"
        )
    kept = _kept(proposal, answers)
    bindings = _bindings(proposal, kept)
    workflow = Workflow(id=answers.id, graph=proposal.graph, bindings=bindings)
    checking.refuse(checking.check(workflow))
    forbidden.refuse_workflow(workflow)
    if types is not None:
        checking.refuse(checking.check(workflow, types))
    return Addition(workflow=workflow, manifest=describing.manifest_of(workflow, answers.name, answers))


def _kept(proposal: Proposal, answers: Answers) -> list[Input]:
    offered = {one.given.name: one for one in proposal.inputs}
    if strange := sorted({*answers.keep, *answers.limits} - offered.keys()):
        there = ", ".join(offered) or "none"
        raise AnswerInvalidError(f"the workflow offers no input {strange[0]!r}; it offers {there}")
    wanted = [name for name in offered if name in answers.keep]
    if "loras" in wanted:  # the catalogue's LoRAs go into the same nodes
        wanted = [name for name in wanted if not name.startswith("lora") or name == "loras"]
    if not {"prompt", "image"} & set(wanted):
        raise AnswerInvalidError(
            "a workflow needs a prompt or a picture among its inputs, or nobody could say what to make; it offers "
            f"{', '.join(offered) or 'none'}"
        )
    return [_limited(offered[name], answers.limits.get(name)) for name in wanted]


def _limited(one: Proposed, limits: tuple[float, float] | None) -> Input:
    if limits is None:
        return one.given
    if one.given.type not in schema.NUMBERS:
        raise AnswerInvalidError(f"{one.given.name!r} is no number and has no limits; leave them out")
    try:
        return Input.model_validate({**one.given.model_dump(), "min": limits[0], "max": limits[1]})
    except ValidationError as error:
        raise AnswerInvalidError(f"{one.given.name!r} cannot go from {limits[0]:g} to {limits[1]:g}") from error


def _bindings(proposal: Proposal, kept: list[Input]) -> Bindings:
    graph = proposal.graph
    loras = [
        slot.node
        for given in kept
        if given.type == "loras"
        for slot in given.slots
        if isinstance(slot, schema.LoraSlot)
    ]
    bound = {(graph.find(one.node).id, one.input) for given in kept for one in given.targets}
    files = [
        RequiredModel(folder=folder, name=value)
        for node in graph.nodes.values()
        for name, value in node.inputs.items()
        if (folder := model_names.folder_of(node.class_type, name)) is not None
        and isinstance(value, str)
        and value not in model_names.BUILT_IN
        and (node.id, name) not in bound
    ]
    classes = tuple(sorted({node.class_type for node in graph.nodes.values()}))
    return Bindings(
        inputs=tuple(kept),
        bypass={node: {"0": "model", "1": "clip"} for node in loras},
        requires=Requires(nodes=classes, models=tuple({(one.folder, one.name): one for one in files}.values())),
        outputs=proposal.outputs,
    )


def write(addition: Addition, models: Path, *, taken: Collection[str] = ()) -> Path:
    """Put a workflow into the folder of models, whole or not at all; its folder. `taken` are ids of installed models.

    Raises:
        WorkflowThereError: a model with this id is there.
    """
    folder = models / addition.workflow.id
    models.mkdir(parents=True, exist_ok=True)
    if addition.workflow.id in taken:
        raise WorkflowThereError(f"a model {addition.workflow.id!r} is installed already; choose another id")
    if folder.exists():
        raise WorkflowThereError(f"{folder} is there already; choose another id, or remove that one first")
    beside = Path(tempfile.mkdtemp(prefix=".adding-", dir=models))
    try:
        for name, text in _files(addition).items():
            (beside / name).write_text(text, encoding="utf-8")
        beside.chmod(0o755)
        beside.rename(folder)
    except OSError as error:
        if folder.exists():
            raise WorkflowThereError(f"{folder} is there already; choose another id") from error
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _files(addition: Addition) -> dict[str, str]:
    workflow = addition.workflow
    bindings = workflow.bindings.model_dump(mode="json", exclude_defaults=True)
    found = {
        installed.GRAPH_NAME: workflow.graph.as_prompt(),
        installed.BINDINGS_NAME: {"inputs": [], **bindings},
        MANIFEST_NAME: addition.manifest,
    }
    texts = {name: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for name, value in found.items()}
    return {**texts, README_NAME: describing.readme_of(workflow, addition.manifest)}
