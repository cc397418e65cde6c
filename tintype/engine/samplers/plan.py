"""What a sampler does over one run, computed once, as numbers. Imports no torch; `rows` carries it out."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from tintype.engine.samplers import course, rules
from tintype.engine.samplers.course import Course, Scale

Weights = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sampler does over one run, as numbers; `k` counts the evaluations of the network.

    Every sample is `signal[k] * clean + noise[k] * eps`: the levels before each evaluation and after the last one.
    `updates[k]` has one row of weights over `course.INPUTS` for the new sample and one for each remembered tensor.
    `clean[k]` are the weights of sample and prediction in the clean picture that the prediction stands for.
    """

    timesteps: Weights
    """As the network wants them, one for each evaluation."""
    input_scales: Weights
    """The latents are multiplied by this before the network sees them."""
    initial_noise: float
    """The standard deviation of the latents when a run starts from noise alone."""
    signal: Weights
    noise: Weights
    fresh_noise: Weights
    """The standard deviation of the noise that is drawn and added; 0 where none is drawn."""
    updates: tuple[tuple[Weights, ...], ...]
    clean: tuple[tuple[float, float], ...]
    steps_done: tuple[int, ...]
    """Visible steps that are complete after each evaluation."""

    @property
    def evaluations(self) -> int:
        """How often the network is asked."""
        return len(self.timesteps)

    @property
    def steps(self) -> int:
        """Steps as people count them; some samplers ask the network twice in one."""
        return self.steps_done[-1]

    @property
    def remembered(self) -> int:
        """How many tensors are kept from one evaluation to the next."""
        return len(self.updates[0]) - 1


ONCE = Plan(
    timesteps=(0.0,),
    input_scales=(1.0,),
    initial_noise=0.0,
    signal=(0.0, 1.0),
    noise=(0.0, 0.0),
    fresh_noise=(0.0,),
    updates=((tuple(course.PREDICTION.tolist()),),),
    clean=((0.0, 1.0),),
    steps_done=(1,),
)
"""Of a network that is asked once and whose answer is the picture."""


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """One name's rule, the diffusers scheduler whose noise levels it runs over, and what it sets there."""

    rule: rules.Rule
    scheduler: str
    scale: Scale
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    evaluations_per_step: int = 1
    arrange: Callable[[Course], Course] | None = None
    """Puts in the second evaluation of each step where the scheduler has none."""


MULTISTEP = {"solver_order": 2, "solver_type": "midpoint", "algorithm_type": "dpmsolver++", "use_lu_lambdas": False}
UNIPC = {"solver_order": 2, "solver_type": "bh2", "predict_x0": True}
HALVED = {"final_sigmas_type": "zero", "interpolation_type": "linear"}

_PLAIN = {
    "euler": Sampler(rule=rules.euler, scheduler="EulerDiscreteScheduler", scale="exploding"),
    "euler_a": Sampler(rule=rules.euler_ancestral, scheduler="EulerAncestralDiscreteScheduler", scale="exploding"),
    "heun": Sampler(rule=rules.heun, scheduler="HeunDiscreteScheduler", scale="exploding", evaluations_per_step=2),
    "dpmpp_sde": Sampler(
        rule=rules.dpmpp_sde,
        scheduler="EulerDiscreteScheduler",
        scale="exploding",
        settings=HALVED,
        evaluations_per_step=2,
        arrange=course.halve,
    ),
    "dpmpp_2m": Sampler(
        rule=rules.dpmpp_2m, scheduler="DPMSolverMultistepScheduler", scale="preserving", settings=MULTISTEP
    ),
    "dpmpp_2m_sde": Sampler(
        rule=rules.dpmpp_2m_sde, scheduler="DPMSolverMultistepScheduler", scale="preserving", settings=MULTISTEP
    ),
    "unipc": Sampler(rule=rules.unipc, scheduler="UniPCMultistepScheduler", scale="preserving", settings=UNIPC),
    "ddim": Sampler(rule=rules.ddim, scheduler="DDIMScheduler", scale="training"),
    "lcm": Sampler(rule=rules.lcm, scheduler="LCMScheduler", scale="training"),
}
_SPACED = ("euler", "heun", "dpmpp_sde", "dpmpp_2m", "dpmpp_2m_sde", "unipc")
_KARRAS = {"use_karras_sigmas": True, "use_exponential_sigmas": False, "use_beta_sigmas": False}

SAMPLERS: Mapping[str, Sampler] = _PLAIN | {
    f"{name}_karras": replace(_PLAIN[name], settings={**_PLAIN[name].settings, **_KARRAS}) for name in _SPACED
}
"""Every name for models that predict noise, picture or velocity; `_karras` spaces by arXiv 2206.00364, equation 5."""

_FLOW_EULER = Sampler(rule=rules.flow_euler, scheduler="FlowMatchEulerDiscreteScheduler", scale="flow")
_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "use_karras_sigmas": False}

FLOW_SAMPLERS: Mapping[str, Sampler] = {
    "flow_euler": _FLOW_EULER,
    "euler": _FLOW_EULER,
    "heun": replace(_FLOW_EULER, rule=rules.heun, evaluations_per_step=2, arrange=course.double),
} | {
    name: replace(_PLAIN[name], scale="flow", settings={**_PLAIN[name].settings, **_FLOW})
    for name in ("dpmpp_2m", "dpmpp_2m_sde", "unipc")
}
"""Every name for models that predict a flow from picture to noise."""


