"""What can be done with consents: state one, list them, revoke one, and require one before a person is learnt."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import delete, insert, select

from tintype import errors
from tintype.accounts.actors import Actor
from tintype.consents.tables import Consent, ConsentMedia
from tintype.db.base import new_id, now
from tintype.db.session import ReadSession, WriteSession
from tintype.errors import FieldError
from tintype.generations import operations as generations
from tintype.generations import pictures
from tintype.media import operations as media


class ConsentUnknownError(errors.NotFoundError):
    """No consent with this id exists, or it is not yours."""

    code = "consent_unknown"


class ConsentMissingError(errors.InvalidRequestError):
    """These pictures of a person may be learnt from only where that person's consent is on record."""

    code = "consent_missing"


@dataclass(frozen=True, kw_only=True)
class Stated:
    """A consent as it is on record, with the pictures it is about."""

    id: uuid.UUID
    owner_id: uuid.UUID
    stated_by: str
    statement: str
    media: tuple[uuid.UUID, ...]
    created_at: datetime


async def state(
    session: WriteSession, actor: Actor, *, stated_by: str, statement: str, media_ids: Sequence[uuid.UUID]
) -> Stated:
    """Put on record who agreed, in which words, to the use of which of the actor's pictures.

    Raises:
        pictures.PictureUnknownError: some of them are not there; all are listed.
    """
    media_ids = tuple(dict.fromkeys(media_ids))
    unknown = [each for each in media_ids if await pictures.held(session, actor, each) is None]
    if unknown:
        said = f"there is no picture of yours with the id {', '.join(map(str, unknown[:5]))}"
        raise pictures.PictureUnknownError(said, fields=(FieldError(loc=("body", "media"), msg=said),))
    row = Consent(id=new_id(), owner_id=actor.id, stated_by=stated_by, statement=statement, created_at=now())
    session.add(row)
    await session.flush()
    about = [{"consent_id": row.id, "position": position, "media_id": each} for position, each in enumerate(media_ids)]
    await session.execute(insert(ConsentMedia), about)
    return _stated(row, media_ids)


async def newest(session: ReadSession, actor: Actor, *, limit: int, before: uuid.UUID | None = None) -> list[Stated]:
    """Consents, newest first: one's own, for an administrator everybody's."""
    query = select(Consent).order_by(Consent.id.desc()).limit(limit)
    if actor.role != "administrator":
        query = query.where(Consent.owner_id == actor.id)
    if before is not None:
        query = query.where(Consent.id < before)
    rows = (await session.execute(query)).scalars().all()
    about = select(ConsentMedia).where(ConsentMedia.consent_id.in_([row.id for row in rows]))
    found: dict[uuid.UUID, list[uuid.UUID]] = {row.id: [] for row in rows}
    for one in (await session.execute(about.order_by(ConsentMedia.consent_id, ConsentMedia.position))).scalars():
        found[one.consent_id].append(one.media_id)
    return [_stated(row, found[row.id]) for row in rows]


async def revoke(session: WriteSession, actor: Actor, consent_id: uuid.UUID) -> tuple[str, ...]:
    """Take a consent back: its pictures go, and everything that was ever made from them, whatever is between.

    Returns the storage keys that nothing names any more, to be deleted right after the commit; they are doomed as well.

    Raises:
        ConsentUnknownError: there is none with this id that the actor may take back.
    """
    row = (
        await session.execute(select(Consent).where(Consent.id == consent_id).with_for_update())
    ).scalar_one_or_none()
    if row is None or (row.owner_id != actor.id and actor.role != "administrator"):
        raise ConsentUnknownError
    owner = replace(actor, id=row.owner_id)
    about = select(ConsentMedia.media_id).where(ConsentMedia.consent_id == row.id)
    media_ids = (await session.execute(about)).scalars().all()
    await media.hold(session, owner, media_ids)  # nothing new can be made from them now
    keys = [*await generations.remove_made_from(session, owner, media_ids)]
    while left := await media.hold(session, owner, media_ids):
        if left[0].generation_id is None:
            keys += await media.drop_upload(session, left[0])
        else:
            keys += await generations.remove_whole(session, owner, left[0].generation_id)
    await session.execute(delete(Consent).where(Consent.id == row.id))
    return tuple(keys)


async def require(session: ReadSession | WriteSession, actor: Actor, media_ids: Sequence[uuid.UUID]) -> None:
    """Refuse to learn from pictures of the actor's that no consent is about.

    Raises:
        ConsentMissingError: it counts them and says what to do.
    """
    covered = (
        select(ConsentMedia.media_id)
        .join(Consent, Consent.id == ConsentMedia.consent_id)
        .where(Consent.owner_id == actor.id, ConsentMedia.media_id.in_(media_ids))
    )
    missing = set(media_ids) - set((await session.execute(covered)).scalars())
    if missing:
        said = (
            f"{len(missing)} of these pictures have no consent on record; state with `POST /api/consents` who agreed "
            "to their use, and try again"
        )
        raise ConsentMissingError(said, fields=(FieldError(loc=("body", "media"), msg=said),))


def _stated(row: Consent, media_ids: Sequence[uuid.UUID]) -> Stated:
    return Stated(
        id=row.id,
        owner_id=row.owner_id,
        stated_by=row.stated_by,
        statement=row.statement,
        media=tuple(media_ids),
        created_at=row.created_at,
    )
