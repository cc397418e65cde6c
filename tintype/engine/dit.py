"""What the families over diffusion transformers share: all predict a flow, and see two by two latents as one token.

Latents are kept as [1, channels, height, width] for every one of them, so a picture's size is read off its sample and
samplers, masks and previews need not know of tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tintype.engine import control_networks, devices, dit_files, latents, loading, loras, pictures, requested_loras
from tintype.engine.devices import Device
from tintype.engine.dit_controls import Added, Controls, Way
from tintype.engine.family import Blend, Drawing, Line, RequestUnsuitableError, Steering, Words
from tintype.engine.loading import ModelBrokenError
from tintype.engine.samplers import plan as plans
from tintype.engine.samplers import rows
from tintype.engine.samplers.plan import Plan
from tintype.engine.scheduling.values import Phase
from tintype.providers.contract import GenerationRequest, ModelFiles

TASKS = ("text_to_image", "image_to_image", "inpaint")
NATIVE_SIDE = 1024
"""All of these were trained on pictures of a million pixels."""

CACHED_PROMPTS = 32
"""Prompts kept as the network reads them; a long one takes some 8 MB."""

WIDTHS_IN_FLIGHT = 24
"""Vectors of the network's width that one token keeps alive at the widest point of a block: queries, keys, values,
the feed-forward part four times as wide, and their copies while they are put together."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One phase of a picture: its size in tokens, its steps, and how much of what is there it draws anew."""

    height: int
    width: int
    steps: int
    strength: float

    @property
    def tokens(self) -> int:
        """Tokens of the picture."""
        return self.height * self.width


