"""Events over Server-Sent Events and WebSocket, with replay of what was missed."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator, Field

from tintype import logs
from tintype.accounts.actors import Actor
from tintype.api import document, problems
from tintype.api.context import Context, CurrentActor, Parts
from tintype.api.follow import follow
from tintype.db import session as db
from tintype.generations import events
from tintype.generations import operations as generations
from tintype.generations.events import Happening

CLOSE_DONE, CLOSE_TRY_AGAIN, CLOSE_UNKNOWN = 1000, 1011, 4404
"""Why the server closes a socket: nothing more can come, something broke (connect again), no such generation."""

log = logs.get("api")
router = APIRouter(tags=["events"])


def _absent_if_empty(value: object) -> object:
    return None if value == "" else value


EventId = Annotated[
    int | None,
    Field(ge=0, le=2**63 - 1, description="Replay what came after this event."),
    BeforeValidator(_absent_if_empty),
]
LastEventId = Annotated[EventId, Header()]


@router.get(
    "/api/generate/{generation_id}/events",
    response_class=StreamingResponse,
    responses={**document.EVENTS, 204: {"description": "Nothing more can come."}, **problems.responses(404, 422, 503)},
)
async def generation_events(
    generation_id: uuid.UUID, context: Parts, actor: CurrentActor, last_event_id: LastEventId = None
) -> Response:
    """The events of one generation as Server-Sent Events: all so far, then live until it ends."""
    async with db.reading(context.database) as session:
        row = await generations.get(session, actor, generation_id)
        seen_all = (
            row.completed_at is not None
            and last_event_id
            and not await events.after(session, last_event_id, owner_id=actor.id, generation_id=generation_id, limit=1)
        )
    if seen_all:
        return Response(status_code=204)  # tells an EventSource not to come again
    happenings = follow(context, actor, generation_id=generation_id, last_id=last_event_id or 0)
    return await _stream(happenings)


@router.get(
    "/api/events", response_class=StreamingResponse, responses={**document.EVENTS, **problems.responses(422, 503)}
)
async def all_events(context: Parts, actor: CurrentActor, last_event_id: LastEventId = None) -> StreamingResponse:
    """All events the actor may see as Server-Sent Events, live; with `Last-Event-ID` what was missed comes first."""
    return await _stream(follow(context, actor, last_id=last_event_id))


@router.websocket("/api/ws")
async def events_socket(
    socket: WebSocket,
    context: Parts,
    actor: CurrentActor,
    last_event_id: Annotated[EventId, Query()] = None,
    generation_id: uuid.UUID | None = None,
) -> None:
    """The same events over a WebSocket, one JSON object a message: `{id, type, generation_id, data}`."""
    if generation_id is not None and not await _exists(context, actor, generation_id):
        await socket.accept()
        await socket.close(CLOSE_UNKNOWN, "no generation with this id exists, or it is not yours")
        return
    last_id = last_event_id if generation_id is None else last_event_id or 0
    happenings = follow(context, actor, generation_id=generation_id, last_id=last_id)
    await anext(happenings)
    await socket.accept()
    sending = asyncio.create_task(_send(socket, happenings))
    leaving = asyncio.create_task(_until_gone(socket))
    await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    for task in (sending, leaving):
        task.cancel()
    outcome, _ = await asyncio.gather(sending, leaving, return_exceptions=True)
    broke = isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect)
    if broke:
        log.warning("event stream broke off", error=str(outcome)[:200])
    with suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(CLOSE_TRY_AGAIN if broke else CLOSE_DONE)


async def _exists(context: Context, actor: Actor, generation_id: uuid.UUID) -> bool:
    async with db.reading(context.database) as session:
        try:
            await generations.get(session, actor, generation_id)
        except generations.GenerationUnknownError:
            return False
    return True


async def _send(socket: WebSocket, happenings: AsyncIterator[Happening | None]) -> None:
    async for happening in happenings:
        if happening is not None:
            await socket.send_text(orjson.dumps(_body(happening)).decode())


async def _until_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        continue  # whatever clients say, there is nothing to tell this side


def _body(happening: Happening) -> dict[str, Any]:
    return {
        "id": happening.id,
        "type": happening.type,
        "generation_id": str(happening.generation_id),
        "data": happening.data,
    }


async def _stream(happenings: AsyncIterator[Happening | None]) -> StreamingResponse:
    await anext(happenings)

    async def lines() -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        async for happening in happenings:
            yield b": keep-alive\n\n" if happening is None else _sse(happening)

    return StreamingResponse(
        lines(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _sse(happening: Happening) -> bytes:
    head = b"" if happening.id is None else b"id: %d\n" % happening.id
    return head + b"event: %s\ndata: %s\n\n" % (happening.type.encode(), orjson.dumps(_body(happening)))
