"""Looking at a part of the studio with a deadline, one look at a time, whoever asks and however often."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tintype import errors

T = TypeVar("T")


class ProbeSlowError(errors.UnavailableError):
    """A part does not answer in time."""

    code = "probe_slow"


@dataclass(frozen=True, kw_only=True)
class Seen(Generic[T]):
    """What the last look found, and until when that counts as new."""

    found: T
    new_until: float


class Probe(Generic[T]):
    """One part: `look` is run at most once at a time, and what it found is given out again for `keep_s`.

    Whoever asks waits `deadline_s` at most. A look that takes longer goes on by itself, so that a part that hangs
    holds one connection or thread however often somebody asks for its health. After `give_up_s` it is ended, where
    ending it frees what it holds (a connection; never a thread).
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[T]],
        *,
        deadline_s: float,
        keep_s: float = 0.0,
        give_up_s: float | None = None,
    ) -> None:
        self._look = look
        self._deadline_s = deadline_s
        self._keep_s = keep_s
        self._give_up_s = give_up_s
        self._looking: asyncio.Task[T] | None = None
        self._seen: Seen[T] | None = None

    async def result(self) -> T:
        """What `look` gives, or gave lately; what it raises is raised here.

        Raises:
            ProbeSlowError: it takes longer than the deadline.
        """
        if self._seen is not None and time.monotonic() < self._seen.new_until:
            return self._seen.found
        if self._looking is None:
            self._looking = asyncio.create_task(self._run())
            self._looking.add_done_callback(self._finished)
        looking = self._looking
        done, _ = await asyncio.wait({looking}, timeout=self._deadline_s)
        if not done:
            raise ProbeSlowError(f"does not answer within {self._deadline_s:g} s")
        return looking.result()

    async def stop(self) -> None:
        """End a look that is still under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking}, timeout=self._deadline_s)

    async def _run(self) -> T:
        try:
            async with asyncio.timeout(self._give_up_s):
                return await self._look()
        except TimeoutError as error:
            raise ProbeSlowError(f"did not answer within {self._give_up_s:g} s") from error

    def _finished(self, task: asyncio.Task[T]) -> None:
        self._looking = None
        if not task.cancelled() and task.exception() is None:
            self._seen = Seen(found=task.result(), new_until=time.monotonic() + self._keep_s)