class Outline(ABC):
    """A transformer and what belongs to it, as far as configurations tell.

    Raises:
        ModelBrokenError: its files do not lie as they should.
    """

    native_side = NATIVE_SIDE
    takes_controls = True
    takes_references = False

    def __init__(self, files: ModelFiles) -> None:
        self.id = files.id
        self.files = dit_files.find(Path(files.folder))
        self.folder = self.files.base
        self._stated_bytes = files.memory_bytes

    @cached_property
    def network(self) -> dict[str, Any]:
        """The transformer's configuration."""
        return loading.config(self.folder / "transformer" / "config.json")

    @cached_property
    def autoencoder(self) -> dict[str, Any]:
        """The autoencoder's configuration."""
        return loading.config(self.folder / "vae" / "config.json")

    @cached_property
    def scheduler(self) -> dict[str, Any]:
        """The configuration of the noise levels it was trained for."""
        return loading.config(self.folder / "scheduler" / "scheduler_config.json")

    @cached_property
    def weight_bytes(self) -> int:
        """What the catalogue says its weights take, else what they take in half precision, as GPUs keep them."""
        return self._stated_bytes or 2 * dit_files.count_weights(self.files)

    @cached_property
    def block_bytes(self) -> int:
        """As it is streamed, in half precision."""
        return dit_files.block_bytes(self.files)

    @property
    def token_side(self) -> int:
        """Pixels along the side of a token."""
        return 2 ** len(self.autoencoder["block_out_channels"])

    @property
    def width(self) -> int:
        """Numbers in a token inside the network."""
        return self.network["num_attention_heads"] * self.network["attention_head_dim"]

    @abstractmethod
    def is_guided(self, request: GenerationRequest) -> bool:
        """Whether every step takes a line without the words beside the one with them."""

    @abstractmethod
    def text_lengths(self, request: GenerationRequest) -> tuple[int, ...]:
        """Tokens of text in the lines of this request, as the network is given them."""

    @abstractmethod
    def load(self, device: Device) -> "Model":
        """The model with its weights."""

    def sizes_beside(self, request: GenerationRequest) -> tuple[tuple[int, int], ...]:
        """Height and width, in tokens, of other pictures that the network sees beside the one it draws."""
        return ()

    def shift(self, tokens: int, steps: int) -> float | None:
        """The shift of the noise levels, where the family has its own formula for it."""
        return None

    def stretches(self, request: GenerationRequest) -> tuple[Stretch, ...]:
        """The picture, and where asked for once more, enlarged.

        Raises:
            RequestUnsuitableError: the size is no multiple of a token's.
        """
        side = self.token_side
        if request.width % side or request.height % side:
            raise RequestUnsuitableError(
                f"the sides of {self.id}'s pictures are multiples of {side}; change {request.width} × {request.height}"
            )
        height, width = request.height // side, request.width // side
        strength = 1.0 if request.source is None else request.strength
        first = Stretch(height=height, width=width, steps=request.steps, strength=strength)
        if (again := request.hires) is None:
            return (first,)
        height, width = (round(along * again.scale) for along in (height, width))
        return first, Stretch(height=height, width=width, steps=again.steps, strength=again.strength)

    def plan(self, request: GenerationRequest, stretch: Stretch) -> Plan:
        """What the sampler does for each picture in one phase."""
        is_shifting = self.scheduler.get("use_dynamic_shifting")
        sampler = plans.FLOW_SAMPLERS.get(request.sampler)
        has_own_levels = sampler is not None and sampler.settings.get("use_flow_sigmas")
        even = tuple(np.linspace(1.0, 1 / stretch.steps, stretch.steps).tolist())
        return plans.plan(
            request.sampler,
            self.scheduler,
            stretch.steps,
            strength=stretch.strength,
            tokens=stretch.tokens,
            mu=self.shift(stretch.tokens, stretch.steps) if is_shifting else None,
            sigmas=None if has_own_levels else even,
        )

    def phases(self, request: GenerationRequest) -> tuple[Phase, ...]:
        """The stretches of work as the schedule knows them.

        Raises:
            RequestUnsuitableError: the size does not fit, or something is asked for that this family cannot do.
        """
        self._refuse(request)
        return tuple(self._phase(request, stretch) for stretch in self.stretches(request))

    def _phase(self, request: GenerationRequest, stretch: Stretch) -> Phase:
        """One phase; networks that steer it are counted with the picture that brings them."""
        texts, sizes = self.text_lengths(request), self.sizes_beside(request)
        context = max(texts) + sum(height * width for height, width in sizes)
        lines = 2 if self.is_guided(request) else 1
        controls = control_networks.weight_bytes([control.model for control in request.controls])
        return Phase(
            model=self.id,
            key=(stretch.height, stretch.width, texts, sizes),
            shape=f"{stretch.width * self.token_side}x{stretch.height * self.token_side}+{context}",
            evaluations=self.plan(request, stretch).evaluations,
            lines=lines,
            activation_bytes=2 * WIDTHS_IN_FLIGHT * self.width * (stretch.tokens + context) + controls // lines,
            brings=tuple(control.model.folder for control in request.controls),
        )

    def _refuse(self, request: GenerationRequest) -> None:
        if request.task not in TASKS:
            raise RequestUnsuitableError(f"{self.id} cannot do {request.task}; choose a model that can")
        asked = {
            "a style picture": request.style_image is not None,
            "a refiner": request.refiner is not None,
            "a second pass over a part": request.hires is not None and request.mask is not None,
            "controls": bool(request.controls) and not self.takes_controls,
            "references": bool(request.references) and not self.takes_references,
        }
        if not_offered := [name for name, is_asked in asked.items() if is_asked]:
            raise RequestUnsuitableError(f"{self.id} does not take {', '.join(not_offered)}; leave that out")


