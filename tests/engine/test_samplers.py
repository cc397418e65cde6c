"""Every sampler takes the path that diffusers' own scheduler takes, whatever it is batched with."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from tintype.engine.samplers import plan as plans
from tintype.engine.samplers import rows
from tintype.engine.samplers.course import SamplerUnsuitableError

SHAPE = (1, 4, 16, 16)
TOLERANCE = 1e-5
"""Of the largest value of the library's sample; it computes its coefficients in float32."""

DIFFUSION: Mapping[str, Any] = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sample": False,
    "timestep_spacing": "leading",
}
FLOW: Mapping[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
SHIFTING = {**FLOW, "shift": 1.0, "use_dynamic_shifting": True}

LIBRARY: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
}


class Network(torch.nn.Module):
    """Small, and neither linear nor blind to the timestep."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = torch.nn.Conv2d(4, 4, 3, padding=1)

    @torch.no_grad()
    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        phase = (timestep / 150).reshape(-1, 1, 1, 1)
        return torch.tanh(sample + 0.5 * self.mix(sample) + torch.sin(phase)) + 0.1 * sample


NETWORK = Network()


def generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed))


def walk(plan: plans.Plan, *, seed: int = 1, clean: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Our samples, the first one included."""
    row = rows.begin(plan, noise(seed), clean=clean, generator=generator(seed + 100))
    path = [row.latents]
    while not row.is_done:
        rows.advance([row], NETWORK(*rows.look([row])))
        path.append(row.latents)
    return path


def walk_library(
    scheduler: Any, timesteps: torch.Tensor, *, seed: int = 1, clean: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """The library's, for the timesteps that are left after `set_begin_index`."""
    if clean is None:
        sample = noise(seed) * getattr(scheduler, "init_noise_sigma", 1.0)
    elif hasattr(scheduler, "scale_noise"):
        sample = scheduler.scale_noise(clean, timesteps[:1], noise(seed))
    else:
        sample = scheduler.add_noise(clean, noise(seed), timesteps[:1])
    path, draws = [sample], generator(seed + 100)
    takes_generator = "generator" in scheduler.step.__code__.co_varnames
    for moment in timesteps:
        seen = scheduler.scale_model_input(sample, moment) if hasattr(scheduler, "scale_model_input") else sample
        answer = NETWORK(seen, moment.float().reshape(1))
        sample = scheduler.step(answer, moment, sample, **({"generator": draws} if takes_generator else {}))[0]
        path.append(sample)
    return path


def left(scheduler: Any, steps: int, strength: float, *, is_flow: bool = False) -> torch.Tensor:
    """The last timesteps, as diffusers' image-to-image pipelines take them."""
    if is_flow:
        start = int(max(steps - min(steps * strength, steps), 0))
    else:
        start = max(steps - min(int(steps * strength), steps), 0)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start * scheduler.order)
    return scheduler.timesteps[start * scheduler.order :]


def assert_same_path(ours: list[torch.Tensor], library: list[torch.Tensor]) -> None:
    assert len(ours) == len(library)
    for index, (mine, theirs) in enumerate(zip(ours, library, strict=True)):
        scale = theirs.abs().max().item()
        assert (mine - theirs).abs().max().item() <= TOLERANCE * scale, f"after evaluation {index}"


def library_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    kind, settings = LIBRARY[name]
    return getattr(diffusers, kind).from_config({**config, **settings})


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("steps", [1, 2, 4, 10, 25])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", LIBRARY)
def test_every_sample_is_the_librarys(name: str, prediction: str, steps: int, strength: float):
    config = {**DIFFUSION, "prediction_type": prediction}
    clean = noise(5) if strength < 1 else None
    if int(steps * strength) == 0:
        pytest.skip("the library has no step for this")
    scheduler = library_scheduler(name, config)
    scheduler.set_timesteps(steps)
    timesteps = left(scheduler, steps, strength)
    plan = plans.plan(name, config, steps, strength=strength)
    assert plan.timesteps == tuple(timesteps.double().tolist())
    assert_same_path(walk(plan, clean=clean), walk_library(scheduler, timesteps, clean=clean))


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("steps", [1, 4, 10, 25])
@pytest.mark.parametrize("changes", [{}, {"shift": 1.0}, {"use_karras_sigmas": True}, {"stochastic_sampling": True}])
def test_every_sample_of_a_flow_is_the_librarys(changes: Mapping[str, Any], steps: int, strength: float):
    config = {**FLOW, **changes}
    clean = noise(5) if strength < 1 else None
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(config)
    scheduler.set_timesteps(steps)
    timesteps = left(scheduler, steps, strength, is_flow=True)
    plan = plans.plan("flow_euler", config, steps, strength=strength)
    assert_same_path(walk(plan, clean=clean), walk_library(scheduler, timesteps, clean=clean))


@pytest.mark.parametrize("tokens", [256, 1024, 4096])
def test_a_flow_that_shifts_with_the_size_takes_the_librarys_path(tokens: int):
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    sigmas = np.linspace(1.0, 1 / 10, 10).tolist()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(SHIFTING)
    scheduler.set_timesteps(sigmas=sigmas, mu=calculate_shift(tokens))
    plan = plans.plan("euler", SHIFTING, 10, tokens=tokens, sigmas=sigmas)
    assert_same_path(walk(plan), walk_library(scheduler, scheduler.timesteps))


def test_planning_imports_no_torch():
    code = "import sys, tintype.engine.samplers.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_name_that_does_not_suit_the_model_is_refused_with_those_that_do():
    with pytest.raises(SamplerUnsuitableError, match="choose one of euler, flow_euler"):
        plans.plan("euler_karras", FLOW, 10)
