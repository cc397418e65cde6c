"""Every sampler takes the path that diffusers' own scheduler takes."""

import importlib
import subprocess
import sys
import types
from collections.abc import Mapping
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from tests.denoising import DIFFUSION, FLOW, Network, generator, noise
from tintype.engine.samplers import plan as plans
from tintype.engine.samplers import rows
from tintype.engine.samplers.course import SamplerUnsuitableError

TOLERANCE = 1e-5
"""Of the largest value of the library's sample; it computes its coefficients in float32."""

SHIFTING = {**FLOW, "shift": 1.0, "use_dynamic_shifting": True}
KARRAS = {"use_karras_sigmas": True}
STOCHASTIC = {"algorithm_type": "sde-dpmsolver++"}
LIBRARY: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_karras": ("EulerDiscreteScheduler", KARRAS),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "heun_karras": ("HeunDiscreteScheduler", KARRAS),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", KARRAS),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", STOCHASTIC),
    "dpmpp_2m_sde_karras": ("DPMSolverMultistepScheduler", {**STOCHASTIC, **KARRAS}),
    "dpmpp_sde": ("DPMSolverSDEScheduler", {}),
    "dpmpp_sde_karras": ("DPMSolverSDEScheduler", KARRAS),
    "unipc": ("UniPCMultistepScheduler", {}),
    "unipc_karras": ("UniPCMultistepScheduler", KARRAS),
    "ddim": ("DDIMScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
NETWORK = Network()


class Brownian:
    """Stands in for the Brownian tree of torchsde: the same motion, drawn as ours is."""

    def __init__(self, draws: torch.Generator, like: torch.Tensor, sigmas: torch.Tensor) -> None:
        self._draws, self._like = draws, like
        self._levels = sorted({float(sigma) for sigma in sigmas}, reverse=True)
        self._first: tuple[float, float, torch.Tensor] | None = None

    def __call__(self, start: torch.Tensor, stop: torch.Tensor) -> torch.Tensor:
        fresh = torch.randn(self._like.shape, generator=self._draws)
        if self._first is None:
            self._first = (float(start), float(stop), fresh)
            return fresh
        begun, middle, first = self._first
        self._first = None
        motion = first * (begun - middle) ** 0.5 + fresh * (middle - float(stop)) ** 0.5
        return motion / (begun - float(stop)) ** 0.5


@pytest.fixture(autouse=True)
def torchsde(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's scheduler asks for it at import, and uses it only through what `Brownian` stands in for."""
    monkeypatch.setitem(sys.modules, "torchsde", types.ModuleType("torchsde"))


def library_scheduler(kind: str, config: Mapping[str, Any]) -> Any:
    if kind == "DPMSolverSDEScheduler":
        module = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde")
        return module.DPMSolverSDEScheduler.from_config(dict(config))
    return getattr(diffusers, kind).from_config(dict(config))


def walk(plan: plans.Plan, *, clean: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Our samples, the first one included."""
    row = rows.begin(plan, noise(1), clean=clean, generator=generator(2))
    path = [row.latents]
    while not row.is_done:
        rows.advance([row], NETWORK(*rows.look([row])))
        path.append(row.latents)
    return path


def walk_library(scheduler: Any, timesteps: torch.Tensor, *, clean: torch.Tensor | None = None) -> list[torch.Tensor]:
    """The library's, for the timesteps that are left after `set_begin_index`."""
    if clean is None:
        sample = noise(1) * getattr(scheduler, "init_noise_sigma", 1.0)
    elif hasattr(scheduler, "scale_noise"):
        sample = scheduler.scale_noise(clean, timesteps[:1], noise(1))
    else:
        sample = scheduler.add_noise(clean, noise(1), timesteps[:1])
    path, draws = [sample], generator(2)
    if hasattr(scheduler, "noise_sampler"):
        scheduler.noise_sampler = Brownian(draws, sample, scheduler.sigmas)
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


def assert_same_path(ours: list[torch.Tensor], library: list[torch.Tensor], *, tolerance: float = TOLERANCE) -> None:
    assert len(ours) == len(library)
    for index, (mine, theirs) in enumerate(zip(ours, library, strict=True)):
        scale = theirs.abs().max().item()
        assert (mine - theirs).abs().max().item() <= tolerance * scale, f"after evaluation {index}"


def assert_same_run(
    name: str, config: Mapping[str, Any], steps: int, strength: float = 1.0, *, tolerance: float = TOLERANCE
) -> None:
    kind, settings = LIBRARY[name]
    scheduler = library_scheduler(kind, {**config, **settings})
    scheduler.set_timesteps(steps)
    timesteps = left(scheduler, steps, strength)
    plan = plans.plan(name, config, steps, strength=strength)
    clean = noise(5) if strength < 1 else None
    assert np.allclose(plan.timesteps, timesteps.double().numpy(), rtol=1e-6, atol=1e-3)
    assert plan.evaluations == len(timesteps)
    assert_same_path(walk(plan, clean=clean), walk_library(scheduler, timesteps, clean=clean), tolerance=tolerance)


@pytest.mark.parametrize(
    ("steps", "strength"), [(1, 1.0), (2, 1.0), (4, 1.0), (4, 0.6), (10, 1.0), (25, 1.0), (25, 0.6)]
)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", LIBRARY)
def test_every_sample_is_the_librarys(name: str, prediction: str, steps: int, strength: float):
    assert_same_run(name, {**DIFFUSION, "prediction_type": prediction}, steps, strength)


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("name", LIBRARY)
def test_the_timesteps_are_spaced_as_the_model_asks(name: str, spacing: str):
    assert_same_run(name, {**DIFFUSION, "timestep_spacing": spacing}, 12)


@pytest.mark.parametrize("name", LIBRARY)
def test_a_run_has_the_steps_it_was_asked_for_where_the_librarys_has_one_before_the_first(name: str):
    steps = 61 if name != "lcm" else 31
    plan = plans.plan(name, {**DIFFUSION, "timestep_spacing": "trailing"}, steps)
    assert plan.steps == steps
    assert min(plan.timesteps) >= 0
    assert plan.noise[-1] < 0.03


@pytest.mark.parametrize("name", ["euler", "euler_a", "dpmpp_2m", "unipc", "ddim"])
def test_a_model_trained_from_no_signal_at_all_starts_there(name: str):
    config = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    # Where the first sample is some 6000 large and the next one not, the library loses digits that ours keeps.
    tolerance = 1e-4 if name.startswith("euler") else TOLERANCE
    assert_same_run(name, {**DIFFUSION, **config}, 8, tolerance=tolerance)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dpmpp_2m", {"final_sigmas_type": "sigma_min"}),
        ("dpmpp_2m", {"final_sigmas_type": "sigma_min", "lower_order_final": False}),
        ("dpmpp_2m", {"euler_at_final": True, "final_sigmas_type": "sigma_min", "lower_order_final": False}),
        ("dpmpp_2m_sde", {"final_sigmas_type": "sigma_min"}),
        ("unipc", {"final_sigmas_type": "sigma_min", "lower_order_final": False}),
        ("unipc", {"final_sigmas_type": "sigma_min"}),
        ("unipc", {"disable_corrector": [0, 1, 4]}),
        ("unipc", {"prediction_type": "sample"}),
        ("ddim", {"set_alpha_to_one": True}),
        ("ddim", {"prediction_type": "sample"}),
        ("euler", {"final_sigmas_type": "sigma_min"}),
        ("euler", {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}),
        ("euler", {"timestep_type": "continuous", "prediction_type": "v_prediction", "sigma_max": 30.0, **KARRAS}),
        ("lcm", {"original_inference_steps": 30}),
        ("lcm", {"timestep_scaling": 0.01}),
    ],
)
def test_what_else_a_model_sets_is_heeded(name: str, settings: Mapping[str, Any]):
    assert_same_run(name, {**DIFFUSION, **settings}, 8)
    assert_same_run(name, {**DIFFUSION, **settings}, 14)
    assert_same_run(name, {**DIFFUSION, **settings}, 20)


@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (4, 1.0), (4, 0.6), (10, 0.6), (25, 1.0), (25, 0.6)])
@pytest.mark.parametrize("changes", [{}, {"shift": 1.0}, KARRAS, {"stochastic_sampling": True}])
def test_every_sample_of_a_flow_is_the_librarys(changes: Mapping[str, Any], steps: int, strength: float):
    config = {**FLOW, **changes}
    scheduler = library_scheduler("FlowMatchEulerDiscreteScheduler", config)
    scheduler.set_timesteps(steps)
    timesteps = left(scheduler, steps, strength, is_flow=True)
    plan = plans.plan("flow_euler", config, steps, strength=strength)
    clean = noise(5) if strength < 1 else None
    assert_same_path(walk(plan, clean=clean), walk_library(scheduler, timesteps, clean=clean))


