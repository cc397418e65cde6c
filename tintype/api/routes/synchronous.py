"""`POST /generate`: one call that waits for the picture, for clients that cannot follow events."""

import asyncio
import base64
import uuid
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tintype import errors, storage
from tintype.accounts.actors import Actor
from tintype.api import pictures, problems
from tintype.api.context import Context, CurrentActor, Parts
from tintype.api.follow import follow
from tintype.api.routes import generate
from tintype.api.writes import write
from tintype.db import session as db
from tintype.db.session import WriteSession
from tintype.errors import FieldError
from tintype.generations import operations as generations
from tintype.generations.schemas import IS_PICTURE, EditCreate, ImageCreate, Prompt
from tintype.generations.tables import Generation

router = APIRouter(tags=["generations"])


class ModeNotOfferedError(errors.InvalidRequestError):
    """This mode is not offered."""

    code = "mode_not_offered"


class SynchronousRequest(BaseModel):
    """A request that waits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: str = Field(default="free", max_length=40, description="`free` (from words) or `edit`.")
    prompt: Prompt
    style: str | None = Field(default=None, max_length=100)
    target_image: str | None = Field(default=None, description="The picture to edit, base64 or a data URL.")
    extra_params: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="Any field of `POST /api/generate/image`, or of `/edit`."
    )


class SynchronousAnswer(BaseModel):
    """The end of the work, or `processing` with the id when it takes longer than the server waits."""

    task_id: uuid.UUID
    status: Literal["done", "failed", "processing"]
    image: str | None = None
    error: str | None = None


class Accepted(BaseModel):
    """Which generation the waiting is for."""

    id: uuid.UUID


@router.post("/generate", responses=problems.responses(403, 404, *generate.STATUSES))
async def generate_and_wait(
    request: Request, response: Response, body: SynchronousRequest, context: Parts, actor: CurrentActor
) -> SynchronousAnswer:
    """Make or change a picture and wait for it, 180 s at most unless the server is set up otherwise."""
    wanted = _wanted(body)
    try:
        answer = await _accept(request, wanted, context, actor)
    except errors.TintypeError as error:
        error.fields = tuple(FieldError(loc=_place(body, field.loc[1:]), msg=field.msg) for field in error.fields)
        raise
    if "Idempotent-Replayed" in answer.headers:
        response.headers["Idempotent-Replayed"] = "true"
    generation_id = Accepted.model_validate_json(bytes(answer.body)).id
    try:
        async with asyncio.timeout(context.api.sync_wait_s):
            async for _ in follow(context, actor, generation_id=generation_id, last_id=0):
                pass
    except TimeoutError:
        return SynchronousAnswer(task_id=generation_id, status="processing")
    return await _end(context, actor, generation_id)


async def _accept(request: Request, wanted: ImageCreate, context: Context, actor: Actor) -> Response:
    async with pictures.brought_along(context, wanted) as brought:

        async def work(session: WriteSession) -> Accepted:
            in_line = await generations.create(session, actor, wanted, context.catalogue, brought.uploads)
            return Accepted(id=in_line.generation.id)

        return brought.kept(await write(request, context, actor, work, status=200))


def _wanted(body: SynchronousRequest) -> ImageCreate:
    """The request for pictures that this body comes to."""
    if body.mode not in ("free", "edit"):
        raise ModeNotOfferedError(
            f"mode {body.mode!r} is not offered; send 'free' or 'edit'", fields=(_mode(body.mode),)
        )
    is_edit = body.mode == "edit"
    if (body.target_image is not None) != is_edit:
        message = "is required in mode 'edit'" if is_edit else "mode 'free' takes no picture; leave it out"
        fields = (FieldError(loc=("body", "target_image"), msg=message),)
        raise errors.InvalidRequestError(f"target_image: {message}", fields=fields)
    for name in ("prompt", "num_images", "image", *(("style",) if body.style else ())):
        if name in body.extra_params:
            message = "this route makes one picture" if name == "num_images" else "belongs outside of extra_params"
            raise errors.InvalidRequestError(
                f"{name}: {message}", fields=(FieldError(loc=("body", "extra_params", name), msg=message),)
            )
    named = {"prompt": body.prompt, **({"style": body.style} if body.style else {})}
    try:
        if body.target_image is None:
            return ImageCreate.model_validate({**body.extra_params, **named})
        return EditCreate.model_validate({**body.extra_params, **named, "image": _as_url(body.target_image)})
    except ValidationError as error:
        fields = tuple(
            FieldError(loc=_place(body, item["loc"]), msg=problems.sentence(item)) for item in error.errors()
        )
        detail = "; ".join(f"{field.loc[-1]}: {field.msg}" for field in fields)
        raise errors.InvalidRequestError(detail, fields=fields) from error


def _as_url(picture: str) -> str:
    """Bare base64 as a data URL; which format it is, its bytes say."""
    return picture if IS_PICTURE.match(picture) else f"data:image/png;base64,{picture}"


def _place(body: SynchronousRequest, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where in this body a field of the image request stands."""
    if loc[0] == "image" and body.target_image is not None:
        return ("body", "target_image")
    is_own = loc[0] == "prompt" or (loc[0] == "style" and body.style)
    return ("body", *loc) if is_own else ("body", "extra_params", *loc)


def _mode(mode: str) -> FieldError:
    return FieldError(loc=("body", "mode"), msg=f"{mode!r} is not offered; send 'free' or 'edit'")


async def _end(context: Context, actor: Actor, generation_id: uuid.UUID) -> SynchronousAnswer:
    async with db.reading(context.database) as session:
        row: Generation = await generations.get(session, actor, generation_id)
        pictures = (await generations.media_of(session, [row]))[row.id]
    if row.status == "completed":
        data = await storage.get(context.store, pictures[0].key)
        return SynchronousAnswer(task_id=generation_id, status="done", image=base64.b64encode(data).decode())
    if row.completed_at is None:
        return SynchronousAnswer(task_id=generation_id, status="processing")
    error = row.error_message or f"the generation was {row.status}"
    return SynchronousAnswer(task_id=generation_id, status="failed", error=error)
