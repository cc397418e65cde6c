"""FLUX.2 klein: works from other pictures by seeing their tokens beside those it draws."""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tintype.engine import dit, latents, loading, pictures
from tintype.engine.devices import Device
from tintype.engine.family import Line, Words
from tintype.providers.contract import GenerationRequest, ModelFiles

LONGEST_TEXT = 512
READ_LAYERS = (9, 18, 27)
"""Layers of the text encoder whose outputs, one after the other, are what the network reads of a token."""
MOMENT = 10
"""How far apart pictures stand on the axis of time: the one that is drawn at 0, those seen beside it behind it."""
MOST_REFERENCE_PIXELS = 1024 * 1024
"""A larger reference is made smaller, to about the size of what the model was trained on."""


def outline(files: ModelFiles) -> "Outline":
    """The outline of the model in a folder."""
    return Outline(files)


class Outline(dit.Outline):
    """What is known of a FLUX.2 klein without its weights.

    Pictures share a step when they have the same size and are drawn after as many others of the same sizes: source and
    references, whose tokens make the sequence longer. The text is always filled up to the same length. Guidance,
    timestep, strength and mask may differ.
    """

    takes_controls = False
    takes_references = True

    @cached_property
    def longest_text(self) -> int:
        """Tokens that the text is filled up to."""
        tokenizer = loading.config(self.folder / "tokenizer" / "tokenizer_config.json")
        return min(LONGEST_TEXT, tokenizer["model_max_length"])

    @cached_property
    def is_distilled(self) -> bool:
        """Whether it was trained to do without guidance."""
        return bool(loading.config(self.folder / "model_index.json").get("is_distilled"))

    def is_guided(self, request: GenerationRequest) -> bool:
        """Above 1, unless the model was distilled."""
        return request.guidance_scale > 1 and not self.is_distilled

    def text_lengths(self, request: GenerationRequest) -> tuple[int, ...]:
        """Always as long as can be."""
        return (self.longest_text,)

    def sizes_beside(self, request: GenerationRequest) -> tuple[tuple[int, int], ...]:
        """Those of the source and of the references."""
        first = self.stretches(request)[0]
        source = () if request.source is None else ((first.height, first.width),)
        return (*source, *(_tokens_of(reference, self.token_side) for reference in request.references))

    def shift(self, tokens: int, steps: int) -> float:
        """Grows with the size and, up to some 1000 × 1000 pixels, sinks with the number of steps.

        The line through what Black Forest Labs measured at 10 and at 200 steps.
        """
        many = 0.00016927 * tokens + 0.45666666
        if tokens > 4300:
            return many
        few = 8.73809524e-05 * tokens + 1.89833333
        return many + (many - few) / 190 * (steps - 200)

    def load(self, device: Device) -> "Flux2Klein":
        """The model with its weights."""
        return Flux2Klein(self, device)


