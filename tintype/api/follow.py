"""One client's stream of events: what was missed first, then live, exactly once each and in order."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tintype.accounts.actors import Actor
from tintype.api import render
from tintype.api.context import Context
from tintype.api.feed import Client
from tintype.db import session as db
from tintype.generations import events, queries
from tintype.generations import operations as generations
from tintype.generations.events import Happening
from tintype.generations.states import LAST_EVENTS

KEEP_ALIVE_S = 15.0
POSITION_S = 2.0
REPLAY_PAGE = 500


async def follow(
    context: Context, actor: Actor, *, generation_id: uuid.UUID | None = None, last_id: int | None
) -> AsyncIterator[Happening | None]:
    """Events after `last_id` (None: from now on), then live ones; None now and then keeps the connection open.

    The first item is None and says that nothing from now on is missed: take it before the client is told it listens.
    Ends after the last event of `generation_id`, when it is deleted, or when the server stops.
    """
    with context.feed.listen(owner_id=actor.id, generation_id=generation_id) as client:
        follower = Follower(context=context, actor=actor, generation_id=generation_id, client=client)
        newest_id = 0 if last_id == 0 else await follower.newest_id()
        follower.last_id = newest_id if last_id is None else min(last_id, newest_id)
        yield None
        async for happening in follower.happenings():
            yield None if happening is None else await _dressed(context, happening)


@dataclass
class Follower:
    """The state of one stream: the last event sent, whether the table must be read, the place in line last told."""

    context: Context
    actor: Actor
    generation_id: uuid.UUID | None
    client: Client
    last_id: int = 0
    has_missed: bool = True
    has_ended: bool = False
    position: int | None = None

    async def happenings(self) -> AsyncIterator[Happening | None]:
        """Everything from here on; ends when there can be nothing more."""
        while not self.context.feed.closing.is_set():
            async for happening in self._missed() if self.has_missed else self._live():
                yield happening
                if happening is None:
                    continue
                if self._is_last(happening):
                    return
                if happening.type == "queued":
                    self.position = happening.data["position"]
            if self.has_ended and not self.has_missed:
                return

    async def newest_id(self) -> int:
        """The id of the latest event there is."""
        async with db.reading(self.context.database) as session:
            return await events.newest_id(session)

    async def _missed(self) -> AsyncIterator[Happening]:
        """What the table holds after the last event sent, page by page."""
        self.has_missed = False
        page: list[Happening] | None = None
        while page is None or len(page) == REPLAY_PAGE:
            async with db.reading(self.context.database) as session:
                page = await events.after(
                    session,
                    self.last_id,
                    owner_id=self.actor.id,
                    generation_id=self.generation_id,
                    limit=REPLAY_PAGE,
                )
            for happening in page:
                self.last_id = happening.id or self.last_id
                yield happening

    async def _live(self) -> AsyncIterator[Happening | None]:
        """What comes next; a pause brings the new place in line of a waiting generation, or None."""
        try:
            item = await self._next(POSITION_S if self.generation_id else KEEP_ALIVE_S)
        except TimeoutError:
            yield await self._after_a_pause()
            return
        if item is None:
            self.has_missed = True
        elif item.id is None or item.id > self.last_id:
            self.last_id = item.id or self.last_id
            yield item

    async def _next(self, timeout_s: float) -> Happening | None:
        """The next item; `asyncio.timeout` could throw away one that arrives as the time ends."""
        getting = asyncio.ensure_future(self.client.queue.get())
        closing = asyncio.ensure_future(self.context.feed.closing.wait())
        try:
            done, _ = await asyncio.wait({getting, closing}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise TimeoutError
            return getting.result() if getting in done else None
        finally:
            getting.cancel()
            closing.cancel()

    async def _after_a_pause(self) -> Happening | None:
        if self.generation_id is None:
            return None
        async with db.reading(self.context.database) as session:
            try:
                row = await generations.get(session, self.actor, self.generation_id)
            except generations.GenerationUnknownError:
                self.has_ended = True
                return None
            if row.completed_at is not None:
                self.has_ended = self.has_missed = True
                return None
            place = (await queries.positions(session, [row])).get(row.id)
        if place is None or place == self.position:
            return None
        self.position = place
        return Happening(id=None, generation_id=row.id, owner_id=row.owner_id, type="queued", data={"position": place})

    def _is_last(self, happening: Happening) -> bool:
        return self.generation_id is not None and happening.type in LAST_EVENTS


async def _dressed(context: Context, happening: Happening) -> Happening:
    """The event with a fresh signed link where it names a picture."""
    if happening.type != "image":
        return happening
    url = await render.link_by_id(context, uuid.UUID(happening.data["media_id"]))
    if url is None:
        return happening
    return Happening(
        id=happening.id,
        generation_id=happening.generation_id,
        owner_id=happening.owner_id,
        type=happening.type,
        data={**happening.data, "url": url},
    )
