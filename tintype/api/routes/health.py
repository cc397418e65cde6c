"""Whether the studio works, for probes (`/health`) and for people (`/health/detailed`)."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from tintype import __version__
from tintype.api import problems
from tintype.api.context import CurrentActor, Parts
from tintype.api.vitals import Disk, Part, Seen, State, WorkerRead
from tintype.db.base import now
from tintype.db.session import DatabaseAwayError

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """In short."""

    status: State
    gpu_available: bool
    timestamp: datetime


class DetailedHealth(Health):
    """Part by part. `down` as a whole: nothing can be made; `degraded`: something is missing."""

    version: str
    database: Part
    storage: Part
    queue: Part
    queue_depth: dict[str, int]
    staff: Part
    workers: list[WorkerRead]
    devices: list[str]
    providers: dict[str, Part]
    disk: Disk


@router.get("/health", responses=problems.responses(503))
async def health(context: Parts) -> Health:
    """Whether pictures can be made: the database answers and a worker is alive that serves a model."""
    workers = await context.vitals.workers()
    if workers.part.status == "down":
        raise DatabaseAwayError
    return Health(status=workers.part.status, gpu_available=_has_gpu(workers.alive), timestamp=now())


@router.get("/health/detailed")
async def detailed(context: Parts, actor: CurrentActor) -> DetailedHealth:
    """Every part with its state; answers within a few seconds also when a part is away or hangs."""
    seen = await context.vitals.all()
    alive = seen.workers.alive
    broken = {name: why for worker in alive for name, why in worker.broken_providers.items()}
    providers = {name: Part(status="down", detail=why) for name, why in broken.items()}
    return DetailedHealth(
        status=_overall(seen, providers),
        gpu_available=_has_gpu(alive),
        timestamp=now(),
        version=__version__,
        database=seen.database,
        storage=seen.storage,
        queue=seen.queue.part,
        queue_depth=seen.queue.depth,
        staff=seen.workers.part,
        workers=alive,
        devices=sorted({device for worker in alive for device in worker.devices}),
        providers=providers,
        disk=seen.disk,
    )


def _overall(seen: Seen, providers: dict[str, Part]) -> State:
    needed = (seen.database, seen.storage, seen.queue.part)
    if any(part.status == "down" for part in needed):
        return "down"
    every = (*needed, seen.workers.part, seen.disk, *providers.values())
    return "ok" if all(part.status == "ok" for part in every) else "degraded"


def _has_gpu(workers: list[WorkerRead]) -> bool:
    return any(device.startswith(("cuda", "mps")) for worker in workers for device in worker.devices)
