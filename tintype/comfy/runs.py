"""One prompt from submit to outcome, whatever happens to the connection meanwhile.

Events say how far it is; only the history says how it ended. It is asked when the server says that the prompt is over,
when nothing was said of the prompt for a while, and again and again while there is no connection.
"""

import asyncio
import contextlib
import functools
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Self

from tintype import logs
from tintype.comfy import cancelling, files, refusals, sockets
from tintype.comfy.client import File, Server
from tintype.comfy.errors import (
    BrokenServerError,
    ComfyError,
    PromptForgottenError,
    TooSlowError,
    UnreachableError,
    WorkflowRefusedError,
)
from tintype.comfy.messages import Advanced, Ended, Executing, Message, PreviewFrame, Started
from tintype.comfy.refusals import Graph
from tintype.comfy.sockets import Listener

FIRST_PAUSE_S, LAST_PAUSE_S = 0.005, 0.25
"""The pauses between questions for a prompt that ought to be in the history: each twice the one before."""

REST_S = 1.0
"""How long the last events may take to arrive when the history told of the end before they did."""

AWAY = (UnreachableError, TooSlowError, BrokenServerError)

log = logs.get("comfy")


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """Which prompt on which server, and the client id that its events go to."""

    server: str
    prompt_id: str
    client_id: str

    @property
    def token(self) -> str:
        """The ticket as one word, for a `Checkpoint`."""
        return f"{self.prompt_id} {self.client_id} {self.server}"

    @classmethod
    def parse(cls, token: str) -> Self:
        """The ticket of a token.

        Raises:
            ValueError: it is none.
        """
        prompt_id, client_id, server = token.split(" ", 2)
        return cls(server=server, prompt_id=prompt_id, client_id=client_id)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A node works and has done `step` of `steps`; both are 0 when it begins."""

    node: str
    step: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Done:
    """A prompt succeeded. `files` are what it made, `cached` the nodes that did not run as the server had it all.

    A file of a cached node was made by an earlier prompt, and may hold something else by now.
    """

    files: tuple[File, ...]
    cached: tuple[str, ...]
    seconds: float


Event = Step | PreviewFrame | Done


def book(server: Server) -> Ticket:
    """A ticket for a prompt that is yet to be submitted, so that its ids can be stored before it is."""
    return Ticket(server=server.url, prompt_id=str(uuid.uuid4()), client_id=uuid.uuid4().hex)


def perform(
    server: Server,
    ticket: Ticket,
    graph: Graph,
    *,
    extra_data: Mapping[str, Any] | None = None,
    may_begin: asyncio.Event | None = None,
) -> AsyncGenerator[Event]:
    """Submit a workflow under a ticket and follow it to its end, the last event being `Done`.

    Given `may_begin`, it only connects until that is set.
    Closing the iterator ends nothing on the server: `cancelling.cancel` does.

    Raises:
        WorkflowRefusedError: the workflow is at fault; nothing of it runs.
        PromptForgottenError, NodeFailedError, OutOfMemoryError, PromptInterruptedError: how it ended.
        ComfyError: the server is away for longer than `absence_s`, or is no ComfyUI.
    """
    return _run(server, ticket, functools.partial(_submit, server, ticket, graph, extra_data, may_begin))


def follow(server: Server, ticket: Ticket) -> AsyncGenerator[Event]:
    """Follow a prompt that was submitted before, maybe by another process; ends and errors as with `perform`."""
    return _run(server, ticket, None)


async def _run(
    server: Server, ticket: Ticket, begin: Callable[[], Coroutine[Any, Any, None]] | None
) -> AsyncGenerator[Event]:
    async with sockets.listen(server, ticket.client_id) as listener:
        await listener.ready()
        if begin is not None:
            await begin()
        heard_at = time.monotonic() if begin is not None else 0.0  # of one that may be over by now, ask at once
        watch = _Watch(server=server, ticket=ticket, listener=listener, heard_at=heard_at)
        async with contextlib.aclosing(_events(watch)) as events:
            async for event in events:
                yield event


async def _submit(
    server: Server,
    ticket: Ticket,
    graph: Graph,
    extra_data: Mapping[str, Any] | None,
    may_begin: asyncio.Event | None,
) -> None:
    if may_begin is not None:
        await may_begin.wait()
    try:
        await server.submit(graph, prompt_id=ticket.prompt_id, client_id=ticket.client_id, extra_data=extra_data)
    except WorkflowRefusedError:
        try:  # of a workflow that is at fault in part, the rest runs
            await cancelling.cancel(server, ticket.prompt_id)
        except ComfyError as error:
            log.warning("the rest of a refused workflow runs on", prompt_id=ticket.prompt_id, error=error.detail)
        raise
    except AWAY as error:
        try:  # it may have the prompt all the same
            place = await cancelling.locate(server, ticket.prompt_id)
        except ComfyError:
            place = "unknown"
        if place == "unknown":
            raise
        log.info("a prompt arrived without an answer", prompt_id=ticket.prompt_id, error=error.detail)


@dataclass(kw_only=True)
class _Watch:
    """What is known of a running prompt; times are of the monotonic clock."""

    server: Server
    ticket: Ticket
    listener: Listener
    is_running: bool = False
    is_over: bool = False
    heard_at: float
    looked_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    away_since: float | None = None
    unknown_since: float | None = None

    def wait_s(self) -> float:
        """How long to wait for events before the server is asked."""
        timeouts = self.server.timeouts
        if self.away_since is not None:
            return timeouts.poll_s
        if self.is_over or self.unknown_since is not None:
            self.pause_s = min(2 * self.pause_s, LAST_PAUSE_S)
            return self.pause_s
        interval = timeouts.silence_s if self.listener.is_connected else timeouts.poll_s
        return max(0.0, max(self.heard_at, self.looked_at) + interval - time.monotonic())

    def note(self, message: Message) -> Step | PreviewFrame | None:
        """Take in what was said; what of it is news for who follows the prompt."""
        ours = self.ticket.prompt_id
        match message:
            case PreviewFrame():
                is_ours = message.prompt_id == ours or (message.prompt_id is None and self.is_running)
                return message if is_ours else None
            case Executing(prompt_id=None) if message.node is not None:
                pass  # so a server greets who comes back in the middle of their own prompt
            case Executing() | Advanced() | Started() | Ended() if message.prompt_id == ours:
                pass  # `Ended` comes a few milliseconds before the history has it
            case _:
                return None
        self.heard_at = time.monotonic()
        self.is_over = isinstance(message, Executing) and message.node is None
        self.is_running = not self.is_over and not isinstance(message, Ended)
        match message:
            case Advanced():
                return Step(node=message.node, step=message.step, steps=message.steps)
            case Executing() if message.node is not None:
                return Step(node=message.node, step=0, steps=0)
            case _:
                return None


async def _events(watch: _Watch) -> AsyncGenerator[Event]:
    was_connected = watch.listener.is_connected
    while True:
        for message in await watch.listener.take(watch.wait_s()):
            event = watch.note(message)
            if event is not None:
                yield event
        has_changed = watch.listener.is_connected != was_connected
        was_connected = watch.listener.is_connected
        if watch.is_over or has_changed or watch.wait_s() == 0.0 or watch.away_since or watch.unknown_since:
            entry = await _look(watch)
            if entry is not None:
                async for event in _rest(watch):
                    yield event
                yield _done(entry)
                return


async def _rest(watch: _Watch) -> AsyncGenerator[Event]:
    """The events still under way: a node may have sent its pictures with them and stored none."""
    deadline = time.monotonic() + REST_S
    while watch.is_running and watch.listener.is_connected and time.monotonic() < deadline:
        for message in await watch.listener.take(deadline - time.monotonic()):
            event = watch.note(message)
            if event is not None:
                yield event


async def _look(watch: _Watch) -> Mapping[str, Any] | None:
    """The prompt's entry in the history, None while it waits or runs or its server is away for a moment."""
    timeouts, prompt_id = watch.server.timeouts, watch.ticket.prompt_id
    watch.looked_at = now = time.monotonic()
    try:
        entry = await watch.server.history(prompt_id)
        if entry is not None:
            return entry
        place = await cancelling.locate(watch.server, prompt_id)
    except AWAY:
        watch.away_since = watch.away_since or now
        if now - watch.away_since > timeouts.absence_s:
            raise
        return None
    watch.away_since = None
    if place == "unknown":
        watch.unknown_since = watch.unknown_since or now
        if now - watch.unknown_since > timeouts.lag_s:
            raise PromptForgottenError(
                f"ComfyUI at {watch.server.url} knows nothing of the prompt any more; it was restarted, or its queue "
                "was emptied. Send it again."
            )
    else:
        watch.unknown_since = None
        watch.is_over = watch.is_over or place == "ended"
    return None


def _done(entry: Mapping[str, Any]) -> Done:
    """What the history's entry means.

    Raises:
        ComfyError: the prompt did not succeed.
    """
    status = entry.get("status") or {}
    if status.get("status_str", "success") != "success":
        prompt = entry.get("prompt") or ()
        raise refusals.failure(entry, prompt[2] if len(prompt) > 2 else {})
    said: dict[str, Mapping[str, Any]] = {str(kind): data for kind, data in status.get("messages") or ()}
    began = said.get("execution_start", {}).get("timestamp", 0)
    ended = said.get("execution_success", {}).get("timestamp", began)
    return Done(
        files=files.listed(entry.get("outputs") or {}),
        cached=tuple(map(str, said.get("execution_cached", {}).get("nodes") or ())),
        seconds=(ended - began) / 1000,
    )
