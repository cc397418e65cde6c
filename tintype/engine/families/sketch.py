"""The family of the built-in model: a small flow-matching transformer over a small autoencoder.

One evaluation predicts the velocity v = noise - picture; the sampler is Euler over sigmas from 1 to 0, guided by
v = v_without_words + g (v_with_words - v_without_words)  (classifier-free guidance, Ho & Salimans 2022).
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tintype.engine import devices, loading
from tintype.engine.devices import Device

CACHED_PROMPTS = 256
NATIVE_SIDE = 128


@dataclass(frozen=True, kw_only=True)
class Words:
    """A prompt as the transformer reads it: `tokens` [1, length, width] and `pooled` [1, width]."""

    tokens: torch.Tensor
    pooled: torch.Tensor


@dataclass
class Drawing:
    """A picture in the making: `latents` [1, channels, height/8, width/8] and its own sampler state."""

    latents: torch.Tensor
    sampler: Any
    words: Words
    without_words: Words
    guidance_scale: float
    step: int = 0


class Sketch:
    """A loaded `sketch` model."""

    def __init__(self, folder: Path, device: Device, *, threads: int) -> None:
        parts = loading.components(folder, dtype=device.dtype, device=device.name, precise=frozenset({"vae"}))
        self._transformer = parts["transformer"]
        self._vae = parts["vae"]
        self._text_encoder = parts["text_encoder"]
        self._tokenizer = parts["tokenizer"]
        self._scheduler = parts["scheduler"]
        self._device = device
        self._prompts: OrderedDict[str, Words] = OrderedDict()
        self._factor = 2 ** (len(self._vae.config.encoder_block_out_channels) - 1)
        if device.name == "cpu":
            devices.choose_threads(threads, self._try_step)

    @torch.inference_mode()
    def begin(
        self,
        *,
        prompt: str,
        negative_prompt: str,
        width: int,
        height: int,
        seed: int,
        steps: int,
        guidance_scale: float,
    ) -> Drawing:
        """Noise from `seed` alone and a sampler of its own, so that no other picture can change this one."""
        generator = torch.Generator("cpu").manual_seed(seed)
        shape = (1, self._transformer.config.in_channels, height // self._factor, width // self._factor)
        sampler = type(self._scheduler).from_config(self._scheduler.config)
        sampler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps).tolist(), device=self._device.name)
        return Drawing(
            latents=torch.randn(shape, generator=generator).to(self._device.name),
            sampler=sampler,
            words=self._read(prompt),
            without_words=self._read(negative_prompt),
            guidance_scale=guidance_scale,
        )

    @torch.inference_mode()
    def advance(self, drawing: Drawing) -> None:
        """One step of the sampler: one evaluation with and one without the words (without guidance, only one)."""
        moment = drawing.sampler.timesteps[drawing.step]
        guided = drawing.guidance_scale != 1.0
        readings = (drawing.without_words, drawing.words) if guided else (drawing.words,)
        rows = len(readings)
        velocity = self._transformer(
            hidden_states=drawing.latents.expand(rows, -1, -1, -1).to(self._device.dtype),
            timestep=moment.expand(rows).to(self._device.dtype),
            encoder_hidden_states=torch.cat([words.tokens for words in readings]),
            pooled_projections=torch.cat([words.pooled for words in readings]),
            return_dict=False,
        )[0].float()
        if guided:
            plain, worded = velocity.chunk(2)
            velocity = plain + drawing.guidance_scale * (worded - plain)
        drawing.latents = drawing.sampler.step(velocity, moment, drawing.latents, return_dict=False)[0]
        drawing.step += 1

    @torch.inference_mode()
    def finish(self, drawing: Drawing) -> NDArray[np.uint8]:
        """The picture: uint8 RGB [height, width, 3]."""
        config = self._vae.config
        latents = drawing.latents / config.scaling_factor + config.shift_factor
        pixels = self._vae.decode(latents, return_dict=False)[0][0]
        scaled = ((pixels.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return scaled.cpu().contiguous().numpy()

    def _read(self, prompt: str) -> Words:
        if (known := self._prompts.get(prompt)) is not None:
            self._prompts.move_to_end(prompt)
            return known
        ids = self._tokenizer(
            [prompt],
            padding="max_length",
            max_length=self._tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        read = self._text_encoder(input_ids=ids.to(self._device.name))
        words = Words(tokens=read.last_hidden_state, pooled=read.pooler_output)
        self._prompts[prompt] = words
        if len(self._prompts) > CACHED_PROMPTS:
            self._prompts.popitem(last=False)
        return words

    def _try_step(self) -> None:
        side = NATIVE_SIDE
        trial = self.begin(prompt="", negative_prompt="", width=side, height=side, seed=0, steps=1, guidance_scale=2.0)
        self.advance(trial)
