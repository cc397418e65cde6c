"""Who runs a job first: a worker that has its model loaded, for a while; then whoever can load it."""

import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field

from tintype.db import session as db
from tintype.db.session import Database
from tintype.generations import claims
from tintype.queue.consumer import AgainError
from tintype.worker import registry

LEFT_FOR_S = 3.0
"""How long a job is left to workers that have its model loaded, from the first time it was handed out here."""

AGAIN_S = 0.5
FORGOTTEN_AFTER_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Affinity:
    """What this worker has left to others, and since when."""

    database: Database
    worker_id: uuid.UUID
    _since_s: dict[uuid.UUID, float] = field(default_factory=dict[uuid.UUID, float])

    async def leave_to_loaded(self, generation_id: uuid.UUID, model_id: str, *, loaded: Collection[str] | None) -> None:
        """Give a job back while another worker could start on it at once and this one would have to load its model.

        `loaded` are the models this worker has loaded, None where nothing needs loading.

        Raises:
            AgainError: it is another's for now.
        """
        if loaded is None or model_id in loaded:
            self._since_s.pop(generation_id, None)
            return
        at_s = time.monotonic()
        since_s = self._since_s.setdefault(generation_id, at_s)
        if at_s - since_s < LEFT_FOR_S and await self._is_loaded_elsewhere(generation_id, model_id):
            raise AgainError(AGAIN_S)
        self._forget(at_s)

    async def _is_loaded_elsewhere(self, generation_id: uuid.UUID, model_id: str) -> bool:
        """Whether it is; who held the job and let it go is not waited for: most likely it died a moment ago."""

        async def work(session: db.WriteSession) -> bool:
            held_by = await claims.holder(session, generation_id)
            than = [self.worker_id] if held_by is None else [self.worker_id, held_by]
            return await registry.is_loaded_elsewhere(session, model_id, than=than)

        return await db.persistently(self.database, work)

    def _forget(self, at_s: float) -> None:
        for generation_id in [one for one, since_s in self._since_s.items() if at_s - since_s > FORGOTTEN_AFTER_S]:
            del self._since_s[generation_id]
