"""From what a network puts out to scores per label."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tintype.errors import UnavailableError
from tintype.safety.contract import Label

Activation = Literal["softmax", "sigmoid", "none"]
Labels = Mapping[str, Label | None]
"""Which of our labels each class of a network speaks for; None for one that is harmless."""


class DetectorFailedError(UnavailableError):
    """A detector could not judge; what it was asked about stays blocked."""

    code = "detector_failed"


def labels_of(labels: Labels) -> frozenset[Label]:
    """The labels that are scored."""
    return frozenset(label for label in labels.values() if label is not None)


def problem_of(classes: Sequence[str], labels: Labels) -> str | None:
    """Why these labels do not fit a network with these classes; None if they do."""
    if set(classes) != set(labels) or len(set(classes)) != len(classes):
        return f"it tells {sorted(classes)} apart, but labels are given for {sorted(labels)}"
    if not any(labels.values()):
        return "none of its classes has a label"
    return None


def activated(values: NDArray[Any], activation: Activation) -> NDArray[np.float64]:
    """Probabilities, the last axis being the classes.

    Raises:
        DetectorFailedError: a value is not finite, or with `none` outside 0 to 1.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise DetectorFailedError("a detector's network put out values that are not finite")
    if activation == "softmax":
        powers = np.exp(numbers - numbers.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-np.clip(numbers, -60, 60)))
    if numbers.size and (numbers.min() < -1e-4 or numbers.max() > 1 + 1e-4):
        raise DetectorFailedError("a detector's network put out values outside 0 to 1, which are no probabilities")
    return np.clip(numbers, 0, 1)


def collected(
    probabilities: NDArray[np.float64], classes: Sequence[str], labels: Labels, activation: Activation
) -> dict[Label, float]:
    """The score of each label: the highest among the rows.

    Classes that share a label add up where they exclude each other (softmax); else the surest speaks.
    """
    scores: dict[Label, float] = {}
    for label in labels_of(labels):
        columns = probabilities[:, [index for index, name in enumerate(classes) if labels[name] == label]]
        per_row = columns.max(axis=1) if activation == "sigmoid" else columns.sum(axis=1)
        scores[label] = float(min(1.0, per_row.max()))
    return scores
