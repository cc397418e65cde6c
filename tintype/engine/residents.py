"""The models that are loaded: brought to the device and put aside as the schedule says."""

import gc
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from tintype import logs, settings
from tintype.engine import compiling, families, redrawing, streaming
from tintype.engine.beside import Beside
from tintype.engine.compiling import CompiledModel
from tintype.engine.devices import Device
from tintype.engine.family import Loaded, Outline
from tintype.engine.scheduling.residency import Place, Placement, Residency, Swap
from tintype.engine.streaming import Streamed
from tintype.providers.contract import ModelFiles

HOST = "cpu"
USABLE = 0.9
"""The share of a device's or the host's free memory that is planned with; the rest is for libraries and fragments."""

Stamp = tuple[tuple[str, int, int], ...]
"""What changes when a file of a model does: paths, when they were written, and sizes."""

log = logs.get("engine")


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

    def __init__(self, device: Device, residency: Residency, engine: settings.Engine) -> None:
        self._device = device
        self._engine = engine
        self._residency = residency
        self._outlines: dict[ModelFiles, tuple[Stamp, Outline]] = {}
        self._loaded: dict[str, Loaded] = {}
        self._streamed: dict[str, list[Streamed]] = {}
        self._beside: dict[str, Beside] = {}
        self._by_id: dict[str, Outline] = {}

    def outline(self, files: ModelFiles) -> Outline:
        """The outline of a model; the schedule's bookkeeping learns its size.

        Raises:
            ModelBrokenError: its files cannot be read.
        """
        if files not in self._outlines:
            stamp = _stamp(Path(files.folder))
            found = families.outline(files)
            if files.family not in families.UNGUIDED:
                found = redrawing.Outline(found)
            self._residency.learn(files.id, weights_bytes=found.weight_bytes, block_bytes=found.block_bytes)
            self._outlines[files] = stamp, found
            self._by_id[files.id] = found
        return self._outlines[files][1]

    def has_changed(self, files: ModelFiles) -> bool:
        """Whether the model's files are others than when its outline was made."""
        return files in self._outlines and self._outlines[files][0] != _stamp(Path(files.folder))

    def renew(self, files: ModelFiles) -> None:
        """Forget a model that nobody works with, for its files have changed."""
        del self._outlines[files]
        self._residency.release(files.id)
        self.forget(files.id)

    def get(self, model_id: str, *, is_written: bool = False) -> Loaded:
        """A loaded model; where it `is_written`, as it is without ever being compiled."""
        model = self._loaded[model_id]
        return model.written if is_written and isinstance(model, CompiledModel) else model

    def perform(self, swap: Swap) -> None:
        """Put models aside, and load one.

        Raises:
            ModelBrokenError: its files cannot be used.
            OutOfMemoryError: the device's memory does not suffice.
        """
        for shed in swap.shed:
            log.info("letting go of what requests brought", model=shed.model)
            self._beside[shed.model].drop(shed.keep)
        for eviction in swap.evict:
            log.info("putting a model aside", model=eviction.model, to=eviction.to.value)
            if eviction.to is Place.HOST:
                self._put_in_host(self._loaded[eviction.model])
            else:
                self._drop(eviction.model)
        if swap.evict or swap.shed:
            self.free()
        if swap.load is None:
            return
        is_streaming = swap.placement is Placement.STREAMED
        log.info(
            "loading model",
            model=swap.load,
            device=self._device.label,
            origin=swap.origin.value,
            placement=swap.placement.value,
        )
        if swap.load not in self._loaded:
            self._beside[swap.load] = Beside()
            device = replace(self._device, is_streaming=is_streaming, beside=self._beside[swap.load])
            self._loaded[swap.load] = compiling.wrap(self._by_id[swap.load].load(device), device, self._engine)
            if not is_streaming:
                return
        elif is_streaming != (swap.load in self._streamed):
            self._loaded[swap.load].move(HOST)
        self._stream(swap.load, is_streaming=is_streaming)
        self._loaded[swap.load].move(self._device.name)

    def _put_in_host(self, model: Loaded) -> None:
        model.move(HOST)
        if self._device.name.startswith("cuda"):
            for part in model.parts.values():
                if isinstance(part, torch.nn.Module):
                    streaming.pin(part)

    def _stream(self, model_id: str, *, is_streaming: bool) -> None:
        """Have a model in host memory streamed from now on, or whole."""
        if is_streaming and model_id not in self._streamed:
            self._streamed[model_id] = streaming.begin(self._loaded[model_id].parts, self._device.name)
        elif not is_streaming:
            for streamed in self._streamed.pop(model_id, ()):
                streamed.end()

    def _drop(self, model_id: str) -> None:
        self._loaded.pop(model_id, None)
        self._streamed.pop(model_id, None)
        self._beside.pop(model_id, None)

    def forget(self, model_id: str) -> None:
        """Give up what is left of a model whose loading failed."""
        self._drop(model_id)
        self.free()

    def note_beside(self, model_id: str) -> None:
        """Take down what a loaded model keeps beside its weights by now."""
        if (kept := self._beside.get(model_id)) is not None:  # it can have been put aside meanwhile
            self._residency.note_beside(model_id, loose=kept.loose(), fixed_bytes=kept.fixed_bytes)

    def relieve(self) -> None:
        """Let go of everything that can be had again, on a shortage."""
        for model_id, kept in self._beside.items():
            kept.drop()
            self.note_beside(model_id)
        self.free()

    def free(self) -> None:
        """Give memory that nothing refers to back to the device."""
        gc.collect()
        if self._device.name.startswith("cuda"):
            torch.cuda.empty_cache()


def _stamp(folder: Path) -> Stamp:
    found = ((path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in found)
