"""Upscalers of every other architecture, read by `spandrel` where that and the torchvision it needs are installed."""

import importlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tintype.providers.contract import ProviderError

PURPOSES = ("SR", "Restoration")
USUAL_NUMBERS_PER_PIXEL = 4096
"""A guess: transformers keep more in flight than networks of ESRGAN's kind."""


class ArchitectureUnknownError(ProviderError):
    """Only another library may know what this network is."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path.name} is no upscaler of ESRGAN's kind, and spandrel cannot read it ({reason}); choose another "
            "model, or run `pip install spandrel torchvision` where the worker runs",
            code="architecture_unknown",
            retryable=False,
        )


class Foreign:
    """A network of another architecture; the library has to build it to tell what it is."""

    multiple = 1

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _described(self) -> Any:
        return self._read(load_file(self._path))

    @property
    def colours(self) -> int:
        """Channels of the pictures it takes."""
        return self._described.input_channels

    @property
    def factor(self) -> int:
        """How many times larger what it gives is."""
        return self._described.scale

    @property
    def numbers_per_pixel(self) -> int:
        """As many as is usual."""
        return USUAL_NUMBERS_PER_PIXEL

    def build(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The network with these weights."""
        first = next(iter(weights.values()))
        return _Described(self._read(dict(weights)).to(first.device).to(first.dtype).eval())

    def _read(self, weights: dict[str, Tensor]) -> Any:
        try:
            spandrel: Any = importlib.import_module("spandrel")
        except (ImportError, RuntimeError) as error:  # torchvision raises either where it does not fit torch
            raise ArchitectureUnknownError(self._path, str(error)) from error
        try:
            described = spandrel.ModelLoader().load_from_state_dict(weights)
        except spandrel.UnsupportedModelError as error:
            raise ArchitectureUnknownError(self._path, "no architecture it knows") from error
        if described.purpose not in PURPOSES:
            raise ArchitectureUnknownError(self._path, f"its purpose is {described.purpose}")
        return described


class _Described(nn.Module):
    """What `spandrel` made of a file: it takes one picture, and fills it up to the size that its network wants."""

    def __init__(self, described: Any) -> None:
        super().__init__()
        self.network: nn.Module = described.model
        self._described = described

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.cat([self._described(picture) for picture in pictures.split(1)])
