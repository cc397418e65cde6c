"""The states of a generation and which may follow which; what a picture that goes into one is there for."""

from typing import Literal, get_args

Status = Literal["queued", "processing", "completed", "failed", "cancelled"]
STATUSES: tuple[Status, ...] = get_args(Status)
FINAL: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})

NEXT: dict[Status, frozenset[Status]] = {
    "queued": frozenset({"processing", "failed", "cancelled"}),
    "processing": frozenset({"processing", "queued", "completed", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
"""`processing` follows itself when another worker takes over, and `queued` follows it when a run is tried again."""


def is_final(status: Status) -> bool:
    """Whether nothing can follow."""
    return status in FINAL


EventType = Literal["queued", "started", "progress", "image", "completed", "failed", "cancelled", "deleted"]
LAST_EVENTS: frozenset[str] = frozenset({"completed", "failed", "cancelled", "deleted"})

Role = Literal["source", "mask", "control", "style", "reference", "last"]
ROLES: tuple[Role, ...] = get_args(Role)