def plan(
    sampler: str,
    config: Mapping[str, Any],
    steps: int,
    *,
    strength: float = 1.0,
    part: tuple[float, float] = (0.0, 1.0),
    tokens: int | None = None,
    mu: float | None = None,
    sigmas: Sequence[float] | None = None,
) -> Plan:
    """The plan for a model whose `scheduler_config.json` is `config`; asked again for the same, the same object.

    `clip_sample` is not heeded: it is for pixels, and diffusers' own pipelines over latents turn it off.

    Args:
        strength: how much of the run is made, from its end: below 1 for what starts from a picture. At least one step.
        part: the stretch of the training timesteps that is run, as fractions of the way from noise to picture; for
            two models that share a run.
        tokens: length of the latents as the transformer sees them, for models whose schedule shifts with the size.
        mu: that shift itself.
        sigmas: noise levels instead of the scheduler's own, before any shift.

    Raises:
        SamplerUnsuitableError: no sampler of that name for this model, or it cannot run in this way.
    """
    if tokens is not None and mu is None and config.get("use_dynamic_shifting"):
        mu = shift(config, tokens)
    frozen = None if sigmas is None else tuple(sigmas)
    return _plan(sampler, json.dumps(dict(config), sort_keys=True), steps, strength, part, mu, frozen)


def shift(config: Mapping[str, Any], tokens: int) -> float:
    """The shift mu of a schedule that depends on the size: linear in `tokens`, as Flux was trained with."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return least + (most - least) * (tokens - low) / (high - low)


def is_flow(config: Mapping[str, Any]) -> bool:
    """Whether a model with this `scheduler_config.json` predicts a flow from picture to noise."""
    return (
        str(config.get("_class_name", "")).startswith("FlowMatch")
        or config.get("prediction_type") == "flow_prediction"
        or bool(config.get("use_flow_sigmas"))
    )


def offered(config: Mapping[str, Any]) -> Mapping[str, Sampler]:
    """The samplers that suit a model with this `scheduler_config.json`."""
    if is_flow(config):
        return FLOW_SAMPLERS
    if config.get("timestep_type") == "continuous":  # only this scheduler gives the network logarithms of noise levels
        return {name: sampler for name, sampler in SAMPLERS.items() if sampler.rule is rules.euler}
    return SAMPLERS


@lru_cache(maxsize=256)
def _plan(
    name: str,
    config_text: str,
    steps: int,
    strength: float,
    part: tuple[float, float],
    mu: float | None,
    sigmas: tuple[float, ...] | None,
) -> Plan:
    config: dict[str, Any] = json.loads(config_text)
    suitable = offered(config)
    if name not in suitable:
        raise course.SamplerUnsuitableError(
            f"sampler {name!r} does not suit this model; choose one of {', '.join(sorted(suitable))}"
        )
    sampler = suitable[name]
    if sampler.scale == "flow":
        shifted = config.get("shift", config.get("flow_shift", 1.0))
        config |= {"shift": shifted, "flow_shift": shifted}
    whole = course.read(sampler.scheduler, sampler.scale, {**config, **sampler.settings}, steps, mu=mu, sigmas=sigmas)
    if sampler.arrange is not None:
        whole = sampler.arrange(whole)
    first, end = _stretch(whole, sampler, steps, strength, part)
    return _tabulate(whole, sampler, first, end)


def _stretch(
    whole: Course, sampler: Sampler, steps: int, strength: float, part: tuple[float, float]
) -> tuple[int, int]:
    """First step and the one after the last: as in diffusers' image-to-image pipelines and SDXL's shared runs."""
    if sampler.scale == "flow":
        first = int(steps - min(steps * strength, steps))
    else:
        first = steps - min(int(steps * strength), steps)
    first = min(first, steps - 1)
    total = whole.settings["num_train_timesteps"]
    moments = whole.timesteps[:: sampler.evaluations_per_step]
    start_at, stop_at = (round(total - fraction * total) for fraction in part)
    if part[0] > 0:
        first = max(first, int(np.sum(moments >= start_at)))
    end = int(np.sum(moments >= stop_at)) if part[1] < 1 else steps
    if not first < end:
        raise course.SamplerUnsuitableError(
            f"no step of {steps} lies between {part[0]:.0%} and {part[1]:.0%} of the run; ask for more steps"
        )
    return first, end


def _tabulate(whole: Course, sampler: Sampler, first: int, end: int) -> Plan:
    each = sampler.evaluations_per_step
    start, stop = first * each, min(end * each, len(whole))
    moves = [np.stack(move) for move in sampler.rule(whole, start)][: stop - start]
    fresh = course.INPUTS.index("fresh")
    return Plan(
        timesteps=tuple(whole.timesteps[start:stop].tolist()),
        input_scales=tuple(whole.input_scales[start:stop].tolist()),
        initial_noise=whole.initial_noise,
        signal=tuple(whole.signal[start : stop + 1].tolist()),
        noise=tuple(whole.noise[start : stop + 1].tolist()),
        fresh_noise=tuple(float(move[0, fresh]) for move in moves),
        updates=tuple(tuple(tuple(row) for row in move.tolist()) for move in moves),
        clean=tuple((float(weights[0]), float(weights[1])) for weights in map(whole.clean, range(start, stop))),
        steps_done=(*((k + 1) // each - first for k in range(start, stop - 1)), end - first),
    )
