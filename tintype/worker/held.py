"""What a worker holds at this moment: its claims, how far each is, and whether it must stop."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from tintype.generations.claims import Beat, Claim
from tintype.providers.contract import Checkpoint, Output, Preview, Progress, VideoOutput
from tintype.worker.slots import StoppedError, Turn

StopReason = Literal["cancelled", "lost", "draining"]
Item = Progress | Preview | Checkpoint | Output | VideoOutput
T = TypeVar("T")


@dataclass
class Held:
    """One claim in work. `stop` may be called from any task; the first reason stands.

    `preview` is told with the next progress and then forgotten; no new one is wanted before `preview_due` (monotonic).
    """

    claim: Claim
    turn: Turn
    reason: StopReason | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    progress: dict[str, Any] | None = None
    announced: dict[str, Any] | None = None
    preview: dict[str, Any] | None = None
    preview_due: float = 0.0
    _first_step_at: float | None = None
    _first_step: int = 0

    def stop(self, reason: StopReason) -> None:
        """Ask the work to end."""
        if self.reason is None:
            self.reason = reason
            self.stopped.set()

    def news(self) -> dict[str, Any] | None:
        """What to announce of the progress, once: with a preview, if there is a new one; None if nothing is new."""
        if self.progress is None or (self.progress is self.announced and self.preview is None):
            return None
        self.announced, preview, self.preview = self.progress, self.preview, None
        return self.progress if preview is None else {**self.progress, "preview": preview}

    def advance(self, progress: Progress) -> None:
        """Note how far the work is; the time left is estimated from the pace since the first step."""
        at = time.monotonic()
        if self._first_step_at is None:
            self._first_step_at = at
            self._first_step = progress.step
        done = progress.step - self._first_step
        pace_s = (at - self._first_step_at) / done if done else None
        left = progress.steps - progress.step
        self.progress = {
            "step": progress.step,
            "steps": progress.steps,
            "percent": round(100 * progress.step / progress.steps, 1),
            "eta_s": None if pace_s is None else round(pace_s * left, 2),
        }


class Holdings:
    """All claims of this worker, by generation."""

    def __init__(self) -> None:
        self._held: dict[uuid.UUID, Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(tuple(self._held.values()))

    def add(self, claim: Claim, turn: Turn) -> Held:
        """Note a new claim."""
        held = Held(claim=claim, turn=turn)
        self._held[claim.id] = held
        return held

    def drop(self, held: Held) -> None:
        """Forget a claim that has ended."""
        if self._held.get(held.claim.id) is held:
            del self._held[held.claim.id]

    def get(self, generation_id: uuid.UUID) -> Held | None:
        """The claim on this generation, if this worker has it."""
        return self._held.get(generation_id)

    def beats(self) -> list[Beat]:
        """What the next heartbeat says."""
        return [Beat(id=h.claim.id, attempt=h.claim.attempt, progress=h.progress) for h in self]


async def next_unless_stopped(items: AsyncIterator[Item], held: Held) -> Item | None:
    """The next item, None after the last; one that is there when the stop comes still counts, because it can name work
    elsewhere.

    Raises:
        StoppedError: the work is to stop.
    """
    return await unless_stopped(lambda: anext(items, None), held)


async def unless_stopped(begin: Callable[[], Awaitable[T]], held: Held) -> T:
    """What comes of the work that `begin` begins, also where it is there when the stop comes.

    Raises:
        StoppedError: the work is to stop.
    """
    if held.stopped.is_set():
        raise StoppedError
    following = asyncio.ensure_future(begin())
    stopped = asyncio.create_task(held.stopped.wait())
    try:
        await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not following.done():
            raise StoppedError
        return following.result()
    finally:
        stopped.cancel()
        if not following.done():
            following.cancel()
            await asyncio.wait({following})
