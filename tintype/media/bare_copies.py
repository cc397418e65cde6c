"""Second files of generated pictures, without prompt and settings: made when first asked for, kept beside the first.

Their keys follow from the picture's, so they need no row and go with it (`operations.keys_of_generation`). The hash
lies in a file of its own that is written last: where it is, the copy is whole.
"""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import select

from tintype import errors, storage
from tintype.db import session as db
from tintype.db.session import Database
from tintype.media import encoding, files
from tintype.media.operations import MediaUnknownError
from tintype.media.provenance import bare
from tintype.media.provenance.gate import Issuer
from tintype.media.provenance.manifest import Facts
from tintype.media.tables import Media

SIGNER = ThreadPoolExecutor(1, "bare")
"""One copy of a process is made at a time: it takes a core for some milliseconds."""
SHA256 = re.compile(rb"[0-9a-f]{64}")


class NotOursToChangeError(errors.InvalidRequestError):
    """Only a generated picture has a file without settings; an uploaded one is given back as it came."""

    code = "upload_is_given_back_unchanged"


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A picture's second file in storage."""

    key: str
    sha256: str


async def find(store: storage.Store, row: Media) -> Copy | None:
    """The copy of a picture without prompt and settings; None while there is none, see `make`.

    Raises:
        NotOursToChangeError: the picture was uploaded.
        storage.StorageUnavailableError: nobody can say.
    """
    if row.source != "generated":
        field = errors.FieldError(loc=("query", "without"), msg="leave it away: this picture was uploaded")
        raise NotOursToChangeError(fields=(field,))
    return await _kept(store, row)


async def make(database: Database, store: storage.Store, row: Media, issuer: Issuer) -> Copy:
    """Make the copy of a generated picture, or find the one that somebody else just made; locks the row meanwhile.

    Raises:
        MediaUnknownError: the picture was deleted meanwhile.
        PictureDamagedError, SigningError, TimestampError: it cannot be made; the storage's own: nor read or stored.
    """
    async with db.transaction(database) as session:
        # Whoever deletes the picture waits, and then deletes the copy too.
        held = select(Media.id).where(Media.id == row.id).with_for_update()
        if (await session.execute(held)).scalar_one_or_none() is None:
            raise MediaUnknownError
        return await _kept(store, row) or await _make(store, row, issuer)


async def _kept(store: storage.Store, row: Media) -> Copy | None:
    key, hash_key = files.of_bare_copy(row.key)
    try:
        said = await storage.get(store, hash_key)
    except storage.ObjectNotFoundError:
        return None
    return Copy(key=key, sha256=said.decode("ascii")) if SHA256.fullmatch(said) else None


async def _make(store: storage.Store, row: Media, issuer: Issuer) -> Copy:
    key, hash_key = files.of_bare_copy(row.key)
    original = await storage.get(store, row.key)
    model = str((row.settings or {}).get("model", ""))
    data = await asyncio.get_running_loop().run_in_executor(
        SIGNER, bare.issue, original, row.content_type, Facts(model=model), issuer.credentials
    )
    copy = Copy(key=key, sha256=encoding.content_hash(data))
    await storage.put(store, key, data, row.content_type)
    await storage.put(store, hash_key, copy.sha256.encode(), "text/plain")
    return copy
