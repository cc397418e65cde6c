"""Latents of drawn pictures, in shards of one size each, with the meanings they were drawn from.

A shard is a file {"size": (width, height), "meanings": [...], "latents": N x channels x H/8 x W/8 halves}.
Only meanings are kept: the trainer words each one anew every time it is shown.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import autoencoder, drawing, hardware, meaning

NATIVE = (128, 128)
OTHER_SIZES = (
    (64, 64), (96, 96), (160, 160), (192, 192), (256, 256),
    (128, 96), (192, 128), (160, 112), (256, 128), (128, 64), (256, 64), (256, 192),
    (96, 128), (128, 192), (112, 160), (128, 256), (64, 128), (64, 256), (192, 256),
)  # fmt: skip
PER_SHARD = 2048
OTHER_SHARE = 0.3


def folder_of(run_folder: Path) -> Path:
    """Give the folder in which a run keeps its shards."""
    return run_folder / "latents"


@torch.no_grad()
def draw_shards(run: hardware.Run, count: int) -> None:
    """Draw and encode shards until there are `count`; those already there are kept."""
    folder = folder_of(run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = autoencoder.load(run.folder).to(run.device, memory_format=torch.channels_last)
    for index in range(count):
        path = folder / f"{index:04d}.pt"
        if not path.exists():
            hardware.save(draw_shard(model, index, run.device), path)
            print(f"shard {index} at {run.spent_minutes():.1f} min", flush=True)


def draw_shard(model: Any, index: int, device: torch.device) -> dict[str, Any]:
    """Give the shard of one index; the first eight are of native size, later ones mixed."""
    rng = random.Random(f"shard {index}")
    other = index >= 8 and rng.random() < OTHER_SHARE
    size = OTHER_SIZES[index % len(OTHER_SIZES)] if other else NATIVE
    share = 128 * 128 / (size[0] * size[1])
    count = max(512, min(PER_SHARD, int(PER_SHARD * share))) if other else PER_SHARD
    meanings = [meaning.draw_lots(rng) for _ in range(count)]
    parts: list[torch.Tensor] = []
    batch = 512 if device.type == "cuda" else 16
    for start in range(0, count, batch):
        pictures = [
            drawing.draw(m, width=size[0], height=size[1], seed=rng.getrandbits(32))
            for m in meanings[start : start + batch]
        ]
        tensor = autoencoder.to_tensor(np.stack(pictures)).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(model.encode(tensor).latents.half().cpu())
    return {"size": size, "meanings": meanings, "latents": torch.cat(parts)}
