"""The family of the built-in model: a small flow-matching transformer over a small autoencoder.

One evaluation predicts the velocity v = noise - picture; the sampler is Euler over sigmas from 1 to 0, guided by
v = v_without_words + g (v_with_words - v_without_words)  (classifier-free guidance, Ho & Salimans 2022).
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tintype.engine import latents, loading, pictures, streaming
from tintype.engine.devices import Device
from tintype.engine.family import Blend, Drawing, Line, Words
from tintype.engine.samplers import plan as plans
from tintype.engine.samplers import rows
from tintype.engine.samplers.plan import Plan
from tintype.engine.scheduling.values import Phase
from tintype.providers.contract import GenerationRequest, ModelFiles

CACHED_PROMPTS = 256
FACTOR = 8
"""Pixels of a side for each latent."""
NUMBERS_PER_TOKEN = 192 * 4 * 6
"""What a token keeps in flight, at most: its width, four times that in the feed-forward part, in six blocks."""


def outline(files: ModelFiles) -> "Outline":
    """The outline of the model in a folder."""
    return Outline(files)


class Outline:
    """What is known of a `sketch` without its weights.

    Pictures share a step when they have the same size; the length of the text is always the same. Its step, seed,
    guidance and mask may differ.
    """

    def __init__(self, files: ModelFiles) -> None:
        self._files = files
        self._folder = Path(files.folder)
        self.native_side = 128

    @cached_property
    def weight_bytes(self) -> int:
        """What its weights take, kept in float32 on a CPU."""
        return 2 * sum(path.stat().st_size for path in self._folder.glob("*/*.safetensors"))

    @cached_property
    def block_bytes(self) -> int:
        """As it is streamed, in float32."""
        return streaming.block_bytes(streaming.sizes(self._folder, bytes_per_number=4))

    @cached_property
    def scheduler(self) -> dict[str, Any]:
        """The configuration of its sampler."""
        return loading.config(self._folder / "scheduler" / "scheduler_config.json")

    def plan(self, request: GenerationRequest) -> Plan:
        """What the sampler does for a picture of this request."""
        return plans.plan(
            request.sampler,
            self.scheduler,
            request.steps,
            sigmas=tuple(np.linspace(1.0, 1.0 / request.steps, request.steps)),
            strength=request.strength if request.source is not None else 1.0,
        )

    def phases(self, request: GenerationRequest) -> tuple[Phase, ...]:
        """One stretch: as many evaluations as the sampler makes, two lines each where words guide."""
        tokens = (request.width // 16) * (request.height // 16)
        return (
            Phase(
                model=self._files.id,
                key=(request.width, request.height),
                shape=f"{request.width}x{request.height}",
                evaluations=self.plan(request).evaluations,
                lines=1 if request.guidance_scale == 1.0 else 2,
                activation_bytes=4 * NUMBERS_PER_TOKEN * tokens,
            ),
        )

    def load(self, device: Device) -> "Sketch":
        """The model with its weights."""
        return Sketch(self, self._folder, device)


class Sketch:
    """A loaded `sketch` model."""

    def __init__(self, outline: Outline, folder: Path, device: Device) -> None:
        parts = loading.components(folder, dtype=device.dtype, device=device.weights_name, precise=frozenset({"vae"}))
        self.parts = parts
        self._outline = outline
        self._transformer = parts["transformer"]
        self._vae = parts["vae"]
        self._text_encoder = parts["text_encoder"]
        self._tokenizer = parts["tokenizer"]
        self._device = device
        self._prompts: OrderedDict[str, Words] = OrderedDict()

    def begin(self, request: GenerationRequest, seed: int) -> Drawing:
        """Noise from `seed` alone and a sampler of its own, so that no other picture can change this one."""
        generator = torch.Generator("cpu").manual_seed(seed)
        shape = (1, self._transformer.config.in_channels, request.height // FACTOR, request.width // FACTOR)
        clean = None
        if request.source is not None:
            clean = self.encode(pictures.to_tensor(request.source, self._device.name), generator)
        noise = torch.randn(shape, generator=generator).to(self._device.name)
        guided = request.guidance_scale != 1.0
        return Drawing(
            sampled=rows.begin(self._outline.plan(request), noise, clean=clean, generator=generator),
            words=self._read(request.prompt),
            without_words=self._read(request.negative_prompt) if guided else None,
            guidance_scale=request.guidance_scale,
            blend=_blend(request, clean, noise),
        )

    def go_on(self, drawing: Drawing, request: GenerationRequest, phase: int) -> Drawing:
        """There is one phase only."""
        raise AssertionError(f"sketch has no phase {phase}")

    def predict(self, lines: Sequence[Line]) -> Tensor:
        """The velocity of every line."""
        dtype = self._device.dtype
        return self._transformer(
            hidden_states=torch.cat([line.sample for line in lines]).to(dtype),
            timestep=torch.tensor([line.timestep for line in lines], device=self._device.name, dtype=dtype),
            encoder_hidden_states=torch.cat([line.words["tokens"] for line in lines]),
            pooled_projections=torch.cat([line.words["pooled"] for line in lines]),
            return_dict=False,
        )[0].float()

    def form(self, lines: Sequence[Line]) -> Hashable:
        """Nothing is ever built into it."""
        return None

    def guide(self, without_words: Tensor, with_words: Tensor, scale: float) -> Tensor:
        """Further in the direction in which the words move the prediction."""
        return without_words + scale * (with_words - without_words)

    def finish(self, drawing: Drawing, request: GenerationRequest) -> NDArray[np.uint8]:
        """The picture: uint8 RGB [height, width, 3]; an inpainted one has its source's pixels where its mask is 0."""
        config = self._vae.config
        reached = drawing.sampled.latents / config.scaling_factor + config.shift_factor
        drawn = pictures.of_tensor(self._vae.decode(reached, return_dict=False)[0])
        if request.source is not None and request.mask is not None:
            return latents.keep(drawn, request.source, request.mask)
        return drawn

    def encode(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Latents of a picture [1, 3, height, width] from -1 to 1; nothing of them is drawn."""
        config = self._vae.config
        return (self._vae.encode(pixels, return_dict=False)[0] - config.shift_factor) * config.scaling_factor

    def move(self, device_name: str) -> None:
        """Move the weights to another device."""
        for part in (self._transformer, self._vae, self._text_encoder):
            part.to(device_name)
        self._prompts.clear()

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
        words = {"tokens": read.last_hidden_state, "pooled": read.pooler_output}
        self._prompts[prompt] = words
        if len(self._prompts) > CACHED_PROMPTS:
            self._prompts.popitem(last=False)
        return words


def _blend(request: GenerationRequest, clean: Tensor | None, noise: Tensor) -> Blend | None:
    if request.mask is None or clean is None:
        return None
    return Blend(mask=pictures.to_mask(request.mask, clean.shape[2:], noise.device), clean=clean, noise=noise)
