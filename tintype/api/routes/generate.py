"""Generations: create, read, list, cancel, run again, delete."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from tintype import logs
from tintype.accounts.actors import Actor
from tintype.api import deleting, pictures, problems, render
from tintype.api.context import Context, CurrentActor, Parts
from tintype.api.writes import write
from tintype.db import session as db
from tintype.db.session import WriteSession
from tintype.generations import operations as generations
from tintype.generations import queries
from tintype.generations.schemas import (
    EditCreate,
    GenerationPage,
    GenerationRead,
    ImageCreate,
    ShortText,
    Text,
    UpscaleCreate,
    VideoCreate,
)
from tintype.generations.schemas import (
    Request as Asked,
)
from tintype.generations.states import Status

log = logs.get("api")

router = APIRouter(prefix="/api/generate", tags=["generations"])


STATUSES = (413, 415, 422, 429, 502, 503, 504, 507)
ANSWERS = problems.responses(403, *STATUSES)


@router.post("/image", status_code=202, response_model=GenerationRead, responses=ANSWERS)
async def create_image(request: Request, body: ImageCreate, context: Parts, actor: CurrentActor) -> Response:
    """Ask for pictures from words; answers at once with the waiting generation."""
    return await _create(request, body, context, actor)


@router.post("/edit", status_code=202, response_model=GenerationRead, responses=ANSWERS)
async def edit_image(request: Request, body: EditCreate, context: Parts, actor: CurrentActor) -> Response:
    """Ask for a picture to be changed: all of it, inside a mask, beyond its edges, or without its background."""
    return await _create(request, body, context, actor)


@router.post("/upscale", status_code=202, response_model=GenerationRead, responses=ANSWERS)
async def upscale_image(request: Request, body: UpscaleCreate, context: Parts, actor: CurrentActor) -> Response:
    """Ask for a picture to be enlarged."""
    return await _create(request, body, context, actor)


@router.post("/video", status_code=202, response_model=GenerationRead, responses=ANSWERS)
async def create_video(request: Request, body: VideoCreate, context: Parts, actor: CurrentActor) -> Response:
    """Ask for a video, from words or from the picture it begins with."""
    return await _create(request, body, context, actor)


async def _create(request: Request, body: Asked, context: Context, actor: Actor) -> Response:
    async with pictures.brought_along(context, body) as brought:

        async def work(session: WriteSession) -> GenerationRead:
            accepted = await generations.create(session, actor, body, context.catalogue, brought.uploads)
            log.info("accepted", generation_id=str(accepted.generation.id), model=accepted.generation.model)
            return render.waiting(accepted)

        return brought.kept(await write(request, context, actor, work, status=202))


@router.get("", responses=problems.responses(422, 503))
async def list_generations(
    context: Parts,
    actor: CurrentActor,
    status: Status | None = None,
    kind: ShortText | None = None,
    model: ShortText | None = None,
    style: ShortText | None = None,
    owner: uuid.UUID | None = None,
    q: Annotated[Text | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
) -> GenerationPage:
    """A page of generations, newest first."""
    wanted = queries.Filter(status=status, kind=kind, model=model, style=style, q=q, owner=owner)
    async with db.reading(context.database) as session:
        rows, following = await queries.page(session, actor, wanted, limit=limit, cursor=cursor)
        return GenerationPage(items=await render.page(context, session, rows), next_cursor=following)


@router.get("/{generation_id}", responses=problems.responses(404, 422, 503))
async def read_generation(generation_id: uuid.UUID, context: Parts, actor: CurrentActor) -> GenerationRead:
    """One generation as it stands."""
    async with db.reading(context.database) as session:
        row = await generations.get(session, actor, generation_id)
        return await render.generation(context, session, row)


@router.post(
    "/{generation_id}/cancel",
    response_model=GenerationRead,
    responses=problems.responses(404, 409, 422, 503),
)
async def cancel_generation(
    request: Request, generation_id: uuid.UUID, context: Parts, actor: CurrentActor
) -> Response:
    """Cancel a waiting generation, or stop a running one within one step."""

    async def work(session: WriteSession) -> GenerationRead:
        row = await generations.cancel(session, actor, generation_id)
        return await render.generation(context, session, row)

    return await write(request, context, actor, work, status=200)


@router.post(
    "/{generation_id}/retry",
    status_code=202,
    response_model=GenerationRead,
    responses=problems.responses(404, 409, 422, 429, 503),
)
async def retry_generation(request: Request, generation_id: uuid.UUID, context: Parts, actor: CurrentActor) -> Response:
    """Run a finished generation again with the same parameters and seeds, as a new generation."""

    async def work(session: WriteSession) -> GenerationRead:
        return render.waiting(await generations.retry(session, actor, generation_id, context.catalogue))

    return await write(request, context, actor, work, status=202)


@router.delete("/{generation_id}", status_code=204, responses=problems.responses(404, 409, 422, 503))
async def delete_generation(
    request: Request, generation_id: uuid.UUID, context: Parts, actor: CurrentActor
) -> Response:
    """Delete a generation and what it made; a running one is cancelled first. What others draw from now stays."""
    return await deleting.write_and_delete(
        request, context, actor, lambda session: generations.remove(session, actor, generation_id)
    )
