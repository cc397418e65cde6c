"""The actor: on whose behalf something is done. Until accounts exist there is one, the owner of this machine."""

import uuid
from dataclasses import dataclass
from typing import Literal

OWNER_ID = uuid.UUID("00000000-0000-7000-8000-000000000001")
"""The local owner; a fixed id, so that what was made before accounts existed belongs to somebody afterwards."""


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who asks; `max_priority` caps what the request may claim."""

    id: uuid.UUID
    role: Literal["administrator", "member", "viewer"]
    max_priority: int


def local_owner() -> Actor:
    """The person at this machine: whoever reaches the loopback address."""
    return Actor(id=OWNER_ID, role="administrator", max_priority=100)
