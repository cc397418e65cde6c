"""The family of Stable Diffusion XL (arXiv 2307.01952): base and refiner, and models distilled from them.

The UNet reads the last but one states of its text encoders, what the second says of the whole prompt, and numbers that
say how large the picture is, or for a refiner how good it is to look.
"""

from typing import Any

import torch
from torch import Tensor

from tintype.engine import layouts
from tintype.engine.clip_prompts import Encoder, Reader, Reading
from tintype.engine.devices import Device
from tintype.engine.family import Words
from tintype.engine.unet_model import Size, UNetModel
from tintype.engine.unet_outline import UNetOutline
from tintype.providers.contract import GenerationRequest, ModelFiles

ENCODERS = (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"))
GOOD, BAD = 6.0, 2.5
"""Aesthetic scores a refiner is told, with the words and without: the defaults of diffusers' pipelines."""


def outline(files: ModelFiles) -> UNetOutline:
    """The outline of such a model, in a folder of diffusers' layout or in a single file."""
    return UNetOutline(files, layouts.read(files), _load)


def _load(outline: UNetOutline, device: Device) -> UNetModel:
    parts = outline.checkpoint.load(device)
    return UNetModel(outline, parts, SdxlWords(outline, parts, device), device)


class SdxlWords:
    """Reads two text encoders side by side; a refiner has the second only."""

    def __init__(self, outline: UNetOutline, parts: dict[str, Any], device: Device) -> None:
        tokenizers, settings = outline.checkpoint.tokenizers, outline.checkpoint.settings
        self._reader = Reader(
            [
                Encoder(network=parts[network], tokenizer=tokenizers[tokenizer], layer="penultimate")
                for network, tokenizer in ENCODERS
                if network in parts
            ]
        )
        self._is_zero_without = settings.get("force_zeros_for_empty_prompt", False)
        self._asks_for_scores = settings.get("requires_aesthetics_score", False)
        self._device = device.name

    def read(self, request: GenerationRequest, size: Size, *, adapters: str) -> tuple[Words, Words]:
        """The states and conditions with the words of the prompt, and with those of the negative prompt.

        Where the model was trained so, an empty negative prompt is no words at all: zeros.
        """
        with_words, without = self._reader.read_both(request, chunks=size.chunks, adapters=adapters)
        plain = self._words(without, self._sizes(size, BAD))
        if self._is_zero_without and not request.negative_prompt:
            zeros = {name: torch.zeros_like(plain[name]) for name in ("encoder_hidden_states", "text_embeds")}
            plain = {**plain, **zeros}
        return self._words(with_words, self._sizes(size, GOOD)), plain

    def forget(self) -> None:
        """Let go of every reading."""
        self._reader.forget()

    def _words(self, reading: Reading, sizes: Tensor) -> Words:
        assert reading.pooled is not None
        return {"encoder_hidden_states": reading.tokens, "text_embeds": reading.pooled, "time_ids": sizes}

    def _sizes(self, size: Size, score: float) -> Tensor:
        """Height and width before cropping, what was cropped, and then the size to reach or the score."""
        last = (score,) if self._asks_for_scores else (size.height, size.width)
        return torch.tensor([[size.height, size.width, 0, 0, *last]], dtype=torch.float32, device=self._device)
