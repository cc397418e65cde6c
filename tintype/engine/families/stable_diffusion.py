"""The family of Stable Diffusion 1 and 2: a UNet that reads one CLIP text encoder."""

from typing import Any

from tintype.engine import layouts
from tintype.engine.clip_prompts import Encoder, Reader
from tintype.engine.devices import Device
from tintype.engine.family import Words
from tintype.engine.unet_model import Size, UNetModel
from tintype.engine.unet_outline import UNetOutline
from tintype.providers.contract import GenerationRequest, ModelFiles


def outline(files: ModelFiles) -> UNetOutline:
    """The outline of such a model, in a folder of diffusers' layout or in a single file."""
    return UNetOutline(files, layouts.read(files), _load)


def _load(outline: UNetOutline, device: Device) -> UNetModel:
    parts = outline.checkpoint.load(device)
    return UNetModel(outline, parts, StableDiffusionWords(outline, parts), device)


class StableDiffusionWords:
    """Reads the last states of the text encoder."""

    def __init__(self, outline: UNetOutline, parts: dict[str, Any]) -> None:
        tokenizer = outline.checkpoint.tokenizers["tokenizer"]
        self._reader = Reader([Encoder(network=parts["text_encoder"], tokenizer=tokenizer, layer="last")])

    def read(self, request: GenerationRequest, size: Size, *, adapters: str) -> tuple[Words, Words]:
        """The states with the words of the prompt, and with those of the negative prompt."""
        with_words, without = self._reader.read_both(request, chunks=size.chunks, adapters=adapters)
        return {"encoder_hidden_states": with_words.tokens}, {"encoder_hidden_states": without.tokens}

    def forget(self) -> None:
        """Let go of every reading."""
        self._reader.forget()
