"""Events inside one API process: each notification is parsed once and handed to the clients it concerns."""

import asyncio
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tintype.db.notify import Listener
from tintype.generations import events
from tintype.generations.events import Happening

CLIENT_LIMIT = 2000
"""Events a slow client may lag behind before it is made to read again from the table."""

Item = Happening | None
"""An event, or None: something may have been missed, read the table."""


@dataclass(eq=False)
class Client:
    """One open stream."""

    owner_id: uuid.UUID
    generation_id: uuid.UUID | None
    queue: asyncio.Queue[Item] = field(default_factory=lambda: asyncio.Queue(CLIENT_LIMIT))

    def wants(self, happening: Happening) -> bool:
        """Whether this client may see it and asked for it."""
        return happening.owner_id == self.owner_id and self.generation_id in (None, happening.generation_id)

    def put(self, item: Item) -> None:
        """Queue `item`; a client too far behind loses its queue and rereads."""
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            item = None
        self.queue.put_nowait(item)


class Feed:
    """All open streams of this process. `closing` is set when the process stops, so that streams end."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._clients: set[Client] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.closing = asyncio.Event()

    async def start(self) -> None:
        """Begin to distribute."""
        self._tasks = [asyncio.create_task(self._distribute(channel)) for channel in events.CHANNELS]
        await self._listener.start()

    async def stop(self) -> None:
        """End every stream and stop."""
        self.closing.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.stop()

    @contextmanager
    def listen(self, *, owner_id: uuid.UUID, generation_id: uuid.UUID | None = None) -> Generator[Client]:
        """A client that gets the owner's events from now on, of one generation where it is given."""
        client = Client(owner_id=owner_id, generation_id=generation_id)
        self._clients.add(client)
        try:
            yield client
        finally:
            self._clients.discard(client)

    async def _distribute(self, channel: str) -> None:
        async with self._listener.subscribe(channel) as arrived:
            while True:
                payload = await arrived.get()
                item = None if payload is None else events.parse(payload)
                for client in tuple(self._clients):
                    if item is None or client.wants(item):
                        client.put(item)
