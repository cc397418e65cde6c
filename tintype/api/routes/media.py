"""Pictures and videos: upload, metadata, bytes with ranges and ETags."""

import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Header, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse

from tintype import errors, storage
from tintype.api import deleting, document, pictures, problems, ranges, render
from tintype.api.context import Context, CurrentActor, Parts
from tintype.api.writes import write
from tintype.db import session as db
from tintype.db.session import WriteSession
from tintype.generations import operations as generations
from tintype.generations.schemas import MediaRead
from tintype.media import bare_copies
from tintype.media import operations as media
from tintype.media.tables import Media
from tintype.storage import signing

router = APIRouter(prefix="/api/media", tags=["media"])

Header256 = Annotated[str | None, Header(max_length=256)]
Without = Annotated[
    Literal["settings"] | None,
    Query(
        description="`settings`: the same pixels in a second file that holds neither prompt nor settings, labelled and "
        "signed as the first; of generated pictures only. A signed link opens both files: to keep the prompt to "
        "yourself give the file away, not the link."
    ),
]


ENDINGS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "video/mp4": ".mp4",
}


class NoStoryboardError(errors.NotFoundError):
    """This is a picture; only videos have a storyboard."""

    code = "no_storyboard"


class LinkIncompleteError(errors.TintypeError):
    """A signed link needs both `expires` and `signature`."""

    status = 403
    code = "link_invalid"


@router.post(
    "",
    status_code=201,
    response_model=MediaRead,
    responses=problems.responses(403, 413, 415, 421, 422, 503, 507),
)
async def upload(
    request: Request,
    context: Parts,
    actor: CurrentActor,
    file: Annotated[UploadFile, File(description="A picture.")],
) -> Response:
    """Store a picture; the settings another tool wrote into it are read back."""
    new = await _stored(context, file)

    async def work(session: WriteSession) -> MediaRead:
        row = await media.add_upload(session, actor, new)
        return await render.media(context, row)

    is_kept = False
    try:
        answer = await write(request, context, actor, work, status=201, fingerprint=new.examined.sha256.encode())
        is_kept = "Idempotent-Replayed" not in answer.headers
    finally:
        if not is_kept:
            await media.discard_upload(context.store, new)
    return answer


async def _stored(context: Context, file: UploadFile) -> media.Upload:
    """An upload, examined and in storage; those that wait for their turn wait on disk."""
    async with context.uploads:
        return await pictures.store(context, await file.read())


@router.get("/{media_id}", responses=problems.responses(404, 421, 422, 503))
async def read_media(media_id: uuid.UUID, context: Parts, actor: CurrentActor) -> MediaRead:
    """One picture or video: what it is, and the settings found in it."""
    async with db.reading(context.database) as session:
        return await render.media(context, await media.get(session, actor, media_id))


@router.delete("/{media_id}", status_code=204, responses=problems.responses(404, 409, 422, 503))
async def delete_media(request: Request, media_id: uuid.UUID, context: Parts, actor: CurrentActor) -> Response:
    """Delete an upload that no generation waits for; a generated picture goes with its generation."""
    return await deleting.write_and_delete(
        request, context, actor, lambda session: generations.remove_upload(session, actor, media_id)
    )


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A picture or video of which a file is asked for, by its owner or whoever holds a link."""

    request: Request
    context: Context
    row: Media
    wanted: ranges.Wanted


async def _opened(
    request: Request,
    media_id: uuid.UUID,
    context: Parts,
    actor: CurrentActor,
    range_: Annotated[str | None, Header(alias="range", max_length=256)] = None,
    if_none_match: Header256 = None,
    if_range: Header256 = None,
    expires: Annotated[str | None, Query(max_length=20)] = None,
    signature: Annotated[str | None, Query(max_length=200)] = None,
) -> Opened:
    if expires is not None or signature is not None:
        if expires is None or signature is None:
            raise LinkIncompleteError
        signing.verify(context.signing_secret, request.url.path, expires, signature)
    async with db.reading(context.database) as session:
        row = await media.get(session, actor, media_id)
    wanted = ranges.Wanted(range=range_, if_none_match=if_none_match, if_range=if_range)
    return Opened(request=request, context=context, row=row, wanted=wanted)


Asked = Annotated[Opened, Depends(_opened)]
BYTES: dict[str, Any] = {
    "response_class": StreamingResponse,
    "responses": {**document.CONTENT, **problems.responses(404, 416, 422, 503)},
}


@router.head("/{media_id}/content", include_in_schema=False)
@router.get("/{media_id}/content", **BYTES)
async def content(asked: Asked, without: Without = None) -> Response:
    """The file's bytes, with or `without` prompt and settings in them; honours Range, If-Range and If-None-Match."""
    row = asked.row
    key, sha256 = row.key, row.sha256
    if without:
        copy = await _copy_without_settings(asked.context, row)
        key, sha256 = copy.key, copy.sha256
    return await _bytes(asked, key, sha256, row.content_type)


async def _copy_without_settings(context: Context, row: Media) -> bare_copies.Copy:
    """A picture's second file, made when first asked for; that holds it in memory, as an upload does."""
    found = await bare_copies.find(context.store, row)
    if found is not None:
        return found
    async with context.uploads:
        issuer = await context.issuing.open()
        return await bare_copies.make(context.database, context.store, row, issuer)


@router.head("/{media_id}/thumbnail", include_in_schema=False)
@router.get("/{media_id}/thumbnail", **BYTES)
async def thumbnail(asked: Asked) -> Response:
    """A small WebP of the picture, or of the frame that the video begins with."""
    return await _bytes(asked, asked.row.thumbnail_key, asked.row.thumbnail_sha256, "image/webp")


@router.head("/{media_id}/storyboard", include_in_schema=False)
@router.get("/{media_id}/storyboard", **BYTES)
async def storyboard(asked: Asked) -> Response:
    """Frames of the whole video on one sheet, a WebP; `video.storyboard` of the video says how it is laid out."""
    row = asked.row
    if row.storyboard_key is None or row.storyboard_sha256 is None:
        raise NoStoryboardError
    return await _bytes(asked, row.storyboard_key, row.storyboard_sha256, "image/webp")


async def _bytes(asked: Opened, key: str, sha256: str, content_type: str) -> Response:
    row, store = asked.row, asked.context.store
    size_bytes = row.size_bytes if key == row.key else await storage.size(store, key)
    part = ranges.choose(asked.wanted, etag=sha256, size_bytes=size_bytes)
    headers = {
        "ETag": f'"{sha256}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": f'inline; filename="{row.id}{_suffix(content_type)}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    match part:
        case ranges.Unchanged():
            return Response(status_code=304, headers=headers)
        case ranges.Unsatisfiable():
            return problems.response(
                status=416,
                code="range_not_satisfiable",
                title="The range lies outside the file.",
                detail=f"the file has {size_bytes} bytes",
                headers={"Content-Range": f"bytes */{size_bytes}"},
            )
        case ranges.Part():
            headers["Content-Length"] = str(part.end - part.start)
            status = 200
            if part.is_partial:
                status = 206
                headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size_bytes}"
            if asked.request.method == "HEAD":
                return Response(status_code=status, headers=headers, media_type=content_type)
            stream = await storage.stream(store, key, part.start, part.end)
            return StreamingResponse(stream, status_code=status, headers=headers, media_type=content_type)


def _suffix(content_type: str) -> str:
    return ENDINGS.get(content_type, "")
