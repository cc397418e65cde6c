"""All the ComfyUI servers there are: how they are, what they have, and which of them gets the next prompt."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype.comfy.client import Device, Server, Timeouts
from tintype.comfy.errors import ComfyError, NoServerFitsError, UnreachableError

STALE_S = 5.0
"""An inventory older than that is read again before a server counts as lacking something."""

SKIPPED_S = 10.0
"""How long a server that did not answer is left out while others do."""

MOST_SENTENCES = 5
"""So many of the things that are missing are named."""

NOT_MODELS = ("custom_nodes", "configs")
"""What ComfyUI lists among its folders of models and is none."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """How a server is. `problem` says why it cannot be used and what to do; nothing else is known then."""

    url: str
    problem: str | None = None
    version: str = ""
    devices: tuple[Device, ...] = ()
    remaining: int = 0


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What a server has: its nodes as `/object_info` describes them, and the files in each of its folders of models."""

    nodes: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, tuple[str, ...]]


Missing = Callable[[Inventory], Sequence[str]]
"""What a server with such an inventory lacks for a workflow, one sentence each; empty if it can run it."""


def nothing_missing(_: Inventory) -> Sequence[str]:
    """For a workflow that any server runs."""
    return ()


class Servers:
    """Servers by their address, each with one client. Close it when it is no longer used."""

    def __init__(
        self,
        urls: Iterable[str],
        timeouts: Timeouts | None = None,
        *,
        output_folders: Mapping[str, Path] | None = None,
    ) -> None:
        folders = output_folders or {}
        made = [Server(url, timeouts, output_folder=folders.get(url.rstrip("/"))) for url in urls]
        self._servers = {server.url: server for server in made}
        self._inventories: dict[str, tuple[float, Inventory]] = {}
        self._chosen: Counter[str] = Counter()
        self._silent_until: dict[str, float] = {}

    @property
    def all(self) -> tuple[Server, ...]:
        """Every server, in the order in which they were named."""
        return tuple(self._servers.values())

    def at(self, url: str) -> Server:
        """The server of a ticket.

        Raises:
            NoServerFitsError: it is no longer one of these.
        """
        try:
            return self._servers[url]
        except KeyError as error:
            raise NoServerFitsError(f"{url} is no longer a server of this studio; add it to COMFYUI_URL.") from error

    async def close(self) -> None:
        """Give back all connections."""
        await asyncio.gather(*(server.close() for server in self.all))

    async def health(self) -> tuple[Health, ...]:
        """How every server is, asked now."""
        return tuple(await asyncio.gather(*(_health(server) for server in self.all)))

    async def inventory(self, server: Server, *, most_age_s: float = float("inf")) -> Inventory:
        """What a server has; read once, and again when what is known is older than `most_age_s`."""
        read_at, known = self._inventories.get(server.url, (0.0, None))
        if known is not None and time.monotonic() - read_at <= most_age_s:
            return known
        nodes, folders = await asyncio.gather(server.object_info(), server.model_folders())
        names = [name for name in folders if name not in NOT_MODELS]
        files = await asyncio.gather(*(server.models(name) for name in names))
        known = Inventory(nodes=nodes, models=dict(zip(names, files, strict=True)))
        self._inventories[server.url] = time.monotonic(), known
        return known

    @asynccontextmanager
    async def chosen(self, missing: Missing = nothing_missing) -> AsyncGenerator[Server]:
        """The least busy server that has what a workflow needs; it counts as busier while this lasts.

        Raises:
            NoServerFitsError: those that answer lack something; it says what.
            UnreachableError: none answers.
        """
        server = await self._choose(missing)
        self._chosen[server.url] += 1
        try:
            yield server
        finally:
            self._chosen[server.url] -= 1

    async def _choose(self, missing: Missing) -> Server:
        lacking: list[str] = []
        problem: ComfyError | None = None
        for server in await self._by_load():
            try:
                sentences = missing(await self.inventory(server))
                if sentences:
                    sentences = missing(await self.inventory(server, most_age_s=STALE_S))
            except ComfyError as error:
                problem = error
                continue
            if not sentences:
                return server
            lacking += [sentence for sentence in sentences if sentence not in lacking]
        if problem is not None and not lacking:
            raise problem
        raise NoServerFitsError(" ".join(lacking[:MOST_SENTENCES]))

    async def _by_load(self) -> list[Server]:
        """The servers that answer, those with the shortest queue first."""
        if len(self._servers) == 1:
            return list(self.all)
        now = time.monotonic()
        silent = [server for server in self.all if self._silent_until.get(server.url, 0.0) > now]
        found = await self._loads([server for server in self.all if server not in silent]) or await self._loads(silent)
        if not found:
            raise UnreachableError(
                f"None of the ComfyUI servers answers ({', '.join(self._servers)}); start one, or correct COMFYUI_URL."
            )
        return [server for _, server in sorted(found, key=lambda each: each[0])]

    async def _loads(self, asked: Sequence[Server]) -> list[tuple[int, Server]]:
        loads = await asyncio.gather(*(server.remaining() for server in asked), return_exceptions=True)
        found: list[tuple[int, Server]] = []
        for server, load in zip(asked, loads, strict=True):
            if isinstance(load, ComfyError):
                self._silent_until[server.url] = time.monotonic() + SKIPPED_S
            elif isinstance(load, BaseException):
                raise load
            else:
                self._silent_until.pop(server.url, None)
                found.append((max(load, self._chosen[server.url]), server))
        return found


async def _health(server: Server) -> Health:
    try:
        stats, remaining = await asyncio.gather(server.stats(), server.remaining())
    except ComfyError as error:
        return Health(url=server.url, problem=error.detail)
    return Health(url=server.url, version=stats.version, devices=stats.devices, remaining=remaining)
