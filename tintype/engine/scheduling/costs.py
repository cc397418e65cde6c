"""What evaluations and loading take on this device, as measured here: the ground on which batching is decided."""

import math
import statistics
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tintype.engine.scheduling.residency import Place

TRIALS = 3
"""So many measurements make a figure: the first run of a batch size also compiles and chooses kernels."""

KEPT_SAMPLES = 9
KEPT_CURVES = 512

GAIN = 0.9
"""A larger batch has to take less than this share of what its two parts take, one after the other."""

PASSED_OVER = 500
"""How often a batch size may be found not to pay before it is measured anew; it may have met a busy machine."""

LEAST_S = 1e-6
"""A coarse clock may show nothing at all."""

GUESSED_LINE_S = 1.0
GUESSED_BYTES_PER_S = {Place.DISK: 1e9, Place.HOST: 8e9, Place.DEVICE: 8e9}


class CostsBrokenError(ValueError):
    """The kept measurements cannot be read; delete their file and they are taken anew."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one evaluation of `lines` lines takes, over `samples` measurements."""

    model: str
    shape: str
    lines: int
    seconds: float
    samples: int


@dataclass
class Curve:
    """The measured seconds of one model and shape, by batch size."""

    samples: dict[int, deque[float]] = field(default_factory=dict[int, deque[float]])
    seconds: dict[int, float] = field(default_factory=dict[int, float])
    passed_over: int = 0

    def add(self, size: int, seconds: float) -> None:
        """One more measurement. A batch can be filled up, so none takes longer than a larger one does."""
        self.samples.setdefault(size, deque(maxlen=KEPT_SAMPLES)).append(seconds)
        self.settle()

    def scaled(self, size: int) -> float:
        """The seconds of a batch size, in proportion to the nearest one that was measured."""
        if size in self.seconds:
            return self.seconds[size]
        nearest = min(self.seconds, key=lambda known: abs(known - size))
        return self.seconds[nearest] * size / nearest

    def settle(self) -> None:
        """Make figures of the measurements."""
        least = float("inf")
        for size in sorted(self.samples, reverse=True):
            least = min(least, statistics.median(self.samples[size]))
            self.seconds[size] = least


