"""What samplers are tried with: a small network, schedules as models ship them, and noise from a seed."""

from collections.abc import Mapping
from typing import Any

import torch

SHAPE = (1, 4, 16, 16)

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


def generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed))
