"""Workflows that pictures carry: what one offers, and a model of it."""

import asyncio
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tintype import errors
from tintype.api import problems
from tintype.api.context import Context, CurrentActor, Parts
from tintype.api.routes import models
from tintype.api.writes import write
from tintype.catalog import manifest
from tintype.catalog.operations import Model
from tintype.comfy.workflows import adding, graphs, proposing
from tintype.comfy.workflows.adding import Answers
from tintype.comfy.workflows.proposing import Proposal
from tintype.db import session as db
from tintype.db.session import WriteSession
from tintype.generations.schemas import ShortText, Text
from tintype.media import operations as media
from tintype.media.tables import Media

router = APIRouter(prefix="/api/media", tags=["media"])

Number = Annotated[float, Field(allow_inf_nan=False)]


class NoWorkflowError(errors.NotFoundError):
    """This picture carries no ComfyUI workflow."""

    code = "workflow_unknown"


class InputRead(BaseModel):
    """A value of the workflow that a request could set; `where` says where it goes."""

    name: str
    type: str
    label: str
    present: Any
    where: str
    is_suggested: bool
    min: float | None
    max: float | None
    choices: list[Any]


class WorkflowRead(BaseModel):
    """The workflow that a picture carries, in ComfyUI's API format, and what of it a request could set."""

    workflow: dict[str, Any]
    inputs: list[InputRead]
    problem: str | None = Field(description="Why no model can be made of it, with the suggested inputs.")


class WorkflowCreate(BaseModel):
    """How a workflow becomes a model. What is left out follows from the workflow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: ShortText | None = Field(default=None, description="What requests call it; default: from `name`.")
    name: ShortText = Field(default="Workflow of a picture", min_length=1)
    description: Text = Field(default="", max_length=500)
    accept: tuple[ShortText, ...] | None = Field(default=None, max_length=200, description="Inputs to keep.")
    limits: dict[str, tuple[Number, Number]] = Field(default_factory=dict[str, tuple[Number, Number]], max_length=200)
    family: ShortText = "comfyui"
    scale: int | None = Field(default=None, ge=2, le=8, description="How many times an upscaler enlarges.")
    depicts_person: bool = Field(default=False, description="A model in it was trained on one person.")


@router.get("/{media_id}/workflow", responses=problems.responses(404, 422, 503))
async def read_workflow(media_id: uuid.UUID, context: Parts, actor: CurrentActor) -> WorkflowRead:
    """The ComfyUI workflow that a picture carries, and which of its values a request could set."""
    async with db.reading(context.database) as session:
        row = await media.get(session, actor, media_id)
    return await asyncio.to_thread(_offered, row)


@router.post(
    "/{media_id}/workflow",
    status_code=201,
    response_model=models.ModelRead,
    responses=problems.responses(404, 409, 422, 503),
)
async def add_workflow(
    request: Request, media_id: uuid.UUID, body: WorkflowCreate, context: Parts, actor: CurrentActor
) -> Response:
    """Make a model of the ComfyUI workflow that a picture carries; it is checked first, and may be refused."""

    async def work(session: WriteSession) -> models.ModelRead:
        row = await media.get(session, actor, media_id)
        return models.read(await asyncio.to_thread(_add, row, body, context))

    return await write(request, context, actor, work, status=201)


def _proposal(row: Media) -> Proposal:
    graph = (row.settings or {}).get("graph")
    if graph is None:
        raise NoWorkflowError(
            "this picture carries no ComfyUI workflow; upload one as ComfyUI saved it, or use `tintype comfy add`"
        )
    return proposing.propose(graphs.parse(graph))


def _offered(row: Media) -> WorkflowRead:
    proposal = _proposal(row)
    problem = None
    try:
        adding.prepare(proposal, Answers(id="workflow", name="", keep=proposal.names(suggested=True)))
    except errors.TintypeError as error:
        problem = error.detail
    inputs = [
        InputRead(
            **one.given.model_dump(include={"name", "type", "label", "min", "max", "choices"}),
            present=one.present,
            where=one.where,
            is_suggested=one.is_suggested,
        )
        for one in proposal.inputs
    ]
    return WorkflowRead(workflow=proposal.graph.as_prompt(), inputs=inputs, problem=problem)


def _add(row: Media, body: WorkflowCreate, context: Context) -> Model:
    proposal = _proposal(row)
    answers = Answers(
        id=body.id or adding.slug_of(body.name),
        keep=proposal.names(suggested=True) if body.accept is None else body.accept,
        **body.model_dump(include={"name", "description", "limits", "family", "scale", "depicts_person"}),
    )
    addition = adding.prepare(proposal, answers)
    try:
        manifest.parse(addition.manifest, where=answers.id)
    except manifest.ManifestError as error:
        raise adding.AnswerInvalidError(error.detail) from error
    adding.write(addition, context.home / "models", taken=context.catalogue.models())
    return context.catalogue.get(addition.workflow.id)  # which looks again, so that it is listed from now on
