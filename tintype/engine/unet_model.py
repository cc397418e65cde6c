"""A loaded model around a UNet: everything but the words, which each family reads in its own way."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tintype.engine import beside, devices, joined, latents, loading, loras, pictures, requested_loras, style_attention
from tintype.engine.controls import Controls
from tintype.engine.devices import Device
from tintype.engine.family import Blend, Drawing, Line, Words
from tintype.engine.loading import ModelBrokenError
from tintype.engine.samplers import rows
from tintype.engine.samplers.plan import Plan
from tintype.engine.samplers.rows import Sampled
from tintype.engine.style_adapter import StyleAdapters
from tintype.engine.style_attention import Style
from tintype.engine.unet_outline import Stretch, UNetOutline
from tintype.providers.contract import GenerationRequest

CONDITIONS = ("text_embeds", "time_ids")
KEPT_VAES = 2


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of a picture in pixels, and of its prompts in chunks."""

    width: int
    height: int
    chunks: int


class WordReader(Protocol):
    """How a family reads the words of a request."""

    def read(self, request: GenerationRequest, size: Size, *, adapters: str) -> tuple[Words, Words]:
        """What the UNet is given with the words and without: its arguments, each with a first dimension of 1.

        `adapters` tells apart LoRAs in force in the text encoders.
        """
        ...

    def forget(self) -> None:
        """Let go of every reading."""
        ...


