"""The models that are loaded: brought to the device and put aside as the schedule says."""

import gc
from collections.abc import Mapping

import psutil
import torch

from tintype import logs
from tintype.engine import families, redrawing
from tintype.engine.devices import Device
from tintype.engine.family import Loaded, Outline
from tintype.engine.scheduling.residency import Place, Placement, Residency, Swap
from tintype.providers.contract import ModelFiles, ProviderError

HOST = "cpu"
USABLE = 0.9
"""The share of a device's or the host's free memory that is planned with; the rest is for libraries and fragments."""

log = logs.get("engine")


class StreamingMissingError(ProviderError):
    """The model is larger than the device."""

    def __init__(self, model_id: str, label: str) -> None:
        super().__init__(
            f"model {model_id!r} is larger than {label}; run a worker on a larger device",
            code="out_of_memory",
            retryable=True,
        )


def measure(device: Device, configured_bytes: int) -> Residency:
    """Bookkeeping over what this device and its host have free; `configured_bytes` above 0 limits the device."""
    host_bytes = int(USABLE * psutil.virtual_memory().available)
    if device.is_host:
        return Residency(device_limit_bytes=configured_bytes or host_bytes, host_limit_bytes=0)
    if device.name.startswith("cuda"):
        free_bytes = torch.cuda.mem_get_info(device.name)[0]
    else:
        free_bytes = torch.mps.recommended_max_memory()
    return Residency(device_limit_bytes=configured_bytes or int(USABLE * free_bytes), host_limit_bytes=host_bytes // 2)


class Residents:
    """Outlines of all models that were asked about, and the loaded ones. Used by the engine's thread."""

    def __init__(self, device: Device, residency: Residency) -> None:
        self._device = device
        self._residency = residency
        self._outlines: dict[ModelFiles, Outline] = {}
        self._loaded: dict[str, Loaded] = {}
        self._by_id: dict[str, Outline] = {}

    @property
    def outlines(self) -> Mapping[str, Outline]:
        """Every known model by id."""
        return self._by_id

    def outline(self, files: ModelFiles) -> Outline:
        """The outline of a model; the schedule's bookkeeping learns its size.

        Raises:
            ModelBrokenError: its files cannot be read.
        """
        if files not in self._outlines:
            found = families.outline(files)
            if files.family not in families.UNGUIDED:
                found = redrawing.Outline(found)
            self._residency.learn(files.id, weights_bytes=found.weight_bytes)
            self._outlines[files] = self._by_id[files.id] = found
        return self._outlines[files]

    def get(self, model_id: str) -> Loaded:
        """A loaded model."""
        return self._loaded[model_id]

    def perform(self, swap: Swap) -> None:
        """Put models aside, and load one.

        Raises:
            ModelBrokenError: its files cannot be used.
            OutOfMemoryError: the device's memory does not suffice.
        """
        for eviction in swap.evict:
            log.info("putting a model aside", model=eviction.model, to=eviction.to.value)
            if eviction.to is Place.HOST:
                self._loaded[eviction.model].move(HOST)
            else:
                self._loaded.pop(eviction.model, None)
        if swap.evict:
            self.free()
        if swap.load is None:
            return
        if swap.placement is Placement.STREAMED:
            raise StreamingMissingError(swap.load, self._device.label)
        log.info("loading model", model=swap.load, device=self._device.label, origin=swap.origin.value)
        if (kept := self._loaded.get(swap.load)) is not None:
            kept.move(self._device.name)
        else:
            self._loaded[swap.load] = self._by_id[swap.load].load(self._device)

    def forget(self, model_id: str) -> None:
        """Give up what is left of a model whose loading failed."""
        self._loaded.pop(model_id, None)
        self.free()

    def free(self) -> None:
        """Give memory that nothing refers to back to the device."""
        gc.collect()
        if self._device.name.startswith("cuda"):
            torch.cuda.empty_cache()
