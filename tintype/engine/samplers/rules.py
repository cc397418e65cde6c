"""How each sampler moves, written on unit vectors: the papers' formulas come out as coefficients.

A rule gives one move for each evaluation from `first` on. A move holds the new sample and then what is remembered of
it, each a combination of `course.INPUTS`. The same tensors are remembered at every evaluation of a run; before the
first they are zero.
"""

from collections.abc import Callable, Iterator

from tintype.engine.samplers.course import FRESH, SAMPLE, Course, Vector

Move = tuple[Vector, ...]
Rule = Callable[[Course, int], Iterator[Move]]


def euler(course: Course, first: int) -> Iterator[Move]:
    """Euler's method on the probability-flow ODE: arXiv 2206.00364, algorithm 1 without churn; for flows 2210.02747."""
    for k in range(first, len(course)):
        yield (_glide(course, k, SAMPLE, course.clean(k)),)


def flow_euler(course: Course, first: int) -> Iterator[Move]:
    """Euler's method; where the model's scheduler says so, to the clean picture and back with new noise each time."""
    if not course.settings.get("stochastic_sampling"):
        yield from euler(course, first)
        return
    for k in range(first, len(course)):
        yield (course.signal[k + 1] * course.clean(k) + course.noise[k + 1] * FRESH,)


def _glide(course: Course, k: int, sample: Vector, clean: Vector) -> Vector:
    """`sample` at the next level, keeping clean picture and noise: arXiv 2010.02502, equation 12, without new noise."""
    ratio, step = _slope(course, k)
    return ratio * sample + step * clean


def _slope(course: Course, k: int) -> tuple[float, float]:
    """What the next sample has of the last one, and of the clean picture."""
    ratio = course.noise[k + 1] / course.noise[k]
    return ratio, course.signal[k + 1] - course.signal[k] * ratio
