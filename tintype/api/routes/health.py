"""Whether the studio works, for probes (`/health`) and for people (`/health/detailed`)."""

import shutil
from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import text

from tintype import __version__, errors, storage
from tintype.api import problems
from tintype.api.context import Context, CurrentActor, Parts
from tintype.db import session as db
from tintype.db.base import now
from tintype.queue import jobs
from tintype.worker import registry

router = APIRouter(tags=["health"])

State = Literal["ok", "degraded", "down"]


class Health(BaseModel):
    """In short."""

    status: State
    gpu_available: bool
    timestamp: datetime


class Part(BaseModel):
    """One part: whether it works, and what is wrong if it does not."""

    status: State
    detail: str | None = None


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


class Disk(BaseModel):
    """The disk that holds the data folder."""

    free_bytes: int
    total_bytes: int


class DetailedHealth(Health):
    """Part by part."""

    version: str
    database: Part
    storage: Part
    queue_depth: dict[str, int]
    workers: list[WorkerRead]
    devices: list[str]
    providers: dict[str, Part]
    disk: Disk


@router.get("/health", responses=problems.responses(421, 503))
async def health(context: Parts, response: Response) -> Health:
    """Whether pictures can be made: the database answers and a worker is alive that serves a model."""
    workers = await _workers(context)
    return Health(
        status="ok" if any(worker.models for worker in workers) else "degraded",
        gpu_available=_has_gpu(workers),
        timestamp=now(),
    )


@router.get("/health/detailed", responses=problems.responses(421, 503))
async def detailed(context: Parts, actor: CurrentActor) -> DetailedHealth:
    """Every part with its state."""
    async with db.reading(context.database) as session:
        version = (await session.execute(text("SHOW server_version"))).scalar_one()
        depth = await jobs.waiting(session)
    workers = await _workers(context)
    stored = await _storage(context)
    broken = {name: why for worker in workers for name, why in worker.broken_providers.items()}
    usage = shutil.disk_usage(context.home)
    is_ok = bool(workers) and stored.status == "ok" and not broken
    return DetailedHealth(
        status="ok" if is_ok else "degraded",
        gpu_available=_has_gpu(workers),
        timestamp=now(),
        version=__version__,
        database=Part(status="ok", detail=f"PostgreSQL {version}"),
        storage=stored,
        queue_depth=depth,
        workers=workers,
        devices=sorted({device for worker in workers for device in worker.devices}),
        providers={name: Part(status="down", detail=why) for name, why in broken.items()},
        disk=Disk(free_bytes=usage.free, total_bytes=usage.total),
    )


async def _workers(context: Context) -> list[WorkerRead]:
    async with db.reading(context.database) as session:
        rows = await registry.alive(session)
    return [
        WorkerRead(id=str(row.id), **{name: getattr(row, name) for name in WorkerRead.model_fields if name != "id"})
        for row in rows
    ]


async def _storage(context: Context) -> Part:
    try:
        await storage.check(context.store)
    except errors.TintypeError as error:
        return Part(status="down", detail=error.detail)
    return Part(status="ok")


def _has_gpu(workers: list[WorkerRead]) -> bool:
    return any(device.startswith(("cuda", "mps")) for worker in workers for device in worker.devices)
