"""How many requests each provider is given at once, and whose turn it is."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager


class StoppedError(Exception):
    """The work was told to stop before it was done."""


class Slots:
    """The slots of every provider of this worker."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = limits
        self._free = {name: asyncio.Semaphore(limit) for name, limit in limits.items()}

    def is_taken(self, provider: str) -> bool:
        """Whether a request would have to wait."""
        return self._free[provider].locked()

    async def take(self, provider: str, *, unless: asyncio.Event) -> bool:
        """Whether a slot was had before the event came."""
        slot = self._free[provider]
        if not slot.locked():
            return await slot.acquire()
        acquiring = asyncio.create_task(slot.acquire())
        coming = asyncio.create_task(unless.wait())
        try:
            await asyncio.wait({acquiring, coming}, return_when=asyncio.FIRST_COMPLETED)
            return acquiring.done()
        finally:
            coming.cancel()
            if not acquiring.done():
                acquiring.cancel()

    def give(self, provider: str) -> None:
        """Leave a slot to the next."""
        self._free[provider].release()


class Turn:
    """A job's turn: it holds one slot of one provider at a time, so that no two jobs wait for each other's.

    Without a `provider` (its model is gone) it needs none.
    """

    def __init__(self, slots: Slots, provider: str | None) -> None:
        self._slots = slots
        self._home = provider
        self._at: str | None = None

    async def begin(self, *, unless: asyncio.Event) -> bool:
        """Whether a slot was had before the event came."""
        return await self._move(self._home, unless=unless)

    @asynccontextmanager
    async def elsewhere(self, provider: str, *, unless: asyncio.Event) -> AsyncGenerator[None]:
        """Within the block a slot of another provider instead of the own one, which others may use meanwhile.

        Raises:
            StoppedError: the event came before a slot was had, there or back here.
        """
        await self._move_or_stop(provider, unless=unless)
        yield
        await self._move_or_stop(self._home, unless=unless)

    def end(self) -> None:
        """Hold no slot any more."""
        if self._at is not None:
            self._slots.give(self._at)
            self._at = None

    async def _move_or_stop(self, provider: str | None, *, unless: asyncio.Event) -> None:
        if not await self._move(provider, unless=unless):
            raise StoppedError

    async def _move(self, provider: str | None, *, unless: asyncio.Event) -> bool:
        if self._at == provider:
            return True
        self.end()
        if provider is not None and not await self._slots.take(provider, unless=unless):
            return False
        self._at = provider
        return True
