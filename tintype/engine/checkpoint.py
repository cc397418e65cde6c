"""A model around a UNet as its files have it, whatever way they lie."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tintype.engine.devices import Device


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Configurations and tokenizers, and ways to the weights.

    `settings` is what the model as a whole wants, then follow the configurations of denoiser, autoencoder and sampler.
    `count_weights` gives how many numbers the weights are; `load` the networks on a device, by name.
    """

    settings: dict[str, Any]
    unet: dict[str, Any]
    vae: dict[str, Any]
    scheduler: dict[str, Any]
    tokenizers: dict[str, Any]
    count_weights: Callable[[], int]
    load: Callable[[Device], dict[str, Any]]


def precise(vae: dict[str, Any], device: Device) -> frozenset[str]:
    """The networks to keep in float32 on a device: an autoencoder that says it overflows in float16.

    bfloat16 has the range it needs.
    """
    overflows = device.dtype == torch.float16 and vae.get("force_upcast", True)
    return frozenset({"vae"}) if overflows else frozenset()
