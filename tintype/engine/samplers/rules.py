"""How each sampler moves, written on unit vectors: the papers' formulas come out as coefficients.

A rule gives one move for each evaluation from `first` on. A move holds the new sample and then what is remembered of
it, each a combination of `course.INPUTS`. The same tensors are remembered at every evaluation of a run; before the
first they are zero. Where a part of the next move is known already, only its sum is remembered.
"""

from collections.abc import Callable, Iterator

import numpy as np

from tintype.engine.samplers.course import FIRST, FRESH, SAMPLE, SECOND, Course, Vector

Move = tuple[Vector, ...]
Rule = Callable[[Course, int], Iterator[Move]]

NOTHING = np.zeros_like(SAMPLE)


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


def euler_ancestral(course: Course, first: int) -> Iterator[Move]:
    """Euler's method to less noise than is due, the rest drawn anew: DDPM (arXiv 2006.11239) between any two levels."""
    for k in range(first, len(course)):
        down, up = _split(course.noise[k], course.noise[k + 1])
        yield (_mix(course.noise[k], down, SAMPLE, course.clean(k)) + up * FRESH,)


def ddim(course: Course, first: int) -> Iterator[Move]:
    """DDIM without noise: arXiv 2010.02502, equation 12 with sigma 0, one stride of training timesteps at a time."""
    stride = course.settings["num_train_timesteps"] // len(course)
    for k in range(first, len(course)):
        later = int(course.timesteps[k]) - stride
        square = course.alphas[later] if later >= 0 else course.final_alpha
        ratio = np.sqrt(1 - square) / course.noise[k]
        yield (ratio * SAMPLE + (np.sqrt(square) - course.signal[k] * ratio) * course.clean(k),)


def lcm(course: Course, first: int) -> Iterator[Move]:
    """Multistep consistency sampling: arXiv 2310.04378, algorithm 3, with the boundary scalings of its appendix.

    The last evaluation gives the clean picture itself.
    """
    deviation = 0.5  # of the data, as every consistency model was distilled with
    for k in range(first, len(course)):
        moment = course.timesteps[k] * course.settings["timestep_scaling"]
        skip = deviation**2 / (moment**2 + deviation**2)
        clean = moment / np.hypot(moment, deviation) * course.clean(k) + skip * SAMPLE
        if k == len(course) - 1:
            yield (clean,)
        else:
            yield (course.signal[k + 1] * clean + course.noise[k + 1] * FRESH,)


def heun(course: Course, first: int) -> Iterator[Move]:
    """Heun's second-order method: arXiv 2206.00364, algorithm 1 without churn. The last step is Euler's.

    Odd evaluations look at where Euler's step led to; the mean of both slopes is then taken from where it began.
    """
    for k in range(first, len(course)):
        slope = (SAMPLE - course.clean(k)) / course.noise[k]
        if k % 2 == 0:
            way = course.noise[k + 1] - course.noise[k]
            yield SAMPLE + way * slope, SAMPLE + way / 2 * slope
        else:
            way = course.noise[k] - course.noise[k - 1]
            yield FIRST + way / 2 * slope, NOTHING


def dpmpp_sde(course: Course, first: int) -> Iterator[Move]:
    """DPM-Solver++ (arXiv 2211.01095, algorithm 1 with r = 1/2) made stochastic as in k-diffusion: by ancestral steps.

    Odd evaluations look at the middle of a step. There the noise is a Brownian motion's over the first part of the
    step, at its end the same motion's over all of it. k-diffusion and diffusers take both from a tree of torchsde,
    which is not needed for two values: given the first, z, the second has the law of sqrt(c) z + sqrt(1 - c) z' with
    z' drawn anew and c the share of the first part.
    """
    for k in range(first, len(course)):
        if k == len(course) - 1:
            yield _glide(course, k, SAMPLE, course.clean(k)), NOTHING
        elif k % 2 == 0:
            start, middle, end = course.noise[k : k + 3]
            down, up = _split(start, middle)
            far_down, far_up = _split(start, end)
            shared = np.sqrt((start - middle) / (start - end))
            halfway = _mix(start, down, SAMPLE, course.clean(k)) + up * FRESH
            yield halfway, far_down / start * SAMPLE + far_up * shared * FRESH
        else:
            start, middle, end = course.noise[k - 1 : k + 2]
            far_down, far_up = _split(start, end)
            own = np.sqrt((middle - end) / (start - end))
            yield FIRST + (1 - far_down / start) * course.clean(k) + far_up * own * FRESH, NOTHING