class UNetModel:
    """A UNet with autoencoder and words, on a device."""

    def __init__(self, outline: UNetOutline, parts: Mapping[str, Any], words: WordReader, device: Device) -> None:
        self._outline = outline
        self.parts = self._parts = parts
        self._unet = parts["unet"]
        self._words = words
        self._device = device
        self._vaes = device.beside.shelf(KEPT_VAES, beside.module_bytes)
        if device.name.startswith("cuda"):  # there, half precision convolves fastest so
            for part in (self._unet, parts["vae"]):
                part.to(memory_format=torch.channels_last)
        self._styles = StyleAdapters(style_attention.install(self._unet), device)
        self._controls = Controls(device)
        if device.joins_projections:
            joined.join_all(self._unet)
        encoders = {name: part for name, part in parts.items() if name.startswith("text_encoder")}
        self._loras = device.beside.counting(loras.Bank(network=self._unet, text_encoders=encoders))

    def begin(self, request: GenerationRequest, seed: int) -> Drawing:
        """The first phase: words read, noise drawn from `seed` alone, source and mask encoded.

        Random numbers are drawn in the order in which diffusers' pipelines draw them.
        """
        stretch = self._outline.stretches(request)[0]
        plan = self._outline.plan(request, stretch)
        generator = torch.Generator("cpu").manual_seed(seed)
        if request.task == "inpaint":
            return self._begin_inpainting(request, stretch, plan, generator)
        clean = None if request.source is None else self._encode(request, request.source, generator)
        noise = self._draw_noise(stretch, generator)
        return self._draw(request, stretch, rows.begin(plan, noise, clean=clean, generator=generator))

    def go_on(self, drawing: Drawing, request: GenerationRequest, phase: int) -> Drawing:
        """The next phase: taken over from another model as it is, or enlarged and made noisy anew."""
        stretch = self._outline.stretches(request)[phase]
        plan = self._outline.plan(request, stretch)
        reached, generator = drawing.sampled.latents, drawing.sampled.generator
        assert generator is not None
        if stretch.kind == "refiner":
            sampled = rows.begin(plan, reached, generator=generator)
            sampled.latents = reached
            return self._draw(request, stretch, sampled, beside=drawing.beside, blend=drawing.blend)
        clean = latents.enlarge(reached, self._size(stretch))
        noise = self._draw_noise(stretch, generator)
        return self._draw(request, stretch, rows.begin(plan, noise, clean=clean, generator=generator))

    def predict(self, lines: Sequence[Line]) -> Tensor:
        """What the UNet says of every line, in float32; with more LoRAs than can be held at once, in turns."""
        return torch.cat([self._predict(together) for together in self._loras.divide(lines)])

    def _predict(self, lines: Sequence[Line]) -> Tensor:
        self._loras.use(lines)
        dtype = self._device.dtype
        words = {name: torch.cat([line.words[name] for line in lines]) for name in lines[0].words}
        sample = torch.cat([line.sample for line in lines]).to(dtype)
        timesteps = devices.numbers([line.timestep for line in lines], self._device.name)
        steered = self._controls.residuals(lines, sample, timesteps, words)
        if lines[0].beside:
            beside = torch.cat([torch.cat(line.beside, dim=1) for line in lines]).to(dtype)
            sample = torch.cat([sample, beside], dim=1)
        return self._unet(
            sample,
            timesteps,
            encoder_hidden_states=words["encoder_hidden_states"],
            timestep_cond=self._guidance(lines),
            added_cond_kwargs={name: words[name] for name in CONDITIONS if name in words} or None,
            cross_attention_kwargs=_style(words),
            return_dict=False,
            **steered,
        )[0].float()

    def form(self, lines: Sequence[Line]) -> Hashable:
        """The layers that have LoRAs, and how many the line with the most has."""
        return self._loras.use(lines), self._loras.version

    def guide(self, without_words: Tensor, with_words: Tensor, scale: float) -> Tensor:
        """Further in the direction in which the words move the prediction."""
        return without_words + scale * (with_words - without_words)

    def finish(self, drawing: Drawing, request: GenerationRequest) -> NDArray[np.uint8]:
        """The picture: uint8 RGB [height, width, 3]; an inpainted one has its source's pixels where its mask is 0."""
        pixels = latents.decode(self._vae(request), drawing.sampled.latents)
        if request.task == "inpaint" and request.source is not None and request.mask is not None:
            return latents.keep(pixels, request.source, request.mask)
        return pixels

    def encode(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Latents of a picture [1, 3, height, width] from -1 to 1, drawn from what the autoencoder gives."""
        return latents.encode(self._parts["vae"], pixels, generator)

    def move(self, device_name: str) -> None:
        """Move the weights to another device. What was read and loaded beside them is let go of."""
        for part in self._parts.values():
            part.to(device_name)
        self._words.forget()
        self._device.beside.drop()

    def _begin_inpainting(
        self, request: GenerationRequest, stretch: Stretch, plan: Plan, generator: torch.Generator
    ) -> Drawing:
        """A UNet trained with masks sees mask and masked picture; with any other, what stays is put back each step."""
        assert request.source is not None
        assert request.mask is not None
        sees_mask, starts_alone = self._outline.takes_masks, request.strength == 1.0
        clean = None if sees_mask and starts_alone else self._encode(request, request.source, generator)
        noise = self._draw_noise(stretch, generator)
        sampled = rows.begin(plan, noise, clean=None if starts_alone else clean, generator=generator)
        hard = latents.hard_mask(request.mask, self._device.name)
        pixels = pictures.to_tensor(request.source, self._device.name) * (hard == 0)
        if sees_mask:
            masked = latents.encode(self._vae(request), pixels, generator)
            beside = torch.cat([latents.shrink(hard, self._size(stretch)), masked], dim=1)
            return self._draw(request, stretch, sampled, beside=(beside,))
        assert clean is not None
        # Pipelines encode the masked picture here all the same, which moves the generator on.
        latents.draw_noise(tuple(clean.shape), generator, "cpu")
        soft = latents.shrink(latents.soft_mask(request.mask, self._device.name), self._size(stretch))
        return self._draw(request, stretch, sampled, blend=Blend(mask=soft, clean=clean, noise=noise))

    def _draw(
        self,
        request: GenerationRequest,
        stretch: Stretch,
        sampled: Sampled,
        *,
        beside: tuple[Tensor, ...] = (),
        blend: Blend | None = None,
    ) -> Drawing:
        is_own = stretch.kind != "refiner"
        adapters = requested_loras.add(self._loras, request) if is_own else ()
        size = Size(width=stretch.width, height=stretch.height, chunks=self._outline.chunks(request))
        words, without = self._words.read(request, size, adapters=self._loras.use_for_words(adapters))
        styled, unstyled = self._styles.read(request) if is_own else ({}, {})
        return Drawing(
            sampled=sampled,
            words={**words, **styled},
            without_words={**without, **unstyled} if self._outline.is_guided(request) else None,
            guidance_scale=request.guidance_scale,
            beside=beside,
            blend=blend,
            steering=self._controls.prepare(request, stretch.width, stretch.height) if is_own else (),
            adapters=adapters,
        )

    def _size(self, stretch: Stretch) -> tuple[int, int]:
        return stretch.height // self._outline.factor, stretch.width // self._outline.factor

    def _draw_noise(self, stretch: Stretch, generator: torch.Generator) -> Tensor:
        channels: int = self._parts["vae"].config.latent_channels
        return latents.draw_noise((1, channels, *self._size(stretch)), generator, self._device.name)

    def _encode(self, request: GenerationRequest, source: NDArray[np.uint8], generator: torch.Generator) -> Tensor:
        return latents.encode(self._vae(request), pictures.to_tensor(source, self._device.name), generator)

    def _vae(self, request: GenerationRequest) -> Any:
        """The model's own autoencoder, or the one the request brings."""
        files = request.companions.get("vae")
        if files is None:
            return self._parts["vae"]
        return self._vaes.get(files.folder, lambda: _load_vae(Path(files.folder), self._parts["vae"], self._device))

    def _guidance(self, lines: Sequence[Line]) -> Tensor | None:
        """What a UNet that was distilled with guidance is told of it (arXiv 2210.03142), in sines and cosines."""
        width = self._unet.config.time_cond_proj_dim
        if width is None:
            return None
        scales = devices.numbers([1000.0 * (line.guidance_scale - 1) for line in lines], self._device.name)
        falling = torch.exp(torch.arange(width // 2, device=scales.device) * -(math.log(10_000) / (width // 2 - 1)))
        angles = scales[:, None] * falling[None, :]
        return torch.cat([angles.sin(), angles.cos()], dim=1).to(self._device.dtype)


def _style(words: Words) -> dict[str, Style] | None:
    if "style" not in words:
        return None
    return {"style": Style(states=words["style"], strengths=words["style_strength"][:, None, None])}


def _load_vae(folder: Path, usual: Any, device: Device) -> Any:
    vae = loading.network(folder, "AutoencoderKL", dtype=usual.dtype, device=device.name)
    if vae.config.latent_channels != usual.config.latent_channels:
        raise ModelBrokenError(f"the autoencoder in {folder} has other latents than this model; choose one made for it")
    return vae