class Flux2Klein(dit.Model):
    """A loaded FLUX.2 klein. Its latents are those of the autoencoder folded two by two: 128 channels, a token each."""

    def __init__(self, outline: Outline, device: Device) -> None:
        super().__init__(outline, device)
        self._longest_text = outline.longest_text
        self._token_side = outline.token_side

    def beside(self, request: GenerationRequest, clean: Tensor | None) -> tuple[Tensor, ...]:
        """The source is seen as it is, whatever noise the sample starts with, and after it the references."""
        seen = [] if clean is None else [clean]
        for reference in request.references:
            fitted = fit(reference, self._token_side)
            seen.append(self._likeliest(pictures.to_tensor(fitted, self._device.name)))
        return tuple(seen)

    def velocity(self, lines: Sequence[Line]) -> Tensor:
        """What the network says of every line."""
        sample = dit.samples(lines)
        words = dit.readings(lines)
        seen, positions = sample.flatten(2), self._positions(0, sample)
        for number, others in enumerate(zip(*(line.beside for line in lines), strict=True), start=1):
            beside = torch.cat(others)
            seen = torch.cat([seen, beside.flatten(2)], dim=2)
            positions = torch.cat([positions, self._positions(number * MOMENT, beside)])
        predicted = self._transformer(
            hidden_states=seen.transpose(1, 2).to(self._device.dtype),
            timestep=dit.times(lines, self._device),
            img_ids=positions,
            txt_ids=self._text_positions(words["encoder_hidden_states"].shape[1]),
            return_dict=False,
            **words,
        )[0]
        drawn = predicted[:, : sample[0, 0].numel()].float()
        return drawn.transpose(1, 2).unflatten(2, sample.shape[2:])

    def encode(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Latents as the transformer was trained on them: the likeliest ones, nothing is drawn."""
        return self._likeliest(pixels)

    def decode(self, found: Tensor) -> Tensor:
        """The picture [1, 3, height, width], from -1 to 1, of latents."""
        mean, deviation = self._spread()
        raw = functional.pixel_shuffle(found * deviation + mean, 2)
        return self._vae.decode(raw.to(self._vae.dtype), return_dict=False)[0]

    def enlarge(self, reached: Tensor, like: Tensor) -> Tensor:
        """Latents in the size that `like` has, enlarged as the autoencoder knows them."""
        size = (like.shape[2] * 2, like.shape[3] * 2)
        return functional.pixel_unshuffle(latents.enlarge(functional.pixel_shuffle(reached, 2), size), 2)

    def shrink(self, mask: Tensor, like: Tensor) -> Tensor:
        """A mask in the size of latents, between whose pixels there is a slope."""
        return functional.interpolate(mask, size=like.shape[2:], mode="bilinear")

    def noise_shape(self, stretch: dit.Stretch) -> tuple[int, int, int, int]:
        """The shape of the latents, one to a token."""
        return 1, self._transformer.config.in_channels, stretch.height, stretch.width

    def encode_words(self, prompt: str, adapters: str) -> Words:
        """What three layers of the text encoder say of every token."""
        tokenizer = self._parts["tokenizer"]
        talk = [{"role": "user", "content": prompt}]
        turn = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        numbered = tokenizer(
            [turn], padding="max_length", max_length=self._longest_text, truncation=True, return_tensors="pt"
        ).to(self._device.name)
        read = self._parts["text_encoder"].model(
            input_ids=numbered.input_ids,
            attention_mask=numbered.attention_mask,
            output_hidden_states=True,
            use_cache=False,
        )
        return {"encoder_hidden_states": torch.cat([read.hidden_states[layer] for layer in READ_LAYERS], dim=-1)}

    def _likeliest(self, pixels: Tensor) -> Tensor:
        likeliest = self._vae.encode(pixels.to(self._vae.dtype)).latent_dist.mode()
        mean, deviation = self._spread()
        return (functional.pixel_unshuffle(likeliest.float(), 2) - mean) / deviation

    def _spread(self) -> tuple[Tensor, Tensor]:
        statistics = self._vae.bn
        mean = statistics.running_mean.float().view(1, -1, 1, 1)
        deviation = (statistics.running_var.float() + self._vae.config.batch_norm_eps).sqrt().view(1, -1, 1, 1)
        return mean, deviation

    def _positions(self, moment: int, found: Tensor) -> Tensor:
        """Where tokens of a picture stand: moment, row, column, and nothing on the axis of text."""
        rows, columns = (torch.arange(side, device=found.device) for side in found.shape[2:])
        return torch.cartesian_prod(rows.new_full((1,), moment), rows, columns, rows.new_zeros(1))

    def _text_positions(self, length: int) -> Tensor:
        positions = torch.zeros(length, 4, dtype=torch.long, device=self._device.name)
        positions[:, 3] = torch.arange(length, device=self._device.name)
        return positions


def fit(reference: NDArray[np.uint8], token_side: int) -> NDArray[np.uint8]:
    """A reference as the network reads it: limited in its pixels, and as much of its middle as whole tokens hold.

    What is smaller than a token is made as large as one.
    """
    height, width = (tokens * token_side for tokens in _tokens_of(reference, token_side))
    limited = _limited(reference)
    scaled = pictures.resize(reference, (max(limited[0], height), max(limited[1], width)))
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top : top + height, left : left + width]


def _tokens_of(reference: NDArray[np.uint8], token_side: int) -> tuple[int, int]:
    height, width = _limited(reference)
    return max(1, height // token_side), max(1, width // token_side)


def _limited(reference: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of a reference, made smaller where it has too many pixels."""
    height, width = reference.shape[:2]
    factor = min(1.0, math.sqrt(MOST_REFERENCE_PIXELS / (height * width)))
    return int(height * factor), int(width * factor)
