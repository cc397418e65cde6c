"""The one file of weights of an upscaler: what it holds, read from its header alone, and the network it makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from tintype.engine import faults
from tintype.engine.devices import Device
from tintype.engine.enlarging import foreign, layouts
from tintype.engine.enlarging.layouts import Layout
from tintype.engine.enlarging.networks import Enlarger
from tintype.engine.loading import ModelBrokenError

FAULTS = (OSError, ValueError, RuntimeError, KeyError, SafetensorError)


@dataclass(frozen=True)
class File:
    """A file in safetensors, with networks of ESRGAN's kind or, where `spandrel` is installed, of another."""

    path: Path

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """What is in it, by name.

        Raises:
            ModelBrokenError: it is damaged.
        """
        try:
            with safe_open(self.path, framework="pt") as opened:
                return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        except FAULTS as error:
            raise _broken(self.path, error) from error

    @cached_property
    def layout(self) -> Layout | None:
        """How its weights are named; None where only `spandrel` can tell."""
        return layouts.recognise(self.shapes)

    @cached_property
    def enlarger(self) -> Enlarger:
        """The kind of network.

        Raises:
            ModelBrokenError: it is damaged.
            ArchitectureUnknownError: it is none of ESRGAN's kind.
        """
        return foreign.Foreign(self.path) if self.layout is None else self.layout.enlarger

    def load(self, device: Device) -> nn.Module:
        """The network on the device, on GPUs in half precision where that is known to suffice.

        Raises:
            ModelBrokenError: it is damaged.
            OutOfMemoryError, DeviceBrokenError: as the device says.
        """
        dtype = torch.float32 if device.is_host or self.layout is None else torch.float16
        names = {name: name for name in self.shapes} if self.layout is None else self.layout.names
        try:
            with faults.named(device.label), safe_open(self.path, framework="pt", device=device.name) as opened:
                return self.enlarger.build({ours: opened.get_tensor(name).to(dtype) for name, ours in names.items()})
        except FAULTS as error:
            raise _broken(self.path, error) from error


def find(folder: Path) -> File:
    """The file of weights in a folder.

    Raises:
        ModelBrokenError: there is none, or more than one.
    """
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise ModelBrokenError(f"{folder} holds {len(found)} files in safetensors; leave one, the upscaler's weights")
    return File(found[0])


def _broken(path: Path, error: Exception) -> ModelBrokenError:
    reason = str(error).splitlines()[0]
    return ModelBrokenError(f"the upscaler in {path} cannot be loaded ({reason}); `tintype doctor` checks its files")
