"""A client's stream of events from inside: what only a clock that stands still can show."""

import asyncio
import time
import uuid
from types import SimpleNamespace

from tintype.accounts import actors
from tintype.api import follow
from tintype.api.feed import CLIENT_LIMIT, Client
from tintype.generations.events import Happening

OWNER = actors.local_owner()


def happening(number: int, *, generation_id: uuid.UUID | None = None, owner_id: uuid.UUID = OWNER.id) -> Happening:
    return Happening(id=number, generation_id=generation_id or uuid.uuid4(), owner_id=owner_id, type="started", data={})


def follower(client: Client) -> follow.Follower:
    context = SimpleNamespace(feed=SimpleNamespace(closing=asyncio.Event()))
    return follow.Follower(context=context, actor=OWNER, generation_id=None, client=client)


async def test_an_event_that_comes_in_the_very_moment_the_pause_ends_is_not_lost(monkeypatch):
    monkeypatch.setattr(follow, "KEEP_ALIVE_S", 0.05)
    client = Client(owner_id=OWNER.id, generation_id=None)
    stream = follower(client)
    loop = asyncio.get_running_loop()
    for delay_s in (0.049, 0.0499, 0.05, 0.0501):
        event = happening(stream.last_id + 1)
        loop.call_later(delay_s, client.put, event)
        loop.call_later(0.01, time.sleep, 0.1)
        heard = [item async for item in stream._live()]
        if heard == [None]:
            heard = [item async for item in stream._live()]
        assert heard == [event]


async def test_a_client_gets_its_own_events_of_what_it_asked_for():
    mine = uuid.uuid4()
    one, everything = Client(owner_id=OWNER.id, generation_id=mine), Client(owner_id=OWNER.id, generation_id=None)
    assert one.wants(happening(1, generation_id=mine))
    assert not one.wants(happening(1))
    assert everything.wants(happening(1))
    assert not everything.wants(happening(1, owner_id=uuid.uuid4()))


async def test_a_client_that_lags_too_far_behind_is_told_to_read_again():
    client = Client(owner_id=OWNER.id, generation_id=None)
    for number in range(CLIENT_LIMIT + 1):
        client.put(happening(number))
    assert client.queue.get_nowait() is None
    assert client.queue.empty()


async def test_an_event_that_was_replayed_already_is_not_told_twice():
    client = Client(owner_id=OWNER.id, generation_id=None)
    stream = follower(client)
    stream.last_id = 5
    for number in (4, 5, 6):
        client.put(happening(number))
    heard = [item.id for _ in range(3) async for item in stream._live()]
    assert heard == [6]
