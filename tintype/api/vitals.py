"""The parts of the studio as `/health` shows them: how each is looked at, and what is said when it does not work."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tintype import errors, logs, storage
from tintype.api.probes import Probe, ProbeSlowError
from tintype.db import session as db
from tintype.db.session import Database, ReadSession
from tintype.queue import jobs
from tintype.worker import registry

DEADLINE_S = 2.0
GIVE_UP_S = 10.0
STORAGE_KEPT_S = 5.0
"""How long what the storage said is repeated: a look writes, reads and deletes a file."""

State = Literal["ok", "degraded", "down"]
T = TypeVar("T")

log = logs.get("health")


class Part(BaseModel):
    """One part: whether it works, and what is wrong if it does not."""

    status: State
    detail: str | None = None


class Disk(Part):
    """The disk that holds the data folder; null where it cannot be looked at."""

    free_bytes: int | None = None
    total_bytes: int | None = None


class WorkerRead(BaseModel):
    """A worker that is alive."""

    id: str
    host: str
    pid: int
    version: str
    state: str
    models: list[str]
    devices: list[str]
    broken_providers: dict[str, str]
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The waiting line: how many wait in each lane."""

    part: Part
    depth: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who is there to work."""

    part: Part
    alive: list[WorkerRead]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """All parts at one time."""

    database: Part
    storage: Part
    queue: Queue
    workers: Workers
    disk: Disk


class Vitals:
    """How each part is looked at, from this process."""

    def __init__(self, *, database: Database, store: storage.Store, home: Path) -> None:
        self._database = database
        self._store = store
        self._home = home
        asked = {"deadline_s": DEADLINE_S, "give_up_s": GIVE_UP_S}
        self._version = Probe(self._look_at_database, **asked)
        self._queue = Probe(self._look_at_queue, **asked)
        self._workers = Probe(self._look_at_workers, **asked)
        self._storage = Probe(self._look_at_storage, deadline_s=DEADLINE_S, keep_s=STORAGE_KEPT_S)
        self._disk = Probe(self._look_at_disk, deadline_s=DEADLINE_S)

    async def all(self) -> Seen:
        """Every part, looked at together; takes no longer than the deadline of one."""
        database, stored, queue, workers, disk = await asyncio.gather(
            _in_time(self._version, lambda part: part),
            _in_time(self._storage, lambda part: part),
            _in_time(self._queue, lambda part: Queue(part=part, depth={})),
            self.workers(),
            _in_time(self._disk, lambda part: Disk(status=part.status, detail=part.detail)),
        )
        return Seen(database=database, storage=stored, queue=queue, workers=workers, disk=disk)

    async def workers(self) -> Workers:
        """Who is there to work."""
        return await _in_time(self._workers, lambda part: Workers(part=part, alive=[]))

    async def stop(self) -> None:
        """End what is still being looked at."""
        probes = (self._version, self._queue, self._workers, self._storage, self._disk)
        await asyncio.gather(*(probe.stop() for probe in probes))

    async def _look_at_database(self) -> Part:
        async def version(session: ReadSession) -> Part:
            return Part(status="ok", detail=f"PostgreSQL {(await session.execute(VERSION)).scalar_one()}")

        return await self._read(version, lambda part: part)

    async def _look_at_queue(self) -> Queue:
        async def depth(session: ReadSession) -> Queue:
            return Queue(part=Part(status="ok"), depth=await jobs.waiting(session))

        return await self._read(depth, lambda part: Queue(part=part, depth={}))

    async def _look_at_workers(self) -> Workers:
        async def alive(session: ReadSession) -> Workers:
            return _workers([_worker(row) for row in await registry.alive(session)])

        return await self._read(alive, lambda part: Workers(part=part, alive=[]))

    async def _read(self, read: Callable[[ReadSession], Awaitable[T]], broken: Callable[[Part], T]) -> T:
        try:
            async with db.reading(self._database) as session:
                return await read(session)
        except (SQLAlchemyError, *db.CONNECTION_FAULTS) as error:
            log.warning("the database does not work", error=f"{type(error).__name__}: {error}"[:200])
            is_away = db.is_disconnect(error) or isinstance(error, db.CONNECTION_FAULTS)
            said = "cannot be reached" if is_away else "answers with an error"
            return broken(Part(status="down", detail=f"the database {said}; the log of the API says why"))

    async def _look_at_storage(self) -> Part:
        try:
            health = await storage.check(self._store)
        except errors.TintypeError as error:
            log.warning("the storage does not work", error=str(getattr(error, "reason", error.detail))[:200])
            return Part(status="down", detail=error.detail)
        return Part(status="ok", detail=f"a file was written, read and deleted in {health.took_s * 1000:.0f} ms")

    async def _look_at_disk(self) -> Disk:
        try:
            usage = await asyncio.to_thread(shutil.disk_usage, self._home)
        except OSError as error:
            return Disk(status="down", detail=f"the data folder cannot be looked at: {error.strerror}")
        return Disk(status="ok", free_bytes=usage.free, total_bytes=usage.total)


VERSION = text("SHOW server_version")


async def _in_time(probe: Probe[T], broken: Callable[[Part], T]) -> T:
    try:
        return await probe.result()
    except ProbeSlowError as error:
        return broken(Part(status="down", detail=error.detail))


def _worker(row: registry.Worker) -> WorkerRead:
    return WorkerRead(id=str(row.id), **{name: getattr(row, name) for name in WorkerRead.model_fields if name != "id"})


def _workers(alive: list[WorkerRead]) -> Workers:
    if not alive:
        nobody = "no worker is running; what is asked for waits in line. `tintype worker` starts one"
        return Workers(part=Part(status="degraded", detail=nobody), alive=[])
    if not any(worker.models for worker in alive):
        return Workers(part=Part(status="degraded", detail="no worker can serve a model; see `providers`"), alive=alive)
    return Workers(part=Part(status="ok", detail=None), alive=alive)
