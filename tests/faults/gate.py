"""A gate before a server: while it is closed, what clients send is swallowed and never answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Gate:
    """Hands bytes to the server at `upstream` and back; `endpoint` is its own address, once it listens."""

    def __init__(self, upstream: str) -> None:
        self.endpoint = ""
        self.is_closed = False
        self.swallowed = asyncio.Event()
        self._upstream = urlsplit(upstream)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        there = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        await asyncio.gather(self._pump(reader, there[1], stops=True), self._pump(there[0], writer, stops=False))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, stops: bool) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                if stops and self.is_closed:
                    self.swallowed.set()
                    continue
                sink.write(data)
                await sink.drain()
        sink.close()


@asynccontextmanager
async def gate(upstream: str) -> AsyncIterator[Gate]:
    """A gate before the server at `upstream`, on this machine only."""
    made = Gate(upstream)
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    made.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
