"""How noisy the sample is at each moment of a run.

Noise levels and timesteps are those of diffusers' schedulers, which models are shipped for; how a sampler moves
between them is in `rules`. diffusers, and with it torch, is imported when the first course is read.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tintype.providers.contract import ProviderError

Vector = NDArray[np.float64]
Scale = Literal["exploding", "preserving", "flow", "training"]
"""What the samples look like: clean + s eps; unit variance; (1 - s) clean + s eps; as trained, at whole timesteps."""

INPUTS = ("sample", "prediction", "fresh", "first", "second")
"""What a move is put together from: the sample, the network's prediction, fresh noise, and two remembered tensors."""

SAMPLE, PREDICTION, FRESH, FIRST, SECOND = np.eye(len(INPUTS))


class SamplerUnsuitableError(ProviderError):
    """This sampler cannot run this model, or not in this way."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="sampler_unsuitable", retryable=False)


@dataclass(frozen=True, kw_only=True)
class Course:
    """Before evaluation k the sample is `signal[k] * clean + noise[k] * eps`; the last entry is after the last one.

    `alphas` is the cumulative product over the training timesteps; `settings` is the scheduler's full configuration.
    """

    timesteps: Vector
    signal: Vector
    noise: Vector
    input_scales: Vector
    initial_noise: float
    prediction: str
    alphas: Vector
    final_alpha: float
    settings: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.timesteps)

    def clean(self, k: int) -> Vector:
        """The clean picture that the prediction of evaluation k stands for, as a combination of `INPUTS`.

        "v_prediction" is section 2.4 of arXiv 2210.02303, for any variance; "flow_prediction" is eps - clean.

        Raises:
            SamplerUnsuitableError: the prediction says nothing about the picture at this level.
        """
        signal, noise = self.signal[k], self.noise[k]
        norm = np.hypot(signal, noise)
        match self.prediction:
            case "epsilon" if signal > 0:
                return (SAMPLE - noise * PREDICTION) / signal
            case "v_prediction":
                return (signal * SAMPLE - noise * norm * PREDICTION) / norm**2
            case "flow_prediction":
                return SAMPLE - noise * PREDICTION
            case "sample" | "original_sample":
                return PREDICTION
            case _:
                raise SamplerUnsuitableError(
                    f"a model that predicts {self.prediction!r} cannot be run from a signal of {signal}; "
                    "its scheduler_config.json must name a prediction_type that fits its noise levels"
                )

    def gain(self, k: int, later: int) -> float:
        """How much the half-log signal-to-noise ratio, lambda = log(signal / noise), grows from k to `later`."""
        return float(np.log(self.signal[later] * self.noise[k]) - np.log(self.signal[k] * self.noise[later]))


def read(
    scheduler_name: str,
    scale: Scale,
    config: Mapping[str, Any],
    steps: int,
    *,
    mu: float | None = None,
    sigmas: Sequence[float] | None = None,
) -> Course:
    """The course of diffusers' scheduler of that class over all `steps`.

    Raises:
        SamplerUnsuitableError: the scheduler does not take this configuration, number of steps or override.
    """
    import diffusers

    kind: Any = getattr(diffusers, scheduler_name)
    given = {name: value for name, value in (("mu", mu), ("sigmas", sigmas)) if value is not None}
    try:
        scheduler = kind.from_config(_known(kind, config))
        scheduler.set_timesteps(**({} if sigmas is not None else {"num_inference_steps": steps}), **given)
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise SamplerUnsuitableError(
            f"{scheduler_name} cannot make {steps} steps of this model: {error or 'not with this mu'}"
        ) from error
    settings: dict[str, Any] = dict(scheduler.config)
    if settings.get("thresholding") or settings.get("invert_sigmas"):
        raise SamplerUnsuitableError("`thresholding` and `invert_sigmas` are not offered; choose another model")
    return _measure(scheduler, scale, settings)


def halve(course: Course) -> Course:
    """The course with one more evaluation amid each step, at the geometric mean of its noise levels.

    For "exploding" scale; the last step, to no noise, stays whole.
    """
    levels = course.noise[:-1]
    middles = np.sqrt(levels[:-1] * levels[1:])
    trained = np.log((1 - course.alphas) / course.alphas) / 2
    moments = np.interp(np.log(middles), trained, np.arange(len(trained)))
    noise = np.append(_interleave(levels, middles), course.noise[-1])
    return replace(
        course,
        timesteps=_interleave(course.timesteps, moments),
        signal=np.ones_like(noise),
        noise=noise,
        input_scales=1 / np.sqrt(noise[:-1] ** 2 + 1),
    )


def double(course: Course) -> Course:
    """The course with each level but the first looked at twice: where a step led to, and where the next begins."""
    timesteps = _interleave(course.timesteps, course.timesteps[1:])
    signal, noise = (
        np.append(_interleave(levels[:-1], levels[1:-1]), levels[-1]) for levels in (course.signal, course.noise)
    )
    return replace(course, timesteps=timesteps, signal=signal, noise=noise, input_scales=np.ones_like(timesteps))


def _interleave(outer: Vector, inner: Vector) -> Vector:
    return np.insert(outer, np.arange(1, len(outer)), inner)


def _known(kind: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """What that scheduler has a parameter for, and how diffusers marks a file's origin and its defaults."""
    known = inspect.signature(kind.__init__).parameters
    return {name: value for name, value in config.items() if name in known or name.startswith("_")}


def _measure(scheduler: Any, scale: Scale, settings: Mapping[str, Any]) -> Course:
    timesteps = _numbers(scheduler.timesteps)
    is_real = timesteps != -1  # "trailing" adds one for some numbers of steps, 61 among them, by an error of rounding
    timesteps = timesteps[is_real]
    alphas = _numbers(scheduler.alphas_cumprod) if scale != "flow" else np.empty(0)
    final_alpha = float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    if scale == "training":
        squares = np.append(alphas[timesteps.astype(int)], final_alpha)
        signal, noise = np.sqrt(squares), np.sqrt(1 - squares)
    else:
        sigmas = _numbers(scheduler.sigmas)[np.append(is_real, True)]
        signal, noise = {
            "exploding": (np.ones_like(sigmas), sigmas),
            "preserving": (1 / np.sqrt(sigmas**2 + 1), sigmas / np.sqrt(sigmas**2 + 1)),
            "flow": (1 - sigmas, sigmas),
        }[scale]
    return Course(
        timesteps=timesteps,
        signal=signal,
        noise=noise,
        input_scales=1 / np.sqrt(noise[:-1] ** 2 + 1) if scale == "exploding" else np.ones_like(timesteps),
        initial_noise=float(getattr(scheduler, "init_noise_sigma", 1.0)),
        prediction="flow_prediction" if scale == "flow" else str(settings["prediction_type"]),
        alphas=alphas,
        final_alpha=final_alpha,
        settings=settings,
    )


def _numbers(tensor: Any) -> Vector:
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)