def dpmpp_2m(course: Course, first: int) -> Iterator[Move]:
    """DPM-Solver++ (2M): arXiv 2211.01095, algorithm 2. Remembers the last clean picture."""
    for k in range(first, len(course)):
        clean = course.clean(k)
        yield _glide(course, k, SAMPLE, _lean(course, k, first, clean, FIRST)), clean


def dpmpp_2m_sde(course: Course, first: int) -> Iterator[Move]:
    """SDE-DPM-Solver++ (2M): arXiv 2211.01095, appendix on SDEs, the second-order multistep formula."""
    for k in range(first, len(course)):
        clean = course.clean(k)
        kept = np.exp(-course.gain(k, k + 1)) if course.noise[k + 1] > 0 else 0.0
        ratio = course.noise[k + 1] / course.noise[k]
        leaning = _lean(course, k, first, clean, FIRST)
        renewed = course.noise[k + 1] * np.sqrt(1 - kept**2)
        yield ratio * kept * SAMPLE + course.signal[k + 1] * (1 - kept**2) * leaning + renewed * FRESH, clean


def unipc(course: Course, first: int) -> Iterator[Move]:
    """UniPC of order 2 with B(h) = e^h - 1 on the clean picture: arXiv 2302.04867, algorithms 5 and 6.

    Each evaluation first corrects the sample it was asked about, then predicts the next. Of the correction everything
    but the coming clean picture is known before; that sum is remembered first, the last clean picture second.
    """
    disabled = course.settings["disable_corrector"]
    is_careful, total = course.settings["lower_order_final"], len(course)
    weight = 0.0
    for k in range(first, total):
        clean, sample = course.clean(k), SAMPLE
        if k > first and k - 1 not in disabled:
            sample = FIRST + weight * clean
        order = 1 if k == first or (is_careful and k == total - 1) else 2
        is_second = order == 2 and course.noise[k + 1] > 0  # without noise the last lambda is infinite
        leaning = _extrapolate(course, k, clean, SECOND) if is_second else clean
        known = NOTHING
        if k < total - 1:
            of_sample, of_clean, of_last, weight = _correct(course, k, order)
            known = of_sample * sample + of_clean * clean + of_last * SECOND
        yield _glide(course, k, sample, leaning), known, clean


def _correct(course: Course, k: int, order: int) -> tuple[float, float, float, float]:
    """UniC's weights for the sample at k, the clean pictures of k and k - 1, and the one still to come at k + 1."""
    ratio, step = _slope(course, k)
    h = -course.gain(k, k + 1)
    phi_1 = np.expm1(h)
    phi_2 = phi_1 / h - 1
    right = np.array([phi_2, 2 * (phi_2 / h - 1 / 2)]) / phi_1
    if order == 1:
        return ratio, step / 2, 0.0, step / 2
    back = course.gain(k, k - 1) / course.gain(k, k + 1)
    before, coming = np.linalg.solve(np.array([[1.0, 1.0], [back, 1.0]]), right)
    return ratio, step * (1 - before / back - coming), step * before / back, step * coming


def _lean(course: Course, k: int, first: int, clean: Vector, last: Vector) -> Vector:
    """The clean picture that a multistep solver steps with: of second order but at the ends of the run."""
    settings, total = course.settings, len(course)
    is_last_plain = (
        settings["final_sigmas_type"] == "zero"
        or settings["euler_at_final"]
        or (settings["lower_order_final"] and total < 15)
    )
    if k == first or (k == total - 1 and is_last_plain):
        return clean
    return _extrapolate(course, k, clean, last)


def _extrapolate(course: Course, k: int, clean: Vector, last: Vector) -> Vector:
    """The clean picture half a step ahead, on a line through the last two in lambda: arXiv 2211.01095, section 4.2."""
    return clean + (clean - last) * course.gain(k, k + 1) / (2 * course.gain(k - 1, k))


def _glide(course: Course, k: int, sample: Vector, clean: Vector) -> Vector:
    """`sample` at the next level, keeping clean picture and noise: arXiv 2010.02502, equation 12, without new noise."""
    ratio, step = _slope(course, k)
    return ratio * sample + step * clean


def _slope(course: Course, k: int) -> tuple[float, float]:
    """What the next sample has of the last one, and of the clean picture."""
    ratio = course.noise[k + 1] / course.noise[k]
    return ratio, course.signal[k + 1] - course.signal[k] * ratio


def _mix(before: float, after: float, sample: Vector, clean: Vector) -> Vector:
    """`sample`, clean picture plus noise, with the noise brought from `before` down to `after`."""
    return after / before * sample + (1 - after / before) * clean


def _split(before: float, after: float) -> tuple[float, float]:
    """The noise `after` a step in two parts: kept, and drawn anew so that the whole is as a posterior's."""
    up = after * np.sqrt(1 - (after / before) ** 2)
    return after**2 / before, up
