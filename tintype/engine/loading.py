"""Loading a model folder in diffusers layout: components by the class `model_index.json` names, safetensors only."""

import importlib
import json
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
import transformers
from safetensors import SafetensorError

from tintype.engine import faults
from tintype.inference import turns
from tintype.providers.contract import ProviderError

LIBRARIES = frozenset({"diffusers", "transformers"})
"""Classes come from here only; a folder never brings code of its own."""
UNUSABLE = (OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError, ImportError, SafetensorError)
"""What the libraries raise for files they cannot use: a class they do not have, a package it needs, wrong shapes."""


class ModelBrokenError(ProviderError):
    """The model's files cannot be used."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="model_broken", retryable=False)


def components(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: str,
    precise: frozenset[str] = frozenset(),
    only: frozenset[str] | None = None,
) -> dict[str, Any]:
    """Every component by its name in `model_index.json`; networks in evaluation mode on `device` as `dtype`.

    Those named in `precise` are kept in float32. `only` these are loaded, as far as they are there.

    Raises:
        ModelBrokenError: a file is missing or damaged, or a class is not one of diffusers or transformers.
        OutOfMemoryError: the device's memory does not suffice.
        DeviceBrokenError: the device failed.
    """
    quieten()
    try:
        index = json.loads((folder / "model_index.json").read_text())
        named = {name: entry for name, entry in index.items() if isinstance(entry, list) and entry[0] is not None}
        listed = {name: entry for name, entry in named.items() if only is None or name in only}
        with turns.ONE_MODEL_AT_A_TIME, faults.named(device):
            return {
                name: _component(folder / name, entry, torch.float32 if name in precise else dtype, device)
                for name, entry in listed.items()
            }
    except UNUSABLE as error:
        raise ModelBrokenError(
            f"the model in {folder} cannot be loaded ({error}); `tintype doctor` checks its files"
        ) from error


def network(folder: Path, class_name: str, *, dtype: torch.dtype, device: str) -> Any:
    """The network that lies alone in a folder, in evaluation mode on `device` as `dtype`; a class of either library.

    Raises:
        ModelBrokenError: a file is missing or damaged.
        OutOfMemoryError: the device's memory does not suffice.
        DeviceBrokenError: the device failed.
    """
    quieten()
    try:
        kind: Any = getattr(diffusers, class_name, None) or getattr(transformers, class_name)
        with turns.ONE_MODEL_AT_A_TIME, faults.named(device):
            return _network(kind, folder, dtype, device)
    except UNUSABLE as error:
        raise ModelBrokenError(
            f"the {class_name} in {folder} cannot be loaded ({error}); `tintype doctor` checks its files"
        ) from error


def config(path: Path) -> dict[str, Any]:
    """The values of a configuration file.

    Raises:
        ModelBrokenError: it is missing or no JSON object.
    """
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelBrokenError(f"{path} cannot be read ({error}); `tintype doctor` checks its files") from error
    if not isinstance(values, dict):
        raise ModelBrokenError(f"{path} is not a JSON object; `tintype doctor` checks its files")
    return cast("dict[str, Any]", values)


def quieten() -> None:
    """Their hints and progress bars are for people at a terminal; errors are raised all the same."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()


def _component(folder: Path, entry: list[str], dtype: torch.dtype, device: str) -> Any:
    library, class_name = entry
    if library not in LIBRARIES:
        raise ModelBrokenError(
            f"{folder}: component class {library}.{class_name} is not from diffusers or transformers"
        )
    kind: Any = getattr(importlib.import_module(library), class_name)
    if not issubclass(cast("type", kind), torch.nn.Module):
        return kind.from_pretrained(folder, local_files_only=True)
    return _network(kind, folder, dtype, device)


def _network(kind: Any, folder: Path, dtype: torch.dtype, device: str) -> Any:
    argument = "torch_dtype" if kind.__module__.startswith("diffusers.") else "dtype"
    module = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **{argument: dtype})
    return module.eval().requires_grad_(requires_grad=False).to(device)
