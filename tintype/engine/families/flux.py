"""FLUX.1: dev, which is told its guidance as a number, and schnell, which has none."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tintype.engine import dit, dit_controls, loading
from tintype.engine.devices import Device
from tintype.engine.dit_controls import Added, Way
from tintype.engine.family import Line, Words
from tintype.engine.loading import ModelBrokenError
from tintype.providers.contract import GenerationRequest, ModelFiles

LONGEST_TEXT = {True: 512, False: 256}
"""Tokens that T5's text is filled up to: dev was trained with 512, schnell with 256."""

MODES = {"canny": 0, "tile": 1, "depth": 2, "pose": 4, "scribble": 0}
"""Types as networks know them that were trained for several."""


def outline(files: ModelFiles) -> "Outline":
    """The outline of the model in a folder."""
    return Outline(files)


class Outline(dit.Outline):
    """What is known of a FLUX.1 without its weights.

    Pictures share a step when they have the same size: positions are given once for all lines. The text is always
    filled up to the same length. Guidance, pooled text and timestep are numbers of each line and may differ, as may
    strength, source, mask, and whether there is a second line for a negative prompt.
    """

    @cached_property
    def longest_text(self) -> int:
        """Tokens of T5's text."""
        tokenizer = loading.config(self.folder / "tokenizer_2" / "tokenizer_config.json")
        return min(LONGEST_TEXT[self.network["guidance_embeds"]], tokenizer["model_max_length"])

    def is_guided(self, request: GenerationRequest) -> bool:
        """Only where the option `true_cfg_scale` asks for it: the network was distilled to do without."""
        return true_scale(request) > 1

    def text_lengths(self, request: GenerationRequest) -> tuple[int, ...]:
        """Always as long as can be."""
        return (self.longest_text,)

    def load(self, device: Device) -> "Flux":
        """The model with its weights."""
        return Flux(self, device)


def true_scale(request: GenerationRequest) -> float:
    """How far a negative prompt pushes, on top of the guidance the network was distilled with."""
    return float(request.options.get("true_cfg_scale", 1.0))


class Flux(dit.Model):
    """A loaded FLUX.1."""

    adapted_encoders = ("text_encoder", "text_encoder_2")

    def __init__(self, outline: Outline, device: Device) -> None:
        super().__init__(outline, device)
        self._longest_text = outline.longest_text

    def words(self, request: GenerationRequest, prompt: str, adapters: str) -> Words:
        """What T5 and CLIP read, and the guidance where the network wants it."""
        if not self._transformer.config.guidance_embeds:
            return self.read(prompt, adapters)
        return {
            **self.read(prompt, adapters),
            "guidance": torch.tensor([request.guidance_scale], device=self._device.name),
        }

    def scale(self, request: GenerationRequest) -> float:
        """That of the negative prompt."""
        return true_scale(request)

    def velocity(self, lines: Sequence[Line]) -> Tensor:
        """What the network says of every line."""
        added = dit_controls.listed(self.added(lines))
        predicted = self._transformer(**self._arguments(lines), **added, return_dict=False)[0]
        return dit.of_tokens(predicted.float(), lines[0].sample)

    def way_of_steering(self) -> Way:
        """By FLUX's ControlNets: of one type, or of all."""
        return Way(class_name="FluxControlNetModel", look=self._look, encode=self.encode, modes=MODES, adopt=_adopt)

    def encode_words(self, prompt: str, adapters: str) -> Words:
        """What T5 reads of every token, and CLIP of the whole."""
        clip, t5 = self._parts["tokenizer"], self._parts["tokenizer_2"]
        short = clip(
            [prompt], padding="max_length", max_length=clip.model_max_length, truncation=True, return_tensors="pt"
        )
        long = t5([prompt], padding="max_length", max_length=self._longest_text, truncation=True, return_tensors="pt")
        pooled = self._parts["text_encoder"](short.input_ids.to(self._device.name)).pooler_output
        read = self._parts["text_encoder_2"](long.input_ids.to(self._device.name))[0]
        return {"encoder_hidden_states": read, "pooled_projections": pooled}

    def _arguments(self, lines: Sequence[Line]) -> dict[str, Tensor]:
        sample, words = dit.samples(lines), dit.readings(lines)
        return {
            "hidden_states": dit.to_tokens(sample).to(self._device.dtype),
            "timestep": dit.times(lines, self._device),
            "img_ids": self._positions(sample.shape[2] // 2, sample.shape[3] // 2),
            "txt_ids": torch.zeros(words["encoder_hidden_states"].shape[1], 3, device=self._device.name),
            **words,
        }

    def _look(self, network: Any, lines: Sequence[Line], seen: Tensor, modes: Tensor, strengths: Tensor) -> Added:
        arguments = self._arguments(lines)
        if not network.config.guidance_embeds:
            arguments.pop("guidance", None)
        double, single = network(
            controlnet_cond=dit.to_tokens(seen).to(self._device.dtype),
            controlnet_mode=modes if network.union else None,
            conditioning_scale=strengths.to(self._device.dtype),
            return_dict=False,
            **arguments,
        )
        blocks, single_blocks = self._transformer.transformer_blocks, self._transformer.single_transformer_blocks
        return {
            "controlnet_block_samples": dit_controls.spread(double, len(blocks)),
            "controlnet_single_block_samples": dit_controls.spread(single, len(single_blocks)),
        }

    def _positions(self, height: int, width: int) -> Tensor:
        grid = torch.zeros(height, width, 3, device=self._device.name)
        grid[..., 1] = torch.arange(height, device=self._device.name)[:, None]
        grid[..., 2] = torch.arange(width, device=self._device.name)[None, :]
        return grid.flatten(0, 1)


def _adopt(network: Any) -> Any:
    if network.input_hint_block is not None:
        raise ModelBrokenError("this ControlNet reads pixels, not latents; choose another one made for FLUX.1")
    return network
