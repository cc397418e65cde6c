"""What a detector is: it scores texts and pictures, and decides nothing.

A package adds one by naming a factory under the entry-point group `tintype.detectors`: a function without arguments
that returns a `Detector`, or None where nothing to detect with is installed. What follows from the scores is decided
in `tintype.safety.policy`, where nobody can configure it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Label(StrEnum):
    """What a score speaks of; each from 0 (surely not) to 1 (surely)."""

    SEXUAL = "sexual"
    """Nudity or a sexual act."""
    SUGGESTIVE = "suggestive"
    """Dressed, but meant to arouse: lingerie, a pose, a see-through dress."""
    MINOR = "minor"
    """Somebody who is, or looks, younger than 18."""
    UNDRESS = "undress"
    """Asks to take the clothes off somebody who is shown. Texts only."""
    FACE_SWAP = "face_swap"
    """Asks to put one person's face onto another. Texts only."""
    PERSON = "person"
    """Shows a real person, as a photograph does. Pictures only."""


Scores = Mapping[Label, float]
Pixels = NDArray[np.uint8]
"""A picture: uint8 RGB of shape [height, width, 3]."""


class Detector(Protocol):
    """Scores texts, pictures or both.

    Both functions may take long, may be called from several threads at once, and raise whatever they like: a detector
    that raises, leaves out a label it promised or gives a score outside 0 to 1 counts as unable to judge, and what it
    was asked about is not made. Neither keeps, logs or puts into an error what it was shown.
    """

    @property
    def text_labels(self) -> frozenset[Label]:
        """What `score_text` always scores; empty if this detector reads no texts, which is then never asked to."""
        ...

    @property
    def image_labels(self) -> frozenset[Label]:
        """What `score_image` always scores; empty if this detector sees no pictures, which is then never asked to."""
        ...

    def score_text(self, text: str) -> Scores:
        """Score a text in any language, as a person wrote it."""
        ...

    def score_image(self, pixels: Pixels) -> Scores:
        """Score one picture or one frame."""
        ...
