"""How the servers are, looked at again and again in a thread of its own: whoever asks is answered at once.

Here a server that was idle for long is asked to give back its memory, and what installed workflows lack is found out.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tintype import errors, logs, settings
from tintype.comfy.client import Stats, Timeouts
from tintype.comfy.errors import ComfyError
from tintype.comfy.preparing import Shelf, Types
from tintype.comfy.servers import Health, Inventory, Servers
from tintype.comfy.workflows import checking

LOOK_S = 2.0
INVENTORY_S = 60.0
"""How long what a server has is taken for known; it looks through all its folders of models to tell."""

ANSWER_S = 10.0
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
SHOWN_WORKFLOWS, SHOWN_PROBLEMS = 10, 2
OUTPUT_ARGUMENT = "--output-directory"

log = logs.get("comfy")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A server at one time; `devices` are lines for people."""

    health: Health
    devices: tuple[str, ...] = ()


class Watch:
    """Looks at the servers until it is stopped. `used_at` says by address when work was last done there (monotonic)."""

    def __init__(self, comfy: settings.Comfy, shelf: Shelf) -> None:
        self.seen: tuple[Seen, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.broken_workflows: Mapping[str, str] = {}
        self.used_at: dict[str, float] = {}
        self.output_folders: dict[str, Path] = {}
        self._comfy = comfy
        self._shelf = shelf
        self._types = Types()
        self._folders: set[Path] = set()
        self._freed_at: dict[str, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="comfy-watch", daemon=True)
        self._thread.start()

    def mind(self, folder: Path) -> None:
        """Find out, from now on, what the workflow in this folder lacks."""
        if folder not in self._folders:
            self._folders = {*self._folders, folder}
            self.look()

    def look(self) -> None:
        """Look now, not only when it is time."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._news.set)

    def stop(self) -> None:
        """Look no more."""
        self._is_stopping = True
        self.look()
        self._thread.join(ANSWER_S)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        servers = Servers(self._comfy.urls, Timeouts(connect_s=3.0, answer_s=min(ANSWER_S, self._comfy.answer_s)))
        try:
            while not self._is_stopping:
                await self._look(servers)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), LOOK_S)
                self._news.clear()
        finally:
            await servers.close()

    async def _look(self, servers: Servers) -> None:
        found = await servers.health()
        for one in found:
            self._tell_changes(one)
        self.seen = tuple(Seen(health=one, devices=_devices(one)) for one in found)
        well = [servers.at(one.url) for one in found if one.problem is None]
        inventories: dict[str, Inventory] = {}
        for server, health in zip(well, [one for one in found if one.problem is None], strict=True):
            try:
                self._note_output_folder(server.url, await server.stats())
                if self._folders:
                    inventories[server.url] = await servers.inventory(server, most_age_s=INVENTORY_S)
                if health.remaining == 0 and self._is_idle(server.url):
                    await server.free()
                    self._freed_at[server.url] = time.monotonic()
                    log.info("an idle server was asked to give back its memory", server=server.url)
            except ComfyError as error:
                log.info("a server could not be asked", server=server.url, error=error.detail)
        if inventories:
            self._note_workflows(inventories)

    def _tell_changes(self, now: Health) -> None:
        before = next((one.health.problem for one in self.seen if one.health.url == now.url), None)
        if now.problem is not None and before is None:
            log.warning("a server does not work", server=now.url, error=now.problem)
        elif now.problem is None and before is not None:
            log.info("a server works again", server=now.url)

    def _is_idle(self, url: str) -> bool:
        used_at = self.used_at.get(url)
        if used_at is None or self._comfy.free_after_s == 0 or self._freed_at.get(url, 0.0) > used_at:
            return False
        return time.monotonic() - used_at > self._comfy.free_after_s

    def _note_output_folder(self, url: str, stats: Stats) -> None:
        """Where a server of this machine puts its results, if it was told so: then they can be deleted there."""
        words = stats.arguments
        if OUTPUT_ARGUMENT not in words[:-1] or url.split("//")[1].rpartition(":")[0] not in LOOPBACK:
            return
        folder = Path(words[words.index(OUTPUT_ARGUMENT) + 1])
        if folder.is_absolute() and folder.is_dir():
            self.output_folders[url] = folder

    def _note_workflows(self, inventories: Mapping[str, Inventory]) -> None:
        """Say what workflows lack on every server: of those somebody added each, of those that ship how many."""
        lacking = {folder: why for folder in sorted(self._folders) if (why := self._lacks(folder, inventories))}
        own = settings.home() / "models"
        added = {folder.name: why for folder, why in lacking.items() if folder.is_relative_to(own)}
        self.broken_workflows = {f"workflow {name}": why for name, why in list(added.items())[:SHOWN_WORKFLOWS]}
        shipped = len(lacking) - len(added)
        said = f"{shipped} of the workflows that ship lack nodes or models; `tintype comfy check` says which"
        self.notes = (said,) if shipped else ()

    def _lacks(self, folder: Path, inventories: Mapping[str, Inventory]) -> str | None:
        """What a workflow lacks on the server that suits it best; None where one has everything."""
        try:
            workflow = self._shelf.get(folder)
        except errors.TintypeError as error:
            return error.detail
        found = [checking.check(workflow, self._types.of(one)) for one in inventories.values()]
        fewest = min(found, key=len)
        more = f" (and {len(fewest) - SHOWN_PROBLEMS} more)" if len(fewest) > SHOWN_PROBLEMS else ""
        return "; ".join(problem.message for problem in fewest[:SHOWN_PROBLEMS]) + more if fewest else None


def _devices(health: Health) -> tuple[str, ...]:
    """A line for each device: what it is, where, and how much of its memory is free."""
    return tuple(
        f"{device.name} at {health.url} (ComfyUI {health.version}, {device.free_bytes / 1e9:.1f} of "
        f"{device.memory_bytes / 1e9:.1f} GB free)"
        for device in health.devices
    )
