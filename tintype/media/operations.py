"""What can be done with stored pictures."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import select

from tintype import errors, storage
from tintype.accounts.actors import Actor
from tintype.db.base import new_id, now
from tintype.db.session import ReadSession, WriteSession
from tintype.media import decoding, encoding, recall
from tintype.media.settings_text import GenerationSettings
from tintype.media.tables import Media

LIMITS = decoding.Limits()


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
    """An upload that lies in storage but is not yet anybody's."""

    id: uuid.UUID
    examined: Examined
    size_bytes: int
    key: str
    thumbnail_key: str


def examine(data: bytes) -> Examined:
    """Decode an upload, make its thumbnail and read the settings written in it. Takes a while: run it in a thread.

    Raises:
        errors.InvalidRequestError: it is not a picture, or too large; `tintype.media.decoding` names the facts.
    """
    decoded = decoding.decode(data, LIMITS)
    found = recall.recall(data)
    return Examined(
        format=decoded.format,
        width=decoded.width,
        height=decoded.height,
        sha256=encoding.content_hash(data),
        thumbnail=encoding.thumbnail(decoded.pixels),
        settings=found.settings if isinstance(found, recall.RecalledSettings) else None,
    )


async def put_upload(store: storage.Store, data: bytes, examined: Examined) -> Upload:
    """Put an upload and its thumbnail into storage."""
    media_id = new_id()
    stem = f"{datetime.now(UTC):%Y/%m/%d}/uploads/{media_id}"
    upload = Upload(
        id=media_id,
        examined=examined,
        size_bytes=len(data),
        key=f"{stem}.{examined.format}",
        thumbnail_key=f"{stem}.thumbnail.webp",
    )
    await storage.put(store, upload.key, data, f"image/{examined.format}")
    await storage.put(store, upload.thumbnail_key, examined.thumbnail, "image/webp")
    return upload


def add_upload(session: WriteSession, actor: Actor, upload: Upload) -> Media:
    """Make a stored upload the actor's."""
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
        created_at=now(),
    )
    session.add(row)
    return row


def _storable(value: Any) -> Any:
    """What a stranger wrote into a file, without the NUL characters that PostgreSQL cannot keep."""
    match value:
        case str():
            return value.replace("\0", "")
        case dict():
            return {name: _storable(item) for name, item in cast("dict[str, Any]", value).items()}
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


async def keys_of_generation(session: WriteSession, generation_id: uuid.UUID) -> tuple[str, ...]:
    """The storage keys of a generation's pictures and thumbnails."""
    rows = await session.execute(select(Media.key, Media.thumbnail_key).where(Media.generation_id == generation_id))
    return tuple(key for row in rows for key in row)