@pytest.mark.parametrize("tokens", [256, 1024, 4096])
def test_a_flow_that_shifts_with_the_size_takes_the_librarys_path(tokens: int):
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    sigmas = np.linspace(1.0, 1 / 10, 10).tolist()
    scheduler = library_scheduler("FlowMatchEulerDiscreteScheduler", SHIFTING)
    scheduler.set_timesteps(sigmas=sigmas, mu=calculate_shift(tokens))
    plan = plans.plan("euler", SHIFTING, 10, tokens=tokens, sigmas=sigmas)
    assert_same_path(walk(plan), walk_library(scheduler, scheduler.timesteps))


@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (4, 1.0), (10, 1.0), (10, 0.6), (20, 1.0)])
@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("heun", "FlowMatchHeunDiscreteScheduler", {}),
        ("dpmpp_2m", "DPMSolverMultistepScheduler", {}),
        ("dpmpp_2m_sde", "DPMSolverMultistepScheduler", STOCHASTIC),
        ("unipc", "UniPCMultistepScheduler", {}),
    ],
)
def test_solvers_of_higher_order_follow_flows_too(
    name: str, kind: str, settings: Mapping[str, Any], steps: int, strength: float
):
    flow = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}
    scheduler = library_scheduler(kind, {**FLOW, **flow, **settings})
    scheduler.set_timesteps(steps)
    timesteps = left(scheduler, steps, strength, is_flow=True)
    plan = plans.plan(name, FLOW, steps, strength=strength)
    clean = noise(5) if strength < 1 else None
    assert_same_path(walk(plan, clean=clean), walk_library(scheduler, timesteps, clean=clean))


