"""Z-Image: one stream of text and picture. Its network predicts picture - noise, the other way round from the rest."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tintype.engine import dit
from tintype.engine.devices import Device
from tintype.engine.dit_controls import Added, Way
from tintype.engine.family import Line, Words
from tintype.providers.contract import GenerationRequest, ModelFiles

LONGEST_TEXT = 512
TEXT_STEP = 32
"""The network fills texts up to multiples of this with a token of its own."""


def outline(files: ModelFiles) -> "Outline":
    """The outline of the model in a folder."""
    return Outline(files)


class Outline(dit.Outline):
    """What is known of a Z-Image without its weights.

    Pictures share a step when they have the same size and their texts fill the same multiples of 32 tokens: the
    picture's positions begin where the text ends, and where all lines are equally long the network attends without a
    mask. So the masks a batch needs are the same whoever is in it. Guidance, timestep, strength, source and mask may
    differ.
    """

    @property
    def width(self) -> int:
        """Numbers in a token inside the network."""
        return self.network["dim"]

    @cached_property
    def tokenizer(self) -> Any:
        """Turns text into numbers."""
        return dit.tokenizer(self.folder / "tokenizer")

    def is_guided(self, request: GenerationRequest) -> bool:
        """Above 0: the scale counts on top of the words' own prediction, so a distilled model is asked with 0."""
        return request.guidance_scale > 0

    def text_lengths(self, request: GenerationRequest) -> tuple[int, ...]:
        """What the texts are filled up to."""
        prompts = [request.prompt, request.negative_prompt] if self.is_guided(request) else [request.prompt]
        return tuple(-(-count(self.tokenizer, prompt) // TEXT_STEP) * TEXT_STEP for prompt in prompts)

    def load(self, device: Device) -> "ZImage":
        """The model with its weights."""
        return ZImage(self, device)


def count(tokenizer: Any, prompt: str) -> int:
    """Tokens of a prompt with the turn of talk around it."""
    return len(tokenizer(turn(tokenizer, prompt), max_length=LONGEST_TEXT, truncation=True).input_ids)


def turn(tokenizer: Any, prompt: str) -> str:
    """The prompt as a person's turn in a talk with the text encoder, as it was trained."""
    talk = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True, enable_thinking=True)


class ZImage(dit.Model):
    """A loaded Z-Image."""

    def velocity(self, lines: Sequence[Line]) -> Tensor:
        """What the network says of every line."""
        added = self.added(lines)
        self._loras.use(lines)
        predicted = self._transformer(*self._arguments(lines), return_dict=False, **added)[0]
        return -torch.stack([each.squeeze(1).float() for each in predicted])

    def way_of_steering(self) -> Way:
        """By Z-Image's ControlNets, which use parts of the transformer itself."""
        return Way(
            class_name="ZImageControlNetModel",
            look=self._look,
            encode=self._encode_control,
            sees_words_once=False,
            adopt=lambda network: type(network).from_transformer(network, self._transformer),
        )

    def guide(self, without_words: Tensor, with_words: Tensor, scale: float) -> Tensor:
        """On top of the words' own prediction."""
        return with_words + scale * (with_words - without_words)

    def noise_shape(self, stretch: dit.Stretch) -> tuple[int, int, int, int]:
        """The shape of the latents; this network folds them itself."""
        return 1, self._transformer.in_channels, stretch.height * 2, stretch.width * 2

    def encode_words(self, prompt: str, adapters: str) -> Words:
        """What the last layer but one of the text encoder says of every token."""
        tokenizer = self._parts["tokenizer"]
        numbered = tokenizer(
            [turn(tokenizer, prompt)],
            padding="max_length",
            max_length=LONGEST_TEXT,
            truncation=True,
            return_tensors="pt",
        ).to(self._device.name)
        mask = numbered.attention_mask.bool()
        read = self._parts["text_encoder"](input_ids=numbered.input_ids, attention_mask=mask, output_hidden_states=True)
        return {"cap_feats": read.hidden_states[-2][mask].unsqueeze(0)}

    def _arguments(self, lines: Sequence[Line]) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        sample = dit.samples(lines).to(self._device.dtype).unsqueeze(2)
        return list(sample.unbind()), 1 - dit.times(lines, self._device), [line.words["cap_feats"][0] for line in lines]

    def _look(self, network: Any, lines: Sequence[Line], seen: Tensor, modes: Tensor, strengths: Tensor) -> Added:
        self._loras.use(lines)  # the network shares layers with the transformer
        # Channels that later networks have beside these are for what is to be filled in.
        beside = network.config.control_in_dim - seen.shape[1]
        seen = functional.pad(seen, (0, 0, 0, 0, 0, beside)).to(self._device.dtype)
        said = network(
            *self._arguments(lines),
            list(seen.unsqueeze(2).unbind()),
            conditioning_scale=strengths.to(self._device.dtype),
        )
        return {"controlnet_block_samples": said}

    def _encode_control(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        likeliest = self._vae.encode(pixels.to(self._vae.dtype)).latent_dist.mode().float()
        return (likeliest - self._vae.config.shift_factor) * self._vae.config.scaling_factor
