"""Workers announce themselves in the database; the API reads there who is alive."""

import os
import socket
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from tintype import __version__
from tintype.db.base import now
from tintype.db.session import ReadSession, WriteSession
from tintype.worker.tables import Worker

ALIVE_FOR = timedelta(seconds=15)
"""A worker not seen for this long counts as gone."""

FORGET_AFTER = timedelta(days=1)


async def announce(
    session: WriteSession,
    *,
    worker_id: uuid.UUID,
    started_at: datetime,
    state: Literal["ready", "draining"],
    models: Sequence[str],
    loaded: Sequence[str],
    devices: Sequence[str],
    broken_providers: Mapping[str, str],
) -> None:
    """Say that this worker is there, and drop those that have long been gone."""
    values: dict[str, Any] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": __version__,
        "state": state,
        "models": list(models),
        "loaded": list(loaded),
        "devices": list(devices),
        "broken_providers": dict(broken_providers),
        "started_at": started_at,
        "seen_at": now(),
    }
    await session.execute(
        insert(Worker).values(id=worker_id, **values).on_conflict_do_update(index_elements=[Worker.id], set_=values)
    )
    await session.execute(delete(Worker).where(Worker.seen_at < now() - FORGET_AFTER))


async def leave(session: WriteSession, worker_id: uuid.UUID) -> None:
    """Say that this worker has stopped."""
    await session.execute(delete(Worker).where(Worker.id == worker_id))


SEEN_LATELY = timedelta(seconds=7)
"""A worker that work is left to has announced itself at least once within this; it does so every three seconds."""


async def is_loaded_elsewhere(
    session: ReadSession | WriteSession, model_id: str, *, than: Collection[uuid.UUID]
) -> bool:
    """Whether a worker other `than` these takes work and has the model loaded."""
    found = select(Worker.id).where(
        Worker.id.not_in(than),
        Worker.state == "ready",
        Worker.seen_at > now() - SEEN_LATELY,
        Worker.loaded.contains([model_id]),
    )
    return (await session.execute(select(found.exists()))).scalar_one()


async def alive(session: ReadSession) -> list[Worker]:
    """The workers seen lately, oldest first."""
    rows = await session.execute(select(Worker).where(Worker.seen_at > now() - ALIVE_FOR).order_by(Worker.started_at))
    return list(rows.scalars())