@pytest.mark.parametrize("name", ["euler", "euler_a", "ddim", "heun", "dpmpp_sde"])
def test_two_plans_that_share_a_run_meet_at_the_same_level(name: str):
    whole = plans.plan(name, DIFFUSION, 20)
    early = plans.plan(name, DIFFUSION, 20, part=(0.0, 0.7))
    late = plans.plan(name, DIFFUSION, 20, part=(0.7, 1.0))
    assert early.timesteps + late.timesteps == whole.timesteps
    assert early.steps + late.steps == whole.steps == 20
    assert early.noise[-1] == late.noise[0]
    assert early.noise[0] == whole.noise[0]
    assert late.timesteps[0] < 300 <= early.timesteps[-2]


@pytest.mark.parametrize("name", ["heun", "dpmpp_sde", "euler"])
def test_visible_steps_are_counted_not_evaluations(name: str):
    plan = plans.plan(name, DIFFUSION, 10, strength=0.5)
    assert plan.steps == 5
    assert plan.steps_done[-1] == 5
    assert plan.evaluations == (5 if name == "euler" else 9)
    assert list(plan.steps_done) == sorted(plan.steps_done)


def test_the_least_strength_still_makes_one_step():
    assert plans.plan("euler", DIFFUSION, 4, strength=0.1).evaluations == 1
    assert plans.plan("euler", FLOW, 4, strength=0.1).evaluations == 1


def test_planning_imports_no_torch():
    code = "import sys, tintype.engine.samplers.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_latents_are_never_clipped():
    assert plans.plan("ddim", {**DIFFUSION, "clip_sample": True}, 8) == plans.plan("ddim", DIFFUSION, 8)


def test_the_same_plan_is_made_once():
    assert plans.plan("unipc", DIFFUSION, 25) is plans.plan("unipc", dict(DIFFUSION), 25)


@pytest.mark.parametrize(
    ("name", "config", "steps", "message"),
    [
        ("euler_a", FLOW, 10, "choose one of dpmpp_2m, dpmpp_2m_sde, euler, flow_euler, heun, unipc"),
        ("flow_euler", DIFFUSION, 10, "choose one of ddim"),
        ("lcm", DIFFUSION, 60, "LCMScheduler cannot make 60 steps"),
        ("heun", {**DIFFUSION, "timestep_type": "continuous"}, 10, "choose one of euler, euler_karras"),
        ("euler", SHIFTING, 10, "mu"),
        ("ddim", {**DIFFUSION, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, 10, "signal of 0"),
        ("dpmpp_2m", {**DIFFUSION, "thresholding": True}, 10, "thresholding"),
        ("euler", {**DIFFUSION, "prediction_type": "score"}, 10, "'score'"),
    ],
)
def test_what_cannot_be_run_is_refused_with_a_reason(name: str, config: Mapping[str, Any], steps: int, message: str):
    with pytest.raises(SamplerUnsuitableError, match=message) as caught:
        plans.plan(name, config, steps)
    assert caught.value.code == "sampler_unsuitable"
