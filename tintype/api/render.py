"""Rows as they read on the wire, with signed links to their files."""

import time
import uuid
from collections.abc import Sequence
from typing import Literal

from tintype import storage
from tintype.api.context import Context
from tintype.db import session as db
from tintype.db.session import ReadSession, WriteSession
from tintype.generations import operations as generations
from tintype.generations import queries
from tintype.generations.schemas import (
    CostRead,
    ErrorRead,
    GenerationRead,
    MediaRead,
    ProgressRead,
    StoryboardRead,
    VideoRead,
)
from tintype.generations.tables import Generation
from tintype.media import storyboards
from tintype.media.tables import Media
from tintype.storage import signing

Which = Literal["content", "thumbnail", "storyboard"]
"""The files of a picture or video, as the paths of this server call them."""

WARNINGS = "warnings"
"""Kept among a row's parameters, and read beside them."""


def content_path(media_id: uuid.UUID, which: Which = "content") -> str:
    """The path of the bytes of a picture or video, or of what stands for it."""
    return f"/api/media/{media_id}/{which}"


async def link(context: Context, media: Media, which: Which = "content") -> str:
    """A signed URL that expires: the bucket's own where there is one, else a path of this server."""
    keys = {"content": media.key, "thumbnail": media.thumbnail_key, "storyboard": media.storyboard_key or ""}
    if (presigned := await storage.sign(context.store, keys[which], context.url_expiry_s)) is not None:
        return presigned
    return _path_link(context, media.id, which)


def _path_link(context: Context, media_id: uuid.UUID, which: Which = "content") -> str:
    path = content_path(media_id, which)
    expires_at = int(time.time()) + context.url_expiry_s
    return (context.api.public_url or "") + path + signing.sign_path(context.signing_secret, path, expires_at)


async def media(context: Context, row: Media) -> MediaRead:
    """One picture or video."""
    return MediaRead(
        id=row.id,
        generation_id=row.generation_id,
        index=row.index,
        source=row.source,  # pyright: ignore[reportArgumentType]  the table's check constraint holds it
        content_type=row.content_type,
        width=row.width,
        height=row.height,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        seed=row.seed,
        settings=row.settings,
        video=await _video(context, row),
        url=await link(context, row),
        thumbnail_url=await link(context, row, "thumbnail"),
        created_at=row.created_at,
    )


async def _video(context: Context, row: Media) -> VideoRead | None:
    if row.frames is None or row.fps is None or row.codec is None:
        return None
    sheet = storyboards.layout(row.frames, row.width, row.height)
    storyboard = StoryboardRead(
        url=await link(context, row, "storyboard"),
        tiles=sheet.tiles,
        columns=sheet.columns,
        tile_width=sheet.width,
        tile_height=sheet.height,
    )
    seconds = round(row.frames / row.fps, 3)
    return VideoRead(seconds=seconds, fps=row.fps, frames=row.frames, codec=row.codec, storyboard=storyboard)


async def generation(context: Context, session: ReadSession | WriteSession, row: Generation) -> GenerationRead:
    """One generation with its pictures."""
    return (await page(context, session, [row]))[0]


def waiting(in_line: generations.InLine) -> GenerationRead:
    """A generation that has just been put in line."""
    return _generation(in_line.generation, in_line.place, [])


async def page(
    context: Context, session: ReadSession | WriteSession, rows: Sequence[Generation]
) -> list[GenerationRead]:
    """Several generations, their pictures read in one query and their places in line in another."""
    pictures = await generations.media_of(session, rows)
    places = await queries.positions(session, rows)
    return [
        _generation(row, places.get(row.id), [await media(context, item) for item in pictures[row.id]]) for row in rows
    ]


def _generation(row: Generation, place: int | None, pictures: list[MediaRead]) -> GenerationRead:
    failed = row.error_code is not None
    return GenerationRead(
        id=row.id,
        kind=row.kind,  # pyright: ignore[reportArgumentType]  only `operations.create` writes it
        status=row.status,  # pyright: ignore[reportArgumentType]  the table's check constraint holds it
        prompt=row.prompt,
        parameters={name: value for name, value in row.parameters.items() if name != WARNINGS},
        model=row.model,
        style=row.style,
        position=place,
        cancel_requested=row.cancel_requested_at is not None,
        progress=ProgressRead.model_validate(row.progress) if row.progress and row.status == "processing" else None,
        output_paths=[picture.url for picture in pictures],
        media=pictures,
        error=ErrorRead(code=row.error_code or "", message=row.error_message or "") if failed else None,
        warnings=[ErrorRead.model_validate(one) for one in row.parameters.get(WARNINGS, ())],
        cost=CostRead(usd=row.cost_usd),
        attempt=row.attempt,
        retry_of=row.retry_of,
        created_at=row.created_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
    )


async def link_by_id(context: Context, media_id: uuid.UUID) -> str | None:
    """A signed URL of a picture known by its id; None when it has been deleted from a bucket."""
    if context.store.folder is not None:
        return _path_link(context, media_id)
    async with db.reading(context.database) as session:
        row = await session.get(Media, media_id)
    return None if row is None else await link(context, row)
