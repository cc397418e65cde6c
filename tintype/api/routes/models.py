"""The catalogue and the styles."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from tintype.api import problems
from tintype.api.context import CurrentActor, Parts
from tintype.catalog import operations as catalog
from tintype.catalog import styles
from tintype.catalog.manifest import Defaults, Kind, Licence, Limits, Task
from tintype.catalog.operations import Model

router = APIRouter(tags=["catalogue"])


class ModelRead(BaseModel):
    """A model of the catalogue."""

    id: str
    name: str
    description: str
    kind: str
    family: str
    provider: str
    tasks: list[str]
    features: list[str]
    samplers: list[str]
    takes: list[str] | None = Field(description="The fields of a request that a workflow puts to use; null: all.")
    controls: list[str]
    scales: list[int]
    licence: Licence
    disk_bytes: int
    memory_bytes: dict[str, int]
    prompt_languages: list[str]
    draws_people: bool
    defaults: Defaults | None
    limits: Limits | None
    options: dict[str, Any]
    trigger_words: list[str]
    examples: list[str]
    is_default: bool
    dependencies: list[str]


class ModelPage(BaseModel):
    """All models; there are few enough for one page."""

    items: list[ModelRead]
    next_cursor: str | None = None


class StyleRead(BaseModel):
    """A named preset."""

    id: str
    name: str
    description: str
    models: list[str]


class StylePage(BaseModel):
    """All styles."""

    items: list[StyleRead]
    next_cursor: str | None = None


@router.get("/api/models", responses=problems.responses(422))
async def list_models(
    context: Parts, actor: CurrentActor, kind: Kind | None = None, task: Task | None = None
) -> ModelPage:
    """The installed models."""
    models = context.catalogue.models().values()
    return ModelPage(
        items=[
            read(model)
            for model in models
            if kind in (None, model.manifest.kind) and (task is None or task in model.manifest.tasks)
        ]
    )


@router.get("/api/models/{model_id}", responses=problems.responses(404, 422))
async def read_model(model_id: str, context: Parts, actor: CurrentActor) -> ModelRead:
    """One model: what it can do, needs and allows."""
    return read(context.catalogue.get(model_id))


@router.get("/api/styles")
async def list_styles(actor: CurrentActor) -> StylePage:
    """The styles."""
    return StylePage(
        items=[
            StyleRead(id=style.id, name=style.name, description=style.description, models=list(style.models))
            for style in styles.styles().values()
        ]
    )


def read(model: Model) -> ModelRead:
    """A model as it reads on the wire."""
    manifest = model.manifest
    return ModelRead(
        **manifest.model_dump(include=set(ModelRead.model_fields) - {"disk_bytes", "is_default"}),
        disk_bytes=manifest.disk_bytes,
        is_default=model.id == catalog.DEFAULT_MODEL,
    )
