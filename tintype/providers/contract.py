"""The provider contract: what a maker of pictures is given and what it gives back.

A provider sees no database, no queue and no HTTP request. It is made by a factory that an entry point in the group
`tintype.providers` names; the built-in engine is one such entry point.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Task = Literal["text_to_image"]
SeedMode = Literal["fast", "bucket", "strict"]


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model as a provider needs it: which architecture, and where its files lie (nowhere for a remote one)."""

    id: str
    family: str
    folder: str
    memory_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One unit of work; every value is resolved, nothing is left to chance.

    `seeds` holds one seed per picture: picture `i` must not depend on how many others were asked for with it.
    """

    id: str
    task: Task
    model: ModelFiles
    prompt: str
    negative_prompt: str
    width: int
    height: int
    seeds: tuple[int, ...]
    steps: int
    guidance_scale: float
    sampler: str
    seed_mode: SeedMode = "fast"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`step` of `steps` model evaluations are done, over all pictures of the request."""

    step: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Work goes on elsewhere under `token`: `generate(resume=token)` finds it again, `cancel(token)` ends it."""

    token: str


@dataclass(frozen=True, kw_only=True)
class Output:
    """Picture `index` of the request: `pixels` are uint8 RGB, shape [height, width, 3]."""

    index: int
    seed: int
    pixels: "NDArray[np.uint8]"


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What a provider can do on this machine; `families` it can run, `concurrency` requests it can hold at once.

    `is_complete` is False while the provider is still finding out, e.g. which devices there are. `problem` says why it
    cannot work at present and what to do.
    """

    tasks: tuple[Task, ...]
    families: tuple[str, ...]
    concurrency: int
    devices: tuple[str, ...]
    is_complete: bool = True
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What a request would cost, in US dollars; 0 for work on one's own machine."""

    usd: float


class ProviderError(Exception):
    """The provider could not make the picture; `retryable` says whether trying again may help."""

    def __init__(self, detail: str, *, code: str, retryable: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.retryable = retryable


class Provider(Protocol):
    """A maker of pictures."""

    def capabilities(self) -> Capability:
        """What this provider can do here and now."""
        ...

    def quote(self, request: GenerationRequest) -> Quote:
        """What the request would cost."""
        ...

    async def prepare(self, model: ModelFiles) -> None:
        """Get ready for a model that will likely be asked for; what goes wrong shows when it is."""
        ...

    def generate(
        self, request: GenerationRequest, resume: str | None = None
    ) -> AsyncIterator[Progress | Checkpoint | Output]:
        """Make the pictures of one request; closing the iterator stops local work within one step."""
        ...

    async def cancel(self, token: str) -> None:
        """End the remote work that a `Checkpoint` named."""
        ...

    async def close(self) -> None:
        """Give back devices and memory."""
        ...
