"""What can be done with stored pictures and videos."""

import asyncio
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import delete, select, update

from tintype import errors, logs, storage
from tintype.accounts.actors import Actor
from tintype.db.base import new_id, now
from tintype.db.session import ReadSession, WriteSession
from tintype.intake.text import clean_text
from tintype.media import decoding, encoding, files, recall
from tintype.media.settings_text import GenerationSettings
from tintype.media.tables import Media

LIMITS = decoding.Limits()
DECODER = ThreadPoolExecutor(1, "decode")
"""One upload of a process is decoded at a time: a large one takes 200 to 400 MB for a moment."""


log = logs.get("media")


class MediaUnknownError(errors.NotFoundError):
    """No picture with this id exists, or it is not yours."""

    code = "media_unknown"


@dataclass(frozen=True, kw_only=True)
class Examined:
    """An upload that is a picture: what it is and the settings found in it."""

    format: str
    width: int
    height: int
    sha256: str
    thumbnail: bytes
    settings: GenerationSettings | None


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An upload under its name: where it goes in storage, before it is anybody's."""

    id: uuid.UUID
    examined: Examined
    size_bytes: int
    key: str
    thumbnail_key: str


async def examine(data: bytes) -> Examined:
    """Decode an upload, make its thumbnail and read the settings written in it, when it is its turn.

    Raises:
        errors.InvalidRequestError: it is not a picture, or too large; `tintype.media.decoding` names the facts.
    """
    return await asyncio.get_running_loop().run_in_executor(DECODER, _examine, data)


def _examine(data: bytes) -> Examined:
    decoded = decoding.decode(data, LIMITS, fit=encoding.THUMBNAIL_SIDE)
    found = recall.recall(data)
    return Examined(
        format=decoded.format,
        width=decoded.width,
        height=decoded.height,
        sha256=encoding.content_hash(data),
        thumbnail=encoding.thumbnail(decoded.pixels),
        settings=found.settings if isinstance(found, recall.RecalledSettings) else None,
    )


async def pixels_of(data: bytes) -> decoding.Pixels:
    """The pixels of a stored picture in full, when it is its turn; nothing but pixels is taken from it.

    Raises:
        errors.InvalidRequestError: it is none, or too large; `tintype.media.decoding` names the facts.
    """
    decoded = await asyncio.get_running_loop().run_in_executor(DECODER, decoding.decode, data, LIMITS)
    return decoded.pixels


async def begin_upload(session: WriteSession, data: bytes, examined: Examined) -> Upload:
    """Name an upload. Its files are doomed until `add_upload`, so that none stays when this process dies."""
    media_id = new_id()
    key, thumbnail_key = files.of_upload(media_id, file_format=examined.format)
    await files.doom(session, [key, thumbnail_key], in_s=files.UPLOAD_S)
    return Upload(id=media_id, examined=examined, size_bytes=len(data), key=key, thumbnail_key=thumbnail_key)


async def put_upload(store: storage.Store, upload: Upload, data: bytes) -> None:
    """Put an upload and its thumbnail into storage, both or neither."""
    try:
        await storage.put(store, upload.key, data, f"image/{upload.examined.format}")
        await storage.put(store, upload.thumbnail_key, upload.examined.thumbnail, "image/webp")
    except errors.TintypeError:
        await discard_upload(store, upload)
        raise


async def discard_upload(store: storage.Store, upload: Upload) -> None:
    """Delete the files of an upload that became nobody's; what cannot be deleted now is doomed already."""
    try:
        await storage.delete(store, [upload.key, upload.thumbnail_key])
    except storage.StorageUnavailableError as error:
        log.warning("files stay for now", reason=error.reason)


async def add_upload(session: WriteSession, actor: Actor, upload: Upload) -> Media:
    """Make a stored upload the actor's.

    Raises:
        files.UploadTooSlowError: its files are gone again.
    """
    await files.spare(session, [upload.key, upload.thumbnail_key])
    examined = upload.examined
    row = Media(
        id=upload.id,
        owner_id=actor.id,
        index=0,
        source="uploaded",
        content_type=f"image/{examined.format}",
        width=examined.width,
        height=examined.height,
        size_bytes=upload.size_bytes,
        sha256=examined.sha256,
        key=upload.key,
        thumbnail_key=upload.thumbnail_key,
        thumbnail_sha256=encoding.content_hash(examined.thumbnail),
        settings=_storable(examined.settings.model_dump(mode="json", exclude_none=True)) if examined.settings else None,
        shows_person=None,
        person_in_lineage=False,
        is_foreign=True,
        created_at=now(),
    )
    session.add(row)
    return row


def _storable(value: Any) -> Any:
    """What a stranger wrote into a file, as it may be stored and shown."""
    match value:
        case str():
            return clean_text(value)
        case dict():
            return {clean_text(name): _storable(item) for name, item in cast("dict[str, Any]", value).items()}
        case list():
            return [_storable(item) for item in cast("list[Any]", value)]
        case _:
            return value


async def get(session: ReadSession | WriteSession, actor: Actor, media_id: uuid.UUID) -> Media:
    """One picture of the actor's.

    Raises:
        MediaUnknownError: there is none with this id.
    """
    row = (
        await session.execute(select(Media).where(Media.id == media_id, Media.owner_id == actor.id))
    ).scalar_one_or_none()
    if row is None:
        raise MediaUnknownError
    return row


async def note_person(session: WriteSession, media_id: uuid.UUID, *, shows_person: bool) -> None:
    """Write down what a detector of people said of a picture."""
    await session.execute(update(Media).where(Media.id == media_id).values(shows_person=shows_person))


async def drop_upload(session: WriteSession, row: Media) -> tuple[str, ...]:
    """Delete an upload's row and doom its files; their keys, to be deleted right after the commit."""
    keys = (row.key, row.thumbnail_key)
    await files.doom(session, keys)
    await session.execute(delete(Media).where(Media.id == row.id))
    return keys


async def hold(session: WriteSession, actor: Actor, media_ids: Sequence[uuid.UUID]) -> list[Media]:
    """Those of these pictures that are the actor's; nothing new can be made from them before the transaction ends."""
    mine = select(Media).where(Media.id.in_(media_ids), Media.owner_id == actor.id).order_by(Media.id)
    return list((await session.execute(mine.with_for_update())).scalars())


async def hold_of_generation(session: WriteSession, generation_id: uuid.UUID) -> list[uuid.UUID]:
    """The ids of a generation's pictures, which nothing new can be made from before the transaction ends."""
    held = select(Media.id).where(Media.generation_id == generation_id).with_for_update()
    return list((await session.execute(held)).scalars())


async def keys_of_generation(session: WriteSession, generation_id: uuid.UUID) -> tuple[str, ...]:
    """The storage keys of a generation's files, thumbnails, storyboards and copies without settings, made or not."""
    columns = (Media.key, Media.thumbnail_key, Media.storyboard_key)
    rows = await session.execute(select(*columns).where(Media.generation_id == generation_id))
    return tuple(key for row in rows for key in (*row, *files.of_bare_copy(row.key)) if key is not None)
