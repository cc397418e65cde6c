"""Short ways to run a workflow in a test."""

import contextlib
import uuid
from collections.abc import AsyncGenerator, Callable
from typing import Any

from tests.standins.comfyui.graphs import Graph
from tintype.comfy import runs
from tintype.comfy.client import Server
from tintype.comfy.runs import Done, Event, Step, Ticket


def new_prefix() -> str:
    """Where a workflow stores what it makes, different each time."""
    return f"tintype-tests/{uuid.uuid4()}/0"


async def all_of(events: AsyncGenerator[Event], on_event: Callable[[Event], Any] = lambda event: None) -> list[Event]:
    """Every event up to the end; `on_event` is called with each, and awaited where it says so."""
    found: list[Event] = []
    async with contextlib.aclosing(events) as coming:
        async for event in coming:
            found.append(event)
            waiting = on_event(event)
            if waiting is not None:
                await waiting
    return found


async def perform(server: Server, graph: Graph, ticket: Ticket | None = None, **options: Any) -> Done:
    """Run a workflow to its end."""
    found = await all_of(runs.perform(server, ticket or runs.book(server), graph, **options))
    assert isinstance(found[-1], Done)
    return found[-1]


def steps(events: list[Event]) -> list[Step]:
    """The steps that were counted."""
    return [event for event in events if isinstance(event, Step) and event.steps]
