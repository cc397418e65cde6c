"""What the runner tells the schedule, and what the schedule answers."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

from tintype.engine.scheduling.residency import Swap

Mode = Literal["fast", "bucket", "strict"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of evaluations of one picture on one model; a refiner or a second pass is a further phase.

    `key` is what must be equal to share one forward with others (revision, precision, latent size, context length,
    adapters); `shape` names what its time and memory depend on, for people and for the file of measured costs. One
    evaluation takes `lines` lines of the network's batch (2 with guidance), each `activation_bytes` of memory, the
    networks that the request `brings`, by their folders, included.
    """

    model: str
    key: Hashable
    shape: str
    evaluations: int
    lines: int
    activation_bytes: int
    brings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """One picture, as the schedule knows it; `id` is unique for the life of the schedule."""

    id: int
    request: str
    on_behalf_of: str
    mode: Mode
    phases: tuple[Phase, ...]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One evaluation of the pictures `tickets` together on `model`, after `swap` where there is one.

    They take `lines` lines; the batch is filled up to `padded_lines`. `number` says which decision this was.
    """

    number: int
    model: str
    shape: str
    tickets: tuple[int, ...]
    lines: int
    padded_lines: int
    swap: Swap | None


@dataclass(frozen=True, kw_only=True)
class Advance:
    """What a tick brought: pictures that are `finished`, and those that go on with their next phase."""

    finished: tuple[int, ...]
    turned: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A picture that cannot be made for want of memory; it is in no later tick."""

    ticket: int
    detail: str
    code: str = "out_of_memory"
    retryable: bool = False


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a device is like: the batch sizes it runs, in lines, and how the order weighs.

    `sizes` are tried upwards. `bucket_lines` is the fixed batch of the mode `bucket`. `is_padding` fills batches up to
    a size, for devices that keep a compiled graph per size. `patience` says how many times the share of the device
    that a picture is owed may go to shorter ones of its party first. A model that is not loaded waits until others have
    had the device for `swap_weight` times its loading.
    """

    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    bucket_lines: int = 4
    is_padding: bool = False
    patience: float = 4.0
    swap_weight: float = 8.0
