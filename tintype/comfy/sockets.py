"""The WebSocket of one prompt: everything its server says, through as many connections as it takes.

A server sends the events of a prompt to the client id it was queued with, and to one connection only: with two, the
newer one gets them, and when the older one closes the newer gets nothing any more. So each prompt has a client id of
its own, and a connection is closed before the next one is opened.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import websockets
from websockets.asyncio.client import connect

from tintype import logs
from tintype.comfy import messages
from tintype.comfy.client import Server
from tintype.comfy.messages import Advanced, Message, PreviewFrame

HELLO = '{"type":"feature_flags","data":{"supports_preview_metadata":true}}'
"""The first message: whoever says so gets previews that name their node and prompt."""

FRAME_BYTES = 512 << 20
"""The largest message taken; a node that sends pictures as PNG sends each as one message."""

PING_S, PONG_S, CLOSE_S = 20.0, 60.0, 1.0
"""How often an idle connection is tried, how long a busy server may take to answer that, or a farewell."""

FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 2.0
"""The pauses between attempts to connect: each twice the one before."""

log = logs.get("comfy")


class Listener:
    """What was said to one client id and not yet taken.

    A connection is always read, however slow its reader: a server that waits for one client waits for all. So of
    progress and JPEG previews, which replace each other, only the newest of each node is kept.
    """

    def __init__(self, server: Server, client_id: str) -> None:
        self.is_connected = False
        self._server = server
        self._client_id = client_id
        self._heard: dict[object, Message] = {}
        self._news = asyncio.Event()
        self._tried = asyncio.Event()

    async def ready(self) -> None:
        """Wait until the first attempt to connect has succeeded or failed."""
        await self._tried.wait()

    async def take(self, timeout_s: float) -> list[Message]:
        """What was said since; returns early, maybe with nothing, when a connection is lost or made."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return []
        self._news.clear()
        heard, self._heard = self._heard, {}
        return list(heard.values())

    async def keep_connected(self) -> None:
        """Read one connection after the other, until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with self._connect() as connection:
                    await connection.send(HELLO)
                    self._changed(is_connected=True)
                    pause_s = FIRST_PAUSE_S
                    async for frame in connection:
                        self._hear(messages.parse(frame))
            except (OSError, TimeoutError, websockets.WebSocketException) as error:
                if self.is_connected or not self._tried.is_set():
                    reason = f"{type(error).__name__}: {error}"
                    log.info("no connection for events", server=self._server.url, error=reason)
            finally:
                self._changed(is_connected=False)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)

    def _connect(self) -> connect:
        return connect(
            self._server.socket_url(self._client_id),
            max_size=FRAME_BYTES,
            compression=None,  # previews are compressed already
            proxy=None,
            user_agent_header="tintype",
            open_timeout=self._server.timeouts.connect_s,
            ping_interval=PING_S,
            ping_timeout=PONG_S,
            close_timeout=CLOSE_S,
        )

    def _changed(self, *, is_connected: bool) -> None:
        self.is_connected = is_connected
        self._tried.set()
        self._news.set()

    def _hear(self, message: Message) -> None:
        key: object = object()
        if isinstance(message, Advanced) or (isinstance(message, PreviewFrame) and message.media_type == "image/jpeg"):
            key = (type(message), message.prompt_id, message.node)
            self._heard.pop(key, None)
        self._heard[key] = message
        self._news.set()


@contextlib.asynccontextmanager
async def listen(server: Server, client_id: str) -> AsyncGenerator[Listener]:
    """A listener that is connected, and connected again, for as long as this lasts."""
    listener = Listener(server, client_id)
    reading = asyncio.create_task(listener.keep_connected())
    try:
        yield listener
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            reading.result()
