"""Pictures from sentences through a model folder, with the plain diffusers components and nothing else.

The product's engine does the same arithmetic; this is the yardstick that its tests use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from transformers import CLIPTextModel

from . import autoencoder, tokens

STEPS = 16
GUIDANCE = 3.0


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """The parts of a loaded model folder, in float32 on the CPU."""

    transformer: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler_config: dict[str, Any]


def load(folder: Path) -> Sketch:
    """Load a model folder."""
    wide = {"torch_dtype": torch.float32}
    return Sketch(
        transformer=SD3Transformer2DModel.from_pretrained(folder / "transformer", **wide).eval(),
        vae=AutoencoderTiny.from_pretrained(folder / "vae", **wide).eval(),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval(),
        tokenizer=tokens.load_tokenizer(folder),
        scheduler_config=dict(FlowMatchEulerDiscreteScheduler.load_config(folder / "scheduler")),
    )


@torch.inference_mode()
def sample(
    sketch: Sketch,
    sentences: list[str],
    seeds: list[int],
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    width: int = 128,
    height: int = 128,
    source: np.ndarray | None = None,
    strength: float = 1.0,
) -> np.ndarray:
    """Give N x height x width x 3 bytes; each picture depends on its own sentence and seed only.

    With `source`, height x width x 3 bytes, the last `strength` of the steps draw it over.
    """
    channels, factor = sketch.transformer.config.in_channels, autoencoder.FACTOR
    shape = (1, channels, height // factor, width // factor)
    latents = torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    ids = tokens.encode(sketch.tokenizer, [""] * len(sentences) + sentences)
    text = sketch.text_encoder(input_ids=ids)
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(sketch.scheduler_config)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps).tolist())
    config = sketch.vae.config
    first = int(steps - min(steps * strength, steps))
    if source is not None:
        pixels = torch.from_numpy(source).permute(2, 0, 1)[None].float() / 127.5 - 1
        clean = (sketch.vae.encode(pixels).latents - config.shift_factor) * config.scaling_factor
        latents = scheduler.scale_noise(clean, scheduler.timesteps[first : first + 1], latents)
    for time in scheduler.timesteps[first:]:
        velocity = sketch.transformer(
            hidden_states=torch.cat([latents, latents]),
            encoder_hidden_states=text.last_hidden_state,
            pooled_projections=text.pooler_output,
            timestep=time.expand(2 * len(sentences)),
        ).sample
        free, led = velocity.chunk(2)
        latents = scheduler.step(free + guidance * (led - free), time, latents).prev_sample
    return autoencoder.to_bytes(sketch.vae.decode(latents / config.scaling_factor + config.shift_factor).sample)
