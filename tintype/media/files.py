"""Where pictures and videos lie in storage, and how files that nobody names any more are deleted.

A file and the row that names it are two stores, and a process can die between them. So a deletion begins as a row in
`doomed_files`, written in the transaction after which nobody names the file; workers delete what is due and then the
row, again until it worked.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ARRAY, Text, bindparam, delete, text

from tintype import errors, storage
from tintype.db.session import WriteSession
from tintype.media.tables import DoomedFile

BATCH = 200
LATE_S = 600.0
"""A worker that was thought dead can still write a file and die before it takes it back: one more look, this late."""

UPLOAD_S = 3600.0
"""How long an upload may take from its first byte in storage to its row."""


class UploadTooSlowError(errors.UnavailableError):
    """Storing the picture took so long that it was given up; send it again."""

    code = "upload_too_slow"


def of_picture(generation_id: uuid.UUID, *, attempt: int, index: int, file_format: str) -> tuple[str, str]:
    """The keys of a generated picture and its thumbnail, under the day of the request.

    They hold the attempt, so that two attempts never write the same file and any process can name them all.
    """
    day = datetime.fromtimestamp((generation_id.int >> 80) / 1000, UTC).strftime("%Y/%m/%d")
    stem = f"{day}/{generation_id}-{attempt}-{index}"
    return f"{stem}.{file_format}", f"{stem}.thumbnail.webp"


def of_storyboard(key: str) -> str:
    """The key of a generated video's storyboard."""
    return f"{key.rpartition('.')[0]}.storyboard.webp"


def of_upload(media_id: uuid.UUID, *, file_format: str) -> tuple[str, str]:
    """The keys of an upload and its thumbnail."""
    stem = f"{datetime.now(UTC):%Y/%m/%d}/uploads/{media_id}"
    return f"{stem}.{file_format}", f"{stem}.thumbnail.webp"


def of_bare_copy(key: str) -> tuple[str, str]:
    """The keys of a generated picture's copy without settings and of that copy's hash; they exist once asked for."""
    stem, _, file_format = key.rpartition(".")
    return f"{stem}.bare.{file_format}", f"{stem}.bare.sha256"


DOOM = text(
    """
    INSERT INTO doomed_files (key, due_at)
    SELECT key, clock_timestamp() + make_interval(secs => :in_s) FROM unnest(:keys) AS key
    ON CONFLICT DO NOTHING
    """
).bindparams(bindparam("keys", type_=ARRAY(Text())))


async def doom(session: WriteSession, keys: Sequence[str], *, in_s: float = 0.0) -> None:
    """Have these files deleted, once the transaction is committed and `in_s` have passed."""
    if keys:
        await session.execute(DOOM, {"keys": list(keys), "in_s": in_s})


async def doom_attempts(
    session: WriteSession, generation_id: uuid.UUID, parameters: Mapping[str, Any], attempts: range
) -> None:
    """Have everything deleted that these attempts of a generation may have stored, or may still store."""
    keys = [
        key
        for attempt in attempts
        for index in range(len(parameters["seeds"]))
        for key in of_picture(generation_id, attempt=attempt, index=index, file_format=parameters["output_format"])
    ]
    if "frames" in parameters:
        keys += [of_storyboard(key) for key in keys[::2]]
    await doom(session, keys)
    await doom(session, keys, in_s=LATE_S)


async def spare(session: WriteSession, keys: Sequence[str]) -> None:
    """Keep files that were doomed in advance, because a row names them from now on.

    Raises:
        UploadTooSlowError: they are deleted already.
    """
    spared = await session.execute(delete(DoomedFile).where(DoomedFile.key.in_(keys)).returning(DoomedFile.key))
    if set(spared.scalars()) != set(keys):
        raise UploadTooSlowError


DUE = text(
    """
    WITH due AS (
        SELECT key, due_at FROM doomed_files WHERE due_at <= clock_timestamp()
        ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED
    )
    DELETE FROM doomed_files USING due
    WHERE doomed_files.key = due.key AND doomed_files.due_at = due.due_at
    RETURNING doomed_files.key
    """
)


async def delete_doomed(session: WriteSession, store: storage.Store) -> int:
    """Delete a batch of the files that are due; how many, `BATCH` where more may wait.

    Their rows go with the caller's commit, after the files. What another process deletes right now is passed over.

    Raises:
        storage.StorageUnavailableError: the storage cannot be used; roll back and try again later.
    """
    keys = (await session.execute(DUE, {"most": BATCH})).scalars().all()
    await storage.delete(store, keys)
    return len(keys)
