"""A request inside the engine, and what each of its pictures has come to."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tintype.engine.family import Drawing, Loaded
from tintype.engine.scheduling.values import Ticket
from tintype.providers.contract import GenerationRequest, Output, Preview, Progress


@dataclass(frozen=True)
class Ended:
    """The engine has nothing more to give; `error` says why when it did not simply finish."""

    error: BaseException | None = None


Given = Progress | Preview | Output | Ended


@dataclass(kw_only=True, eq=False)
class Job:
    """One request; `give` hands over what comes of it and may be called from the engine's threads.

    `seen_s` is when each of its pictures was last shown.
    """

    request: GenerationRequest
    give: Callable[[Given], None]
    evaluations: int = 0
    done: int = 0
    unfinished: set[int] = field(default_factory=set[int])
    has_ended: bool = False
    seen_s: dict[int, float] = field(default_factory=dict[int, float])

    def advance(self, evaluations: int = 1) -> None:
        """Note evaluations that were made, and say so."""
        self.done += evaluations
        self.give(Progress(step=self.done, steps=self.evaluations))

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes; only the first end counts."""
        if not self.has_ended:
            self.has_ended = True
            self.give(Ended(error))


@dataclass(kw_only=True, eq=False)
class Picture:
    """One picture of a job. `drawing` is None until its first step; `is_turning` says that its next phase begins."""

    job: Job
    index: int
    ticket: Ticket
    drawing: Drawing | None = None
    phase: int = 0
    is_turning: bool = False
    is_last_try: bool = False

    @property
    def seed(self) -> int:
        """What its noise is drawn from."""
        return self.job.request.seeds[self.index]

    @property
    def ready(self) -> Drawing:
        """The drawing of a picture that has begun."""
        assert self.drawing is not None
        return self.drawing

    def needs(self, model_id: str) -> bool:
        """Whether the model makes its present phase."""
        return self.ticket.phases[self.phase].model == model_id

    def turn(self) -> None:
        """Note that its phase is over and the next one follows."""
        self.phase += 1
        self.is_turning = True

    def make_ready(self, model: Loaded) -> None:
        """Begin the picture, or its next phase, where that is due."""
        if self.drawing is None:
            self.drawing = model.begin(self.job.request, self.seed)
        elif self.is_turning:
            self.drawing = model.go_on(self.drawing, self.job.request, self.phase)
            self.is_turning = False

    def output(self, made: NDArray[np.uint8]) -> Output:
        """What is handed over of the finished picture; a fourth channel is how opaque it is."""
        pixels, alpha = (made, None) if made.shape[2] == 3 else (made[..., :3].copy(), made[..., 3].copy())
        return Output(index=self.index, seed=self.seed, pixels=pixels, alpha=alpha)
