"""The ledger of a fault test: it knows what was asked for and checks that each of it ended exactly once and whole."""

import asyncio
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.processes import RunningStudio
from tintype.generations.states import FINAL

AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

FOLLOWS = {
    "queued": {"", "started"},
    "started": {"queued", "started"},
    "image": {"started", "image"},
    "completed": {"image"},
    "failed": {"queued", "started"},
    "cancelled": {"queued", "started"},
}
"""Which kept events an event may come after; `started` follows itself when another worker takes over."""


async def until(condition: Callable[[], Any], what: str, *, timeout_s: float = 30.0, every_s: float = 0.02) -> Any:
    """What `condition` (plain or async) gives once it is true."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        await asyncio.sleep(every_s)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request that was accepted, and how it may end."""

    pictures: int
    ends: frozenset[str]


@dataclass
class Ledger:
    """What was asked of `studio`; `check` compares it with everything the studio kept."""

    studio: RunningStudio
    media: Path | None = None
    may_leave_parts: bool = False
    """A process killed in the middle of a write can leave its unnamed part, `<name>#1`."""
    asked: dict[str, Asked] = field(default_factory=dict)

    async def ask(self, *, ends: Iterable[str] = ("completed",), **fields: Any) -> str:
        """Ask for pictures; the id."""
        answer = await self.studio.generate(**fields)
        self.expect(answer["id"], pictures=fields.get("num_images", 1), ends=ends)
        return answer["id"]

    def expect(self, generation_id: str, *, pictures: int = 1, ends: Iterable[str] = ("completed",)) -> None:
        """Note a request that was accepted otherwise."""
        self.asked[generation_id] = Asked(pictures=pictures, ends=frozenset(ends))

    def forget(self, generation_id: str) -> None:
        """It was deleted: `check` then requires that nothing of it is left."""
        self.asked[generation_id] = Asked(pictures=0, ends=frozenset())

    async def fetch(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Rows straight from the database."""
        connection = await asyncpg.connect(self.studio.url, timeout=10)
        try:
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    async def settle(self, *, timeout_s: float = 60.0) -> None:
        """Wait until everything has ended and no job for it is left in the queue."""
        ids = [uuid.UUID(name) for name in self.asked]

        async def is_settled() -> bool:
            try:
                left = await self.fetch(
                    "SELECT (SELECT count(*) FROM generations WHERE id = ANY($1) AND completed_at IS NULL)"
                    " + (SELECT count(*) FROM pgqueuer WHERE dedupe_key = ANY($2)) AS left",
                    ids,
                    [str(name) for name in ids],
                )
            except AWAY:
                return False
            return left[0]["left"] == 0

        try:
            await until(is_settled, "every generation ends and its job is gone", timeout_s=timeout_s, every_s=0.1)
        except TimeoutError as error:
            rows = await self.fetch("SELECT id, status, attempt FROM generations WHERE completed_at IS NULL")
            jobs = await self.fetch("SELECT dedupe_key, status, heartbeat FROM pgqueuer")
            raise AssertionError(f"{error}; open {rows}; jobs {jobs}\n{self.studio.logs()}") from error

    async def check(self, *, timeout_s: float = 60.0) -> dict[str, dict[str, Any]]:
        """Settle, then require that all that is kept is what was asked; the rows by id."""
        await self.settle(timeout_s=timeout_s)
        ids = [uuid.UUID(name) for name in self.asked]
        rows = {str(row["id"]): row for row in await self.fetch("SELECT * FROM generations WHERE id = ANY($1)", ids)}
        assert set(rows) == {name for name, asked in self.asked.items() if asked.ends}, "lost or never asked for"
        for name, row in rows.items():
            assert row["status"] in self.asked[name].ends, (name, row["status"], row["error_code"])
        media = await self._check_media(ids, rows)
        await self._check_events(ids, rows, media)
        await self.check_files()
        return rows

    async def _check_media(self, ids: list[uuid.UUID], rows: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in self.asked}
        for row in await self.fetch('SELECT * FROM media WHERE generation_id = ANY($1) ORDER BY "index"', ids):
            found[str(row["generation_id"])].append(row)
        for name, pictures in found.items():
            is_completed = name in rows and rows[name]["status"] == "completed"
            expected = list(range(self.asked[name].pictures)) if is_completed else []
            assert [picture["index"] for picture in pictures] == expected, name
        return {name: [str(picture["id"]) for picture in pictures] for name, pictures in found.items()}

    async def _check_events(
        self, ids: list[uuid.UUID], rows: dict[str, dict[str, Any]], media: dict[str, list[str]]
    ) -> None:
        kept = await self.fetch(
            "SELECT generation_id, type, data FROM events WHERE generation_id = ANY($1) ORDER BY id", ids
        )
        for name, row in rows.items():
            types = [event["type"] for event in kept if str(event["generation_id"]) == name]
            require_legal(types, status=row["status"], attempt=row["attempt"], pictures=len(media[name]))
            last_steps = [note["at"] for note in self.studio.notes(name) if note["what"] == "last_step"]
            if row["status"] == "completed" and row["model"] == "scripted":
                assert row["completed_at"].timestamp() >= min(last_steps), f"{name} completed before its last step"

    async def check_files(self) -> None:
        """Require that the files in storage are exactly those the rows name, whole."""
        folder = self.media or self.studio.home / "media"

        async def difference() -> set[str]:
            rows = await self.fetch("SELECT key, thumbnail_key FROM media")
            named = {key for row in rows for key in row.values()}
            found = {str(path.relative_to(folder)) for path in files_in(folder)}
            return named ^ {name for name in found if not (self.may_leave_parts and "#" in name)}

        async def is_same() -> bool:
            return not await difference()

        try:
            await until(is_same, "files and rows agree", timeout_s=5, every_s=0.2)
        except TimeoutError as error:
            raise AssertionError(f"files without rows, or rows without files: {await difference()}") from error
        for row in await self.fetch("SELECT key, sha256, thumbnail_key, thumbnail_sha256 FROM media"):
            for key, digest in ((row["key"], row["sha256"]), (row["thumbnail_key"], row["thumbnail_sha256"])):
                assert hashlib.sha256((folder / key).read_bytes()).hexdigest() == digest, f"{key} is damaged"


def files_in(folder: Path) -> list[Path]:
    """Every file under `folder` but the health page's probes, half-written ones (`name#1`) included."""
    return [path for path in folder.rglob("*") if path.is_file() and "probe" not in path.parts]


def require_legal(types: list[str], *, status: str, attempt: int, pictures: int) -> None:
    """Require that kept events tell one life: legal steps, one start for each attempt, one end, the row's."""
    for before, event in pairwise(["", *types]):
        assert before in FOLLOWS[event], f"{event} after {before or 'nothing'}: {types}"
    assert [event for event in types if event in FINAL] == [status], types
    assert types[-1] == status, types
    assert types.count("started") == attempt, types
    assert types.count("image") == pictures, types


@dataclass
class Watch:
    """How a generation read, over time: `(clock, status, number of pictures)`."""

    readings: list[tuple[float, str, int]] = field(default_factory=list)

    def statuses(self, *, since: float = 0.0, until: float = float("inf")) -> set[str]:
        """Every status read in that time."""
        return {status for at, status, _ in self.readings if since <= at <= until}


@asynccontextmanager
async def watching(studio: RunningStudio, generation_id: str, *, pictures: int = 1) -> AsyncIterator[Watch]:
    """Read a generation again and again meanwhile; it must never read as finished without its pictures, nor change
    once it has ended."""
    watch = Watch()

    async def read() -> None:
        async with httpx.AsyncClient(base_url=studio.address, timeout=10) as http:
            while True:
                try:
                    answer = await http.get(f"/api/generate/{generation_id}")
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)
                    continue
                if answer.status_code != 503:
                    assert answer.status_code == 200, answer.text
                    body = answer.json()
                    watch.readings.append((time.time(), body["status"], len(body["output_paths"])))
                await asyncio.sleep(0.03)

    reading = asyncio.create_task(read())
    try:
        yield watch
    finally:
        reading.cancel()
        (ended,) = await asyncio.gather(reading, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError), ended
    statuses = [status for _, status, _ in watch.readings]
    assert statuses, "it could never be read"
    for before, after in pairwise(statuses):
        assert before not in FINAL or after == before, f"{after} after {before}"
    for _, status, shown in watch.readings:
        assert shown == (pictures if status == "completed" else 0), (status, shown)
