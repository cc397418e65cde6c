"""Ends work that goes on at a provider's although nobody wants its result any more."""

import asyncio
import functools
import uuid
from dataclasses import dataclass, field

from tintype import logs
from tintype.db import session as db
from tintype.db.session import Database
from tintype.generations import leftovers
from tintype.generations.leftovers import Work
from tintype.providers.contract import WORK_UNKNOWN, ProviderError
from tintype.providers.registry import Providers

CANCEL_S = 20.0
"""How long a provider may take to say that work has ended."""

log = logs.get("worker")


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """The providers of this worker, and where it stands what is to be ended there.

    `strays` are works whose token could not be put on its row because the database was away.
    """

    database: Database
    providers: Providers
    strays: set[Work] = field(default_factory=set[Work])

    async def end_doomed(self, generation_id: uuid.UUID | None = None) -> None:
        """End what is due, of one generation where it is given; what cannot be ended now is tried again later."""
        await self._doom_strays()
        names = self.providers.ready.keys()
        works = await db.persistently(
            self.database, lambda session: leftovers.take(session, names, generation_id=generation_id)
        )
        await asyncio.gather(*(self._end(work) for work in works))

    async def _doom_strays(self) -> None:
        for stray in tuple(self.strays):
            await db.persistently(self.database, functools.partial(leftovers.doom_stray, work=stray))
            self.strays.discard(stray)

    async def _end(self, work: Work) -> None:
        noted = log.bind(provider=work.provider, generation_id=str(work.generation_id))
        try:
            async with asyncio.timeout(CANCEL_S):
                await self.providers.ready[work.provider].cancel(work.token)
        except ProviderError as error:
            if error.code != WORK_UNKNOWN:
                noted.warning("work elsewhere goes on for now", code=error.code, error=error.detail)
                return
        except TimeoutError:
            noted.warning("work elsewhere goes on for now", error=f"no answer within {CANCEL_S} s")
            return
        except Exception:  # noqa: BLE001  a plug-in may raise anything; it must not stop this worker
            noted.exception("work elsewhere goes on for now")
            return
        await db.persistently(self.database, lambda session: leftovers.forget(session, work))
        noted.info("work elsewhere is over")