class CostTable:
    """Seconds by model, shape and batch size; unknown at first, and fed by every tick."""

    def __init__(self, *, sizes: tuple[int, ...], is_padding: bool) -> None:
        self.sizes = sizes
        self._is_padding = is_padding
        self._curves: dict[tuple[str, str], Curve] = {}
        self._loading_s: dict[tuple[str, Place], float] = {}
        self._usual_line_s: dict[str, float] = {}

    def size(self, lines: int) -> int:
        """The smallest batch size that holds so many lines; more than the largest stand for themselves."""
        index = bisect_left(self.sizes, lines)
        return self.sizes[index] if index < len(self.sizes) else lines

    def note(self, model: str, shape: str, lines: int, seconds: float) -> None:
        """Take down what one evaluation of `lines` lines, those that fill up included, has taken."""
        size = self.size(lines)
        is_known = self.is_known(model, shape, size)
        share = self.seconds(model, shape, lines) / self.seconds(model, shape, size) if is_known else lines / size
        curve = self._curves.pop((model, shape), None) or Curve()
        self._curves[model, shape] = curve  # last: it was used last
        while len(self._curves) > KEPT_CURVES:
            del self._curves[next(iter(self._curves))]
        self._usual_line_s.clear()
        curve.add(size, max(seconds, LEAST_S) / share)

    def note_loading(self, model: str, origin: Place, seconds: float) -> None:
        """Take down what loading took."""
        self._loading_s[model, origin] = max(seconds, LEAST_S)

    def loading_s(self, model: str, origin: Place, weights_bytes: int) -> float:
        """What loading will take: as long as last time, or as long as so many bytes usually do."""
        known = self._loading_s.get((model, origin))
        return weights_bytes / GUESSED_BYTES_PER_S[origin] if known is None else known

    def seconds(self, model: str, shape: str, lines: int) -> float:
        """What one evaluation of `lines` lines will take.

        Between two sizes lies what is between; a size not measured yet is scaled from the nearest one that is, a shape
        not measured yet from the others.
        """
        curve = self._curves.get((model, shape))
        if curve is None or not curve.seconds:
            if model not in self._usual_line_s:
                self._usual_line_s[model] = self._find_usual_line_s(model)
            return lines * self._usual_line_s[model]
        if lines in curve.seconds:
            return curve.seconds[lines]
        size = self.size(lines)
        if self._is_padding or size == lines or lines < self.sizes[0]:
            return curve.scaled(size)
        below = self.sizes[bisect_left(self.sizes, lines) - 1]
        low_s = curve.scaled(below)
        return low_s + (curve.scaled(size) - low_s) * (lines - below) / (size - below)

    def is_known(self, model: str, shape: str, lines: int) -> bool:
        """Whether this size was measured often enough to judge by."""
        curve = self._curves.get((model, shape))
        return curve is not None and len(curve.samples.get(self.size(lines), ())) >= TRIALS

    def count_worthwhile(self, model: str, shape: str, sums: Sequence[int], most: int) -> int:
        """How many rows of a queue should share the next evaluation; `sums` are the lines of the first 1, 2, … rows.

        Sizes are looked at upwards, up to `most` lines, as long as each pays; one that is not known is tried.
        """
        count = 1
        if not self.is_known(model, shape, sums[0]):
            return count
        for size in self.sizes[bisect_right(self.sizes, sums[0]) :]:
            more = bisect_right(sums, size)
            if size > most or count == len(sums):
                break
            if more == count:
                continue
            if not self.is_known(model, shape, size):
                return more
            rest = sums[more - 1] - sums[count - 1]
            apart_s = self.seconds(model, shape, sums[count - 1]) + self.seconds(model, shape, rest)
            if self.seconds(model, shape, sums[more - 1]) >= GAIN * apart_s:
                self._pass_over(self._curves[model, shape], size)
                break
            count = more
        return count

    def rows(self) -> tuple[Cost, ...]:
        """All that is known, for people to read."""
        return tuple(
            Cost(model=model, shape=shape, lines=size, seconds=curve.seconds[size], samples=len(samples))
            for (model, shape), curve in self._curves.items()
            for size, samples in sorted(curve.samples.items())
        )

    def dump(self) -> dict[str, Any]:
        """Everything as plain JSON, to be kept for the next start on the same device."""
        return {
            "evaluations": [
                {"model": model, "shape": shape, "lines": size, "seconds": list(samples)[-TRIALS:]}
                for (model, shape), curve in self._curves.items()
                for size, samples in sorted(curve.samples.items())
            ],
            "loading": [
                {"model": model, "from": origin.value, "seconds": seconds}
                for (model, origin), seconds in self._loading_s.items()
            ],
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Start from what `dump` gave.

        Raises:
            CostsBrokenError: it is not what `dump` gives.
        """
        try:
            evaluations = [
                (str(row["model"]), str(row["shape"]), int(row["lines"]), [float(each) for each in row["seconds"]])
                for row in kept["evaluations"]
            ]
            loading = [(str(row["model"]), Place(row["from"]), float(row["seconds"])) for row in kept["loading"]]
        except (KeyError, TypeError, ValueError) as error:
            raise CostsBrokenError(CostsBrokenError.__doc__) from error
        figures = [*(each for row in evaluations for each in (row[2], *row[3])), *(row[2] for row in loading)]
        if not all(math.isfinite(figure) and figure > 0 for figure in figures):
            raise CostsBrokenError(CostsBrokenError.__doc__)
        for model, shape, lines, samples in evaluations:
            for seconds in samples:
                self.note(model, shape, lines, seconds)
        for model, origin, seconds in loading:
            self.note_loading(model, origin, seconds)

    def _find_usual_line_s(self, model: str) -> float:
        lines = [
            (name == model, seconds / size)
            for (name, _), curve in self._curves.items()
            for size, seconds in curve.seconds.items()
        ]
        own = [line_s for is_own, line_s in lines if is_own] or [line_s for _, line_s in lines]
        return statistics.median(own) if own else GUESSED_LINE_S

    def _pass_over(self, curve: Curve, size: int) -> None:
        curve.passed_over += 1
        if curve.passed_over >= PASSED_OVER:
            curve.passed_over = 0
            del curve.samples[size], curve.seconds[size]
