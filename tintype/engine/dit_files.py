"""Where the parts of a diffusion transformer lie: all in one folder, or the transformer alone in a single file.

Transformers that people trained further are shared as single files, in the way of writing of their authors. Text
encoders, autoencoder and configurations are those of the model it was made from: it lies in `base` beside the file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import safetensors.torch
from diffusers.models.modeling_utils import no_init_weights
from safetensors import SafetensorError
from torch import Tensor

from tintype.engine import faults, joined, loading, streaming, weights
from tintype.engine.devices import Device
from tintype.engine.loading import ModelBrokenError
from tintype.inference import turns

TRANSFORMER = "transformer"
PREFIX = "model.diffusion_model."
"""What stands before the transformer's names where a file holds other parts too."""
SCALES = ("scale_weight", "weight_scale", "scale_input", "scaled_fp8")
"""Names that tell weights that have to be multiplied before they mean anything."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """`base` is a folder in diffusers layout; `single` holds the transformer where that is another one."""

    base: Path
    single: Path | None


def find(folder: Path) -> Files:
    """The files of a model.

    Raises:
        ModelBrokenError: neither a folder in diffusers layout nor a single file with its base.
    """
    if (folder / "model_index.json").is_file():
        return Files(base=folder, single=None)
    found = sorted(folder.glob("*.safetensors"))
    base = folder / "base"
    if len(found) != 1 or not (base / "model_index.json").is_file():
        raise ModelBrokenError(
            f"{folder} holds neither model_index.json nor one file of weights beside the model it was made from, "
            "in `base`; install it again"
        )
    return Files(base=base, single=found[0])


def count_weights(files: Files) -> int:
    """The numbers in all its parts.

    Raises:
        ModelBrokenError: a file is missing or damaged.
    """
    if files.single is None:
        return weights.count(files.base)
    return weights.count(files.base, but=TRANSFORMER) + weights.count_file(files.single)


def block_bytes(files: Files) -> int:
    """Half of what it takes on a device while it is streamed through it, in half precision.

    Raises:
        ModelBrokenError: a file is damaged.
    """
    parts = streaming.sizes(files.base, bytes_per_number=2)
    if files.single is not None:
        parts[TRANSFORMER] = streaming.sizes_in(files.single, bytes_per_number=2)
    return streaming.block_bytes(parts)


def load(files: Files, device: Device) -> dict[str, Any]:
    """Every component by its name in `model_index.json`.

    Raises:
        ModelBrokenError: a file is missing or damaged, or written in a way that is not read here.
        OutOfMemoryError: the device's memory does not suffice.
    """
    parts = _load(files, device)
    if device.joins_projections:
        joined.join_all(parts[TRANSFORMER])
    return parts


def _load(files: Files, device: Device) -> dict[str, Any]:
    if files.single is None:
        return loading.components(files.base, dtype=device.dtype, device=device.weights_name)
    index = loading.config(files.base / "model_index.json")
    others = frozenset(name for name, entry in index.items() if isinstance(entry, list) and name != TRANSFORMER)
    parts = loading.components(files.base, dtype=device.dtype, device=device.weights_name, only=others)
    return {**parts, TRANSFORMER: _transformer(files.base, files.single, index[TRANSFORMER][1], device)}


def _transformer(base: Path, single: Path, class_name: str, device: Device) -> Any:
    kind: Any = getattr(diffusers, class_name)
    try:
        tensors = _tensors(single)
        held = sum(tensor.numel() for tensor in tensors.values())
        with turns.ONE_MODEL_AT_A_TIME, faults.named(device.label), no_init_weights():
            network = kind.from_single_file(
                tensors,
                config=str(base),
                subfolder=TRANSFORMER,
                local_files_only=True,
                torch_dtype=device.dtype,
            )
            if held < sum(parameter.numel() for parameter in network.parameters()):
                raise ValueError("some of its weights are missing")
            return network.eval().requires_grad_(requires_grad=False).to(device.weights_name)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelBrokenError(
            f"{single} is no transformer like the one in {base} ({error}); install it with the base it was made from"
        ) from error


def _tensors(single: Path) -> dict[str, Tensor]:
    tensors = safetensors.torch.load_file(single)
    if any(name.endswith(SCALES) for name in tensors):
        raise ValueError("its weights are scaled 8-bit numbers; take the file in 16 bits")
    if not any(name.startswith(PREFIX) for name in tensors):
        return tensors
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
