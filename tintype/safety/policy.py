"""What follows from scores: pure functions from what detectors say and what is known about a job to a verdict.

Nothing here can be configured. Every number is a constant with its reason, and no function takes one.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from tintype.safety.contract import Label, Scores

SEXUAL = 0.45
"""Below one half: an explicit picture let through costs more than a picture refused. Detectors of nudity are sure
(0.7 and more) of most of what is explicit; between 0.45 and that lie small and half-hidden figures."""
SUGGESTIVE = 0.6
"""Counts only beside a person's picture or a minor; set high, or swimwear and sport would be refused there."""
INTENT = 0.5
"""Undressing and face swaps are asked for or not; there is no grey area to lean into."""
MINOR = 0.3
"""Ages are hard to tell, so a mere hint counts."""
LOWEST = 0.2
"""What counts as sexual or suggestive beside a minor: the lowest threshold there is."""
PERSON = 0.5
"""From here on a picture counts as showing a real person; without a detector that knows, every picture does."""


FRAMES_A_SECOND = 2
"""How many frames of a video are judged for each second of it."""


class Stage(StrEnum):
    """Where in the life of a picture a check takes place."""

    PROMPT = "prompt"
    INPUT = "input"
    """A picture that comes in: an upload, a reference, a mask's picture."""
    TRAINING = "training"
    """A training picture or its caption."""
    PREVIEW = "preview"
    OUTPUT = "output"
    FRAME = "frame"
    """A frame of a video that was made."""


class Reason(StrEnum):
    """Why something is not made."""

    SEXUAL = "sexual"
    PERSON = "person"
    """Sexual or suggestive, with a person's picture in the lineage."""
    MINOR = "minor"
    UNDRESS = "undress"
    FACE_SWAP = "face_swap"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the server knows about a job; never taken from a request. What is left out is assumed to be the worst.

    `has_person_source`: a person's picture, or a LoRA of a person, is in the lineage. `has_foreign_source`: any
    picture in the lineage was not made here by a model that draws no people. `model_draws_people`: a model in the
    lineage can.
    """

    stage: Stage
    has_person_source: bool = True
    has_foreign_source: bool = True
    model_draws_people: bool = True

    @property
    def needs_detector(self) -> bool:
        """Whether anything in the lineage could show what only a detector can see."""
        return self.has_person_source or self.has_foreign_source or self.model_draws_people


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was decided and by whom; for the log of verdicts, not for the person who asked."""

    stage: Stage
    reason: Reason | None
    scores: Mapping[Label, float]
    detectors: tuple[str, ...] = ()

    @property
    def is_blocked(self) -> bool:
        """Whether this may not be made, shown or stored."""
        return self.reason is not None

    @property
    def shows_person(self) -> bool:
        """Whether a picture counts as a person's: yes, unless a detector that knows people says no."""
        return self.found_person is not False

    @property
    def found_person(self) -> bool | None:
        """What a detector that knows people says of a picture; None where none looked."""
        return self.scores[Label.PERSON] >= PERSON if Label.PERSON in self.scores else None


def frames_to_judge(count: int, fps: float) -> tuple[int, ...]:
    """Which of a video's `count` frames are judged: the first, the last, and two for each second between."""
    between = range(1, math.ceil(count / fps * FRAMES_A_SECOND))
    places = (0, *(round(place * fps / FRAMES_A_SECOND) for place in between), count - 1)
    return tuple(sorted({place for place in places if place < count}))


def highest(results: Iterable[Scores]) -> dict[Label, float]:
    """The highest score of each label among detectors: one that sees it is enough.

    Raises:
        ValueError: a score is not a number from 0 to 1, or its label is none of ours; nothing may rest on it.
    """
    found: dict[Label, float] = {}
    for scores in results:
        for name, score in scores.items():
            label = Label(name)
            if not (math.isfinite(score) and 0 <= score <= 1):
                raise ValueError(f"a score of {label.value} is not from 0 to 1")
            found[label] = max(found.get(label, 0.0), float(score))
    return found


def decide(scores: Scores, facts: Facts, *, detectors: tuple[str, ...] = ()) -> Verdict:
    """The verdict over the highest scores of all detectors."""
    return Verdict(stage=facts.stage, reason=_reason(highest([scores]), facts), scores=scores, detectors=detectors)


def _reason(scores: Scores, facts: Facts) -> Reason | None:
    sexual, suggestive = scores.get(Label.SEXUAL, 0.0), scores.get(Label.SUGGESTIVE, 0.0)
    if scores.get(Label.MINOR, 0.0) >= MINOR and max(sexual, suggestive) >= LOWEST:
        return Reason.MINOR
    if scores.get(Label.UNDRESS, 0.0) >= INTENT:
        return Reason.UNDRESS
    if scores.get(Label.FACE_SWAP, 0.0) >= INTENT:
        return Reason.FACE_SWAP
    if facts.has_person_source and sexual >= SEXUAL / 2:
        return Reason.PERSON
    if facts.has_person_source and facts.stage is not Stage.INPUT and suggestive >= SUGGESTIVE:
        # a holiday photo may come in; what is asked for, learnt or made from it may not be of that kind
        return Reason.PERSON
    return Reason.SEXUAL if sexual >= SEXUAL else None
