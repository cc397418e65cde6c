"""What PgQueuer lacks: a limit of this process alone for lanes that share something, and word of what became free.

PgQueuer limits a lane over all processes or a process over all lanes. A job taken beyond what its provider can run here
would wait here, while another worker has nothing to do.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.core.qm import QueueManager
from pgqueuer.models import Job, TableChangedEvent
from pgqueuer.ports.driver import NotifyCallback
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.queries import Queries
from pgqueuer.types import Channel, QueueEntrypoint

from tintype.db.session import CONNECTION_FAULTS


@dataclass(kw_only=True)
class Room:
    """How many jobs of each group this process may hold, and holds; managers that follow each other share it.

    Those in `heard_by` are called when a place becomes free that was missed.
    """

    limits: Mapping[str, int]
    heard_by: set[Callable[[], None]] = field(default_factory=set[Callable[[], None]])
    _held: Counter[str] = field(default_factory=Counter[str])
    _missed: set[str] = field(default_factory=set[str])

    def free(self, group: str) -> int:
        """How many more may be taken; where there are none, the next that is given back is announced."""
        places = max(0, self.limits[group] - self._held[group])
        if not places:
            self._missed.add(group)
        return places

    def take(self, group: str) -> None:
        """One more is held."""
        self._held[group] += 1

    def give(self, group: str) -> None:
        """One is held no more."""
        self._held[group] -= 1
        if group in self._missed:
            self._missed.discard(group)
            for hear in tuple(self.heard_by):
                hear()


class Driver(AsyncpgPoolDriver):
    """Sets `lost` when a query fails, or when the connection that listens ends, which no query would notice.

    What it is told to notify waits until it listens. Else the manager, which tries its own hearing while it begins to
    listen, may miss that, count as deaf ten seconds later, and take no job any more.
    """

    def __init__(self, pool: "asyncpg.Pool", lost: asyncio.Event) -> None:
        super().__init__(pool)
        self._lost = lost
        self._is_listening = asyncio.Event()
        self._callback: NotifyCallback | None = None
        self._channel = ""

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """The rows of a query."""
        with self._noting():
            return await super().fetch(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """The status of a command."""
        with self._noting():
            return await super().execute(query, *args)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Listen until the connection ends."""
        await super().add_listener(channel, callback)
        assert self._listener_connection is not None
        self._listener_connection.add_termination_listener(self._note_end)
        self._channel, self._callback = channel, callback
        self._is_listening.set()

    async def notify(self, channel: str, payload: str) -> None:
        """Notify, once this process would hear it too."""
        await self._is_listening.wait()
        with self._noting():
            await super().notify(channel, payload)

    def wake(self) -> None:
        """Have the manager look at the queue now, as if a job had come."""
        if self._callback is None:
            return  # it has not begun to listen, so it has not looked yet
        event = TableChangedEvent(
            channel=Channel(self._channel),
            sent_at=datetime.now(UTC),
            type="table_changed_event",
            operation="update",
            table="pgqueuer",
        )
        self._callback(event.model_dump_json(exclude={"received_at"}))

    def _note_end(self, _connection: object) -> None:
        self._lost.set()

    @contextmanager
    def _noting(self) -> Generator[None]:
        try:
            yield
        except CONNECTION_FAULTS:
            self._lost.set()
            raise


class LimitedManager(QueueManager):
    """Takes jobs of each group of lanes while there is `room` for them."""

    def __init__(self, queries: Queries, room: Room) -> None:
        super().__init__(queries)
        self.groups: dict[str, str] = {}
        self._room = room

    def serve(self, lane: str, group: str, work: Callable[[Job], Awaitable[None]]) -> None:
        """Take jobs of `lane`; `work` gives their place in `group` back."""
        self.entrypoint(lane, accepts_context=False)(work)
        self.groups[lane] = group

    async def fetch_jobs(
        self, batch_size: int, global_concurrency_limit: int | None, heartbeat_timeout: timedelta
    ) -> AsyncGenerator[Job]:
        """The jobs that are ready, until there are no more or no room is left."""
        is_more = True
        while is_more and not self.shutdown.is_set():
            is_more = False
            for group in sorted(set(self.groups.values())):
                if not (places := self._room.free(group)):
                    continue
                lanes = [QueueEntrypoint(lane) for lane, of in self.groups.items() if of == group]
                for job in await self.queries.dequeue(
                    batch_size=min(batch_size, places),
                    entrypoints={lane: EntrypointExecutionParameter(concurrency_limit=0) for lane in lanes},
                    queue_manager_id=self.queue_manager_id,
                    global_concurrency_limit=global_concurrency_limit,
                    heartbeat_timeout=heartbeat_timeout,
                ):
                    is_more = True
                    if job.id not in self.job_context:  # one that runs here already is not run again
                        self._room.take(group)
                    yield job
