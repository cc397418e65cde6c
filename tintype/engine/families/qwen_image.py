"""Qwen-Image: long texts, read by a model that sees pictures too, and guidance that keeps each token's strength."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tintype.engine import dit, dit_controls
from tintype.engine.devices import Device
from tintype.engine.dit_controls import Added, Way
from tintype.engine.family import Line, Words
from tintype.providers.contract import GenerationRequest, ModelFiles

TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
"""What stands around a prompt, word by word as the network was trained with it."""
TEMPLATE_TOKENS = 34
"""Tokens of the template before the prompt, which the network does not see."""
LONGEST_PROMPT = 1024
LONGEST_TEXT = 512
TEXT_STEP = 64
"""Texts are filled up to multiples of this, so that pictures with different prompts can share a step."""


def outline(files: ModelFiles) -> "Outline":
    """The outline of the model in a folder."""
    return Outline(files)


class Outline(dit.Outline):
    """What is known of a Qwen-Image without its weights.

    Pictures share a step when they have the same size and their longest text fills the same multiple of 64 tokens: all
    lines are filled up to it, and a mask hides what was filled in. The mask is there even where nothing is hidden, so
    that no companion decides by which kernel a picture is made. Guidance, timestep, strength, source and mask may
    differ.
    """

    @property
    def token_side(self) -> int:
        """Pixels along the side of a token."""
        return 2 ** (len(self.autoencoder["temperal_downsample"]) + 1)

    @cached_property
    def tokenizer(self) -> Any:
        """Turns text into numbers."""
        return dit.tokenizer(self.folder / "tokenizer")

    def is_guided(self, request: GenerationRequest) -> bool:
        """Above 1."""
        return request.guidance_scale > 1

    def text_lengths(self, request: GenerationRequest) -> tuple[int, ...]:
        """What the texts are filled up to."""
        prompts = [request.prompt, request.negative_prompt] if self.is_guided(request) else [request.prompt]
        longest = max(numbers(self.tokenizer, prompt).input_ids.shape[1] for prompt in prompts)
        seen = min(longest - TEMPLATE_TOKENS, LONGEST_TEXT)
        return (-(-seen // TEXT_STEP) * TEXT_STEP,)

    def load(self, device: Device) -> "QwenImage":
        """The model with its weights."""
        return QwenImage(self, device)


def numbers(tokenizer: Any, prompt: str) -> Any:
    """The prompt and what stands around it, as numbers [1, length]."""
    longest = LONGEST_PROMPT + TEMPLATE_TOKENS
    return tokenizer([TEMPLATE.format(prompt)], max_length=longest, truncation=True, return_tensors="pt")


class QwenImage(dit.Model):
    """A loaded Qwen-Image."""

    def words(self, request: GenerationRequest, prompt: str, adapters: str) -> Words:
        """What the text encoder reads, filled up to the length that all lines of the request have."""
        read = self.read(prompt, adapters)["encoder_hidden_states"]
        (length,) = self._outline.text_lengths(request)
        missing = length - read.shape[1]
        mask = torch.ones(1, read.shape[1], dtype=torch.bool, device=read.device)
        return {
            "encoder_hidden_states": functional.pad(read, (0, 0, 0, missing)),
            "encoder_hidden_states_mask": functional.pad(mask, (0, missing)),
        }

    def velocity(self, lines: Sequence[Line]) -> Tensor:
        """What the network says of every line."""
        added = dit_controls.listed(self.added(lines))
        predicted = self._transformer(**self._arguments(lines), **added, return_dict=False)[0]
        return dit.of_tokens(predicted.float(), lines[0].sample)

    def way_of_steering(self) -> Way:
        """By Qwen-Image's ControlNets."""
        return Way(class_name="QwenImageControlNetModel", look=self._look, encode=self.encode)

    def guide(self, without_words: Tensor, with_words: Tensor, scale: float) -> Tensor:
        """Further in the direction in which the words move each token, as long as it is with the words."""
        worded = dit.to_tokens(with_words)
        guided = dit.to_tokens(super().guide(without_words, with_words, scale))
        kept = guided * (worded.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))
        return dit.of_tokens(kept, with_words)

    def encode(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Latents as the transformer was trained on them; the autoencoder takes a picture as a video of one frame."""
        drawn = self._vae.encode(pixels.to(self._vae.dtype).unsqueeze(2)).latent_dist.sample(generator)
        mean, deviation = self._spread()
        return (drawn.float().squeeze(2) - mean) / deviation

    def decode(self, found: Tensor) -> Tensor:
        """The picture [1, 3, height, width], from -1 to 1, of latents."""
        mean, deviation = self._spread()
        raw = (found * deviation + mean).unsqueeze(2)
        return self._vae.decode(raw.to(self._vae.dtype), return_dict=False)[0][:, :, 0]

    def encode_words(self, prompt: str, adapters: str) -> Words:
        """What the text encoder says last of the tokens after the template's beginning."""
        numbered = numbers(self._parts["tokenizer"], prompt).to(self._device.name)
        read = self._parts["text_encoder"].model(
            input_ids=numbered.input_ids, attention_mask=numbered.attention_mask, output_hidden_states=True
        )
        return {"encoder_hidden_states": read.hidden_states[-1][:, TEMPLATE_TOKENS:][:, :LONGEST_TEXT]}

    def _spread(self) -> tuple[Tensor, Tensor]:
        config = self._vae.config
        mean, deviation = torch.tensor([config.latents_mean, config.latents_std], device=self._device.name)
        return mean.view(1, -1, 1, 1), deviation.view(1, -1, 1, 1)

    def _arguments(self, lines: Sequence[Line]) -> dict[str, Any]:
        sample = dit.samples(lines)
        return {
            "hidden_states": dit.to_tokens(sample).to(self._device.dtype),
            "timestep": dit.times(lines, self._device),
            "img_shapes": [[(1, sample.shape[2] // 2, sample.shape[3] // 2)]] * len(lines),
            **dit.readings(lines),
        }

    def _look(self, network: Any, lines: Sequence[Line], seen: Tensor, modes: Tensor, strengths: Tensor) -> Added:
        said = network(
            controlnet_cond=dit.to_tokens(seen).to(self._device.dtype),
            conditioning_scale=strengths.to(self._device.dtype),
            return_dict=False,
            **self._arguments(lines),
        )
        return {"controlnet_block_samples": dit_controls.spread(said, len(self._transformer.transformer_blocks))}
