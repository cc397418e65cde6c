"""The LoRAs that a request names, taken into the bank of the model that draws it."""

from pathlib import Path

from tintype.engine.family import Adapter
from tintype.engine.loading import ModelBrokenError
from tintype.engine.loras import Bank
from tintype.providers.contract import GenerationRequest, ModelFiles


def add(bank: Bank, request: GenerationRequest) -> tuple[Adapter, ...]:
    """The request's LoRAs as its lines name them; from here on the bank has them.

    Raises:
        LoraMisfitError: one was made for another model.
        LoraUnsupportedError: one is no plain LoRA, or cannot be read.
        ModelBrokenError: one has no file.
    """
    for lora in request.loras:
        bank.add(lora.model.id, _file(lora.model))
    return tuple(Adapter(name=lora.model.id, weight=lora.weight) for lora in request.loras)


def _file(files: ModelFiles) -> Path:
    """Its one file of weights: itself, or in its folder."""
    place = Path(files.folder)
    found = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    if len(found) != 1:
        raise ModelBrokenError(f"the LoRA {files.id} has {len(found)} files of weights in {place}; install it again")
    return found[0]
