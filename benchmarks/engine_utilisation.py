"""How much of what the device can compute the figures of `benchmarks.engine` use."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.engine_traces import Asked
from tintype.engine.devices import Device

HOPPER_FLOPS_PER_S = 790e12
"""Dense bf16 that an H100 or H200 sustains; measured, not the data sheet's."""
SIDE = 1024
"""Rows of the matrices that show what a device can do."""


def peak(device: Device) -> float:
    """What large matrix products reach: a second on a GPU, a second of processor time on a CPU.

    So neighbours on a shared machine change neither the peak nor the share of it that is used.
    """
    if device.name.startswith("cuda") and torch.cuda.get_device_capability(device.name)[0] == 9:
        return HOPPER_FLOPS_PER_S
    clock = time.process_time if device.is_host else time.perf_counter
    left, best = torch.randn(SIDE, SIDE, device=device.name, dtype=device.dtype), 0.0
    for _ in range(8):
        began = clock()
        for _ in range(4):
            product = left @ left
        float(product[0, 0])  # waits for a GPU
        best = max(best, 4 * 2 * SIDE**3 / (clock() - began))
    return best


def add(figure: dict[str, Any], asked: Asked, device: Device, peak_flops: float) -> dict[str, Any]:
    """The figure with the share of the peak that the denoiser's operations take, where pictures are all alike."""
    if not figure["is_uniform"]:
        return figure
    request = asked.request
    flops = 2 * request.steps * denoiser_flops(Path(request.model.folder), request.width)
    used = {
        name: flops / peak_flops / (seen["cpu_s_per_image"] if device.is_host else 1 / seen["images_per_s"])
        for name, seen in figure["contestants"].items()
        if seen["cpu_s_per_image"]
    }
    return {**figure, "flops_per_image": flops, "utilisation": used}


def denoiser_flops(folder: Path, side: int) -> float:
    """Floating point operations of one line of one evaluation, a multiplication and an addition counted as two."""
    with torch.device("meta"):
        network: Any = diffusers.UNet2DConditionModel.from_config(
            diffusers.UNet2DConditionModel.load_config(folder / "unet")
        )
        told = None
        if network.config.addition_embed_type == "text_time":
            pooled = network.config.projection_class_embeddings_input_dim - 6 * network.config.addition_time_embed_dim
            told = {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, 6)}
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(
                torch.empty(1, 4, side // 8, side // 8),
                torch.empty(1),
                torch.empty(1, 77, network.config.cross_attention_dim),
                added_cond_kwargs=told,
            )
    return float(counter.get_total_flops())
