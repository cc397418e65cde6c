"""What a generation that ends without pictures leaves behind: files its attempts stored, and work elsewhere.

Work that a provider has done elsewhere goes on, and costs, until somebody ends it there, and a process can die before
it does. So the end begins as a row in `doomed_work`, written in the transaction after which nobody wants the result;
workers that have the provider end the work and then delete the row, again until the provider says that it is over.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ARRAY, Text, bindparam, delete, text
from sqlalchemy.dialects.postgresql import UUID

from tintype.db.base import now
from tintype.db.session import WriteSession
from tintype.generations.tables import DoomedWork
from tintype.media import files

AGAIN_S = 2.0
LONGEST_S = 300.0
"""The pause after a first try to end work elsewhere, doubled with each, and the longest one."""

GIVEN_UP_AFTER = timedelta(days=1)
BATCH = 20


@dataclass(frozen=True, kw_only=True)
class Work:
    """What goes on at a provider's under a token, for a generation that is over."""

    provider: str
    token: str
    generation_id: uuid.UUID


DOOM = text(
    """
    INSERT INTO doomed_work (provider, token, generation_id, tries, doomed_at, due_at)
    SELECT checkpoint_provider, checkpoint, id, 0, clock_timestamp(), clock_timestamp() FROM generations
    WHERE id = :id AND checkpoint IS NOT NULL AND checkpoint_provider IS NOT NULL
    ON CONFLICT DO NOTHING
    """
).bindparams(bindparam("id", type_=UUID()))


async def doom(
    session: WriteSession, generation_id: uuid.UUID, parameters: Mapping[str, Any], *, attempts: int
) -> None:
    """Have all deleted that these attempts stored or may still store, and the work ended that goes on elsewhere."""
    await files.doom_attempts(session, generation_id, parameters, range(1, attempts + 1))
    await session.execute(DOOM, {"id": generation_id})


DOOM_STRAY = text(
    """
    INSERT INTO doomed_work (provider, token, generation_id, tries, doomed_at, due_at)
    SELECT :provider, :token, :id, 0, clock_timestamp(), clock_timestamp()
    WHERE NOT EXISTS (SELECT FROM generations WHERE id = :id AND checkpoint = :token)
    ON CONFLICT DO NOTHING
    """
).bindparams(bindparam("id", type_=UUID()))


async def doom_stray(session: WriteSession, work: Work) -> None:
    """Have work ended that an attempt began but could not put on its row, unless a later attempt goes on with it."""
    values = {"provider": work.provider, "token": work.token, "id": work.generation_id}
    await session.execute(DOOM_STRAY, values)


TAKE = text(
    """
    WITH due AS (
        SELECT provider, token FROM doomed_work
        WHERE due_at <= clock_timestamp() AND provider = ANY(:providers)
          AND generation_id = coalesce(:id, generation_id)
        ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED
    )
    UPDATE doomed_work SET
        tries = tries + 1,
        due_at = clock_timestamp() + make_interval(secs => least(:again_s * 2 ^ least(tries, 20), :longest_s))
    FROM due WHERE doomed_work.provider = due.provider AND doomed_work.token = due.token
    RETURNING doomed_work.provider, doomed_work.token, doomed_work.generation_id
    """
).bindparams(bindparam("providers", type_=ARRAY(Text())), bindparam("id", type_=UUID()))


async def take(
    session: WriteSession, providers: Collection[str], *, generation_id: uuid.UUID | None = None
) -> list[Work]:
    """Work at `providers` that is to be ended now; who has taken it has `AGAIN_S` before another tries as well."""
    values = {
        "providers": list(providers),
        "id": generation_id,
        "most": BATCH,
        "again_s": AGAIN_S,
        "longest_s": LONGEST_S,
    }
    return [Work(**row) for row in (await session.execute(TAKE, values)).mappings()]


async def forget(session: WriteSession, work: Work) -> None:
    """This work is over, wherever it was."""
    await session.execute(
        delete(DoomedWork).where(DoomedWork.provider == work.provider, DoomedWork.token == work.token)
    )


async def give_up(session: WriteSession) -> Sequence[Work]:
    """Forget work that could not be ended for a day."""
    given_up = await session.execute(
        delete(DoomedWork)
        .where(DoomedWork.doomed_at < now() - GIVEN_UP_AFTER)
        .returning(DoomedWork.provider, DoomedWork.token, DoomedWork.generation_id)
    )
    return [Work(**row) for row in given_up.mappings()]