class Model(ABC):
    """A diffusion transformer on a device, with its text encoders and autoencoder."""

    adapted_encoders: tuple[str, ...] = ()
    """Text encoders that LoRAs are made for."""

    def __init__(self, outline: Outline, device: Device) -> None:
        self._outline = outline
        self._device = device
        self.parts = self._parts = dit_files.load(outline.files, device)
        self._transformer = self._parts["transformer"]
        self._vae = self._parts["vae"]
        encoders = {name: self._parts[name] for name in self.adapted_encoders}
        self._loras = device.beside.counting(loras.Bank(network=self._transformer, text_encoders=encoders))
        self.read = lru_cache(maxsize=CACHED_PROMPTS)(self.encode_words)
        way = self.way_of_steering()
        self._controls = None if way is None else Controls(way, device)

    @abstractmethod
    def encode_words(self, prompt: str, adapters: str) -> Words:
        """The prompt as the network reads it, by the names of its arguments; `adapters` tells apart LoRAs in force."""

    @abstractmethod
    def velocity(self, lines: Sequence[Line]) -> Tensor:
        """What the network says of every line, noise - picture: float32 [lines, channels, height, width]."""

    def predict(self, lines: Sequence[Line]) -> Tensor:
        """The velocity, noise - picture, of every line: float32 [lines, channels, height, width].

        More LoRAs than can be held at once take turns.
        """
        return torch.cat([self._predict(together) for together in self._loras.divide(lines)])

    def way_of_steering(self) -> Way | None:
        """How pictures steer it; None where they do not."""
        return None

    def added(self, lines: Sequence[Line]) -> Added:
        """What controls add to what the network has after its blocks."""
        return {} if self._controls is None else self._controls.added(lines)

    def _predict(self, lines: Sequence[Line]) -> Tensor:
        self._loras.use(lines)
        return self.velocity(lines)

    def words(self, request: GenerationRequest, prompt: str, adapters: str) -> Words:
        """The prompt as the network reads it for this request."""
        return self.read(prompt, adapters)

    def scale(self, request: GenerationRequest) -> float:
        """How far the words push the prediction."""
        return request.guidance_scale

    @torch.inference_mode()
    def begin(self, request: GenerationRequest, seed: int) -> Drawing:
        """Words read at batch one; noise, and what the autoencoder draws for a source, from `seed` alone."""
        stretch = self._outline.stretches(request)[0]
        generator = torch.Generator("cpu").manual_seed(seed)
        steering = self._steer(request, stretch, generator)
        clean = None
        if request.source is not None:
            clean = self.encode(pictures.to_tensor(request.source, self._device.name), generator)
        noise = self._draw_noise(stretch, generator)
        adapters = requested_loras.add(self._loras, request)
        reading = self._loras.use_for_words(adapters)
        guided = self._outline.is_guided(request)
        return Drawing(
            sampled=rows.begin(self._outline.plan(request, stretch), noise, clean=clean, generator=generator),
            words=self.words(request, request.prompt, reading),
            without_words=self.words(request, request.negative_prompt, reading) if guided else None,
            guidance_scale=self.scale(request),
            beside=self.beside(request, clean),
            blend=self._blend(request, clean, noise),
            steering=steering,
            adapters=adapters,
        )

    @torch.inference_mode()
    def go_on(self, drawing: Drawing, request: GenerationRequest, phase: int) -> Drawing:
        """The next phase: enlarged and made noisy anew."""
        stretch, generator = self._outline.stretches(request)[phase], drawing.sampled.generator
        assert generator is not None
        steering = self._steer(request, stretch, generator)
        noise = self._draw_noise(stretch, generator)
        clean = self.enlarge(drawing.sampled.latents, noise)
        sampled = rows.begin(self._outline.plan(request, stretch), noise, clean=clean, generator=generator)
        return replace(drawing, sampled=sampled, steering=steering)

    def beside(self, request: GenerationRequest, clean: Tensor | None) -> tuple[Tensor, ...]:
        """Latents of other pictures that the network sees beside the one it draws."""
        return ()

    def form(self, lines: Sequence[Line]) -> Hashable:
        """The layers that have LoRAs, and how many the line with the most has."""
        return self._loras.use(lines), self._loras.version

    def guide(self, without_words: Tensor, with_words: Tensor, scale: float) -> Tensor:
        """Further in the direction in which the words move the prediction."""
        return without_words + scale * (with_words - without_words)

    @torch.inference_mode()
    def finish(self, drawing: Drawing, request: GenerationRequest) -> NDArray[np.uint8]:
        """The picture: uint8 RGB [height, width, 3]; an inpainted one has its source's pixels where its mask is 0."""
        drawn = pictures.of_tensor(self.decode(drawing.sampled.latents))
        if request.source is not None and request.mask is not None:
            return latents.keep(drawn, request.source, request.mask)
        return drawn

    def encode(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Latents of a picture [1, 3, height, width] from -1 to 1, as the transformer was trained on them."""
        config = self._vae.config
        drawn = self._vae.encode(pixels.to(self._vae.dtype)).latent_dist.sample(generator)
        return (drawn.float() - config.shift_factor) * config.scaling_factor

    def decode(self, found: Tensor) -> Tensor:
        """The picture [1, 3, height, width], from -1 to 1, of latents."""
        config = self._vae.config
        raw = found / config.scaling_factor + config.shift_factor
        return self._vae.decode(raw.to(self._vae.dtype), return_dict=False)[0]

    def enlarge(self, reached: Tensor, like: Tensor) -> Tensor:
        """Latents in the size that `like` has."""
        return latents.enlarge(reached, (like.shape[2], like.shape[3]))

    def shrink(self, mask: Tensor, like: Tensor) -> Tensor:
        """A mask [1, 1, height, width] in the size of latents."""
        return latents.shrink(mask, (like.shape[2], like.shape[3]))

    def move(self, device_name: str) -> None:
        """Move the weights to another device; prompts are read anew there."""
        for part in self._parts.values():
            if isinstance(part, torch.nn.Module):
                part.to(device_name)
        self._device = replace(self._device, name=device_name)
        self.read.cache_clear()
        self._device.beside.drop()

    def noise_shape(self, stretch: Stretch) -> tuple[int, int, int, int]:
        """The shape of the latents: as autoencoders give them, four to a token."""
        return 1, self._transformer.config.in_channels // 4, stretch.height * 2, stretch.width * 2

    def _steer(self, request: GenerationRequest, stretch: Stretch, generator: torch.Generator) -> tuple[Steering, ...]:
        if self._controls is None:
            return ()
        side = self._outline.token_side
        return self._controls.prepare(request, generator, width=stretch.width * side, height=stretch.height * side)

    def _draw_noise(self, stretch: Stretch, generator: torch.Generator) -> Tensor:
        return latents.draw_noise(self.noise_shape(stretch), generator, self._device.name)

    def _blend(self, request: GenerationRequest, clean: Tensor | None, noise: Tensor) -> Blend | None:
        if request.mask is None or clean is None:
            return None
        mask = self.shrink(latents.soft_mask(request.mask, self._device.name), noise)
        return Blend(mask=mask, clean=clean, noise=noise)


def tokenizer(folder: Path) -> Any:
    """What turns text into numbers, from its folder.

    Raises:
        ModelBrokenError: a file is missing or damaged.
    """
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelBrokenError(
            f"the tokenizer in {folder} cannot be loaded ({error}); `tintype doctor` checks its files"
        ) from error


def to_tokens(found: Tensor) -> Tensor:
    """Latents [rows, channels, height, width] as tokens [rows, height * width / 4, channels * 4]."""
    return functional.pixel_unshuffle(found, 2).flatten(2).transpose(1, 2)


def of_tokens(tokens: Tensor, like: Tensor) -> Tensor:
    """What `to_tokens` made of latents, latents again, of the shape that `like` has."""
    folded = tokens.transpose(1, 2).unflatten(2, (like.shape[2] // 2, like.shape[3] // 2))
    return functional.pixel_shuffle(folded, 2)


def samples(lines: Sequence[Line]) -> Tensor:
    """The samples of all lines together."""
    return torch.cat([line.sample for line in lines])


def times(lines: Sequence[Line], device: Device) -> Tensor:
    """Where between picture, 0, and noise, 1, each line stands: float32 [lines]."""
    return devices.numbers([line.timestep / 1000 for line in lines], device.name)


def readings(lines: Sequence[Line]) -> dict[str, Tensor]:
    """The words of all lines together, by argument."""
    return {name: torch.cat([line.words[name] for line in lines]) for name in lines[0].words}
