"""Pictures that a request brings along: data URLs, and links where this server fetches them, stored as uploads."""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import Response

from tintype import errors, settings
from tintype.api.context import Context
from tintype.db import session as db
from tintype.errors import FieldError
from tintype.generations import pictures
from tintype.generations.schemas import Request
from tintype.intake import fetching
from tintype.media import operations as media
from tintype.media.operations import Upload


class DataUrlInvalidError(errors.InvalidRequestError):
    """A data URL is not base64."""

    code = "data_url_invalid"


@dataclass
class Brought:
    """What a request brought, by the text that names it; deleted again unless it is `kept`."""

    uploads: dict[str, Upload] = field(default_factory=dict[str, Upload])
    is_kept: bool = False

    def kept(self, answer: Response) -> Response:
        """The same answer; if it is no repetition, the rows of the uploads are written now."""
        self.is_kept = "Idempotent-Replayed" not in answer.headers
        return answer


@asynccontextmanager
async def brought_along(context: Context, request: Request) -> AsyncGenerator[Brought]:
    """Store what the request brings; it is deleted where the block ends without `kept`.

    Raises:
        errors.TintypeError: a picture cannot be had or read; its field says which.
    """
    brought = Brought()
    try:
        for one in pictures.named(request, context.catalogue):
            if one.media_id is None and one.text not in brought.uploads:
                try:
                    brought.uploads[one.text] = await stored(context, one.text)
                except errors.TintypeError as error:
                    error.fields = (FieldError(loc=one.place, msg=error.detail),)
                    raise
        yield brought
    finally:
        if not brought.is_kept:
            for upload in brought.uploads.values():
                await media.discard_upload(context.store, upload)


async def stored(context: Context, text: str) -> Upload:
    """The picture behind a data URL or a link, examined and in storage; nobody's yet."""
    if text.startswith("data:"):
        async with context.uploads:
            return await store(context, _decoded(text))
    async with context.links:  # somebody's slow server keeps nobody's upload waiting
        fetched = await fetching.fetch(text, settings.load(settings.Intake), max_bytes=media.LIMITS.max_bytes)
        async with context.uploads:
            return await store(context, fetched.data)


async def store(context: Context, data: bytes) -> Upload:
    """A file, examined and in storage; the caller holds one of `context.uploads`."""
    examined = await media.examine(data)
    async with db.transaction(context.database) as session:
        upload = await media.begin_upload(session, data, examined)
    await media.put_upload(context.store, upload, data)
    return upload


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.partition(",")[2], validate=True)
    except ValueError as error:  # `binascii.Error` is one, and so is what a letter beyond ASCII gives
        raise DataUrlInvalidError("the data URL is not base64; encode the file anew") from error
