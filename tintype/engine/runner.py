"""Runs one request in the engine's thread: tick by tick, as the schedule says, until done or told to stop."""

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from tintype import logs
from tintype.engine import devices, faults
from tintype.engine.families.sketch import Drawing, Sketch
from tintype.engine.schedule import Schedule
from tintype.providers.contract import GenerationRequest, ModelFiles, Output, Progress

FAMILIES: dict[str, Callable[..., Sketch]] = {"sketch": Sketch}

log = logs.get("engine")


class Runner:
    """The loaded models of one device. Used by one thread."""

    def __init__(self, *, device: str, threads: int) -> None:
        self.device = devices.choose(device)
        self._threads = threads
        self._models: dict[str, Sketch] = {}
        torch.set_grad_enabled(mode=False)

    def load(self, files: ModelFiles) -> Sketch:
        """The model, loaded if it is not yet; where memory is short, the others are freed for it.

        Raises:
            ModelBrokenError: its files cannot be used.
            NoRoomError: memory does not suffice.
            DeviceBrokenError: the device failed.
        """
        if files.id in self._models:
            return self._models[files.id]
        log.info("loading model", model=files.id, device=self.device.label)
        make = FAMILIES[files.family]
        for are_others_freed in (False, True):
            try:
                with faults.named(self.device.label):
                    self._models[files.id] = make(Path(files.folder), self.device, threads=self._threads)
                break
            except faults.OutOfMemoryError as error:
                if are_others_freed:
                    raise faults.NoRoomError(files.id, self.device.label) from error
            self._free(keep=files.id)
        return self._models[files.id]

    def run(self, request: GenerationRequest, stop: threading.Event) -> Iterator[Progress | Output]:
        """Progress after every step and each picture as it is done; ends early, between steps, when `stop` is set.

        Raises:
            ProviderError: the model cannot be loaded, memory does not suffice or the device failed.
        """
        finished: set[int] = set()
        for are_others_freed in (False, True):
            try:
                with faults.named(self.device.label):
                    yield from self._run(request, stop, finished)
                return
            except faults.OutOfMemoryError:
                if are_others_freed:
                    raise
            log.warning("out of memory, trying once more with everything else freed", model=request.model.id)
            self._free(keep=request.model.id)  # not in the handler: the error holds the tensors of the failed step

    def _run(
        self, request: GenerationRequest, stop: threading.Event, finished: set[int]
    ) -> Iterator[Progress | Output]:
        model = self.load(request.model)
        schedule = Schedule(seeds=request.seeds, steps=request.steps, finished=finished)
        drawings: dict[int, Drawing] = {}
        yield Progress(step=schedule.done, steps=schedule.total)
        while (row := schedule.pick()) is not None and not stop.is_set():
            if row.index not in drawings:
                drawings[row.index] = model.begin(
                    prompt=request.prompt,
                    negative_prompt=request.negative_prompt,
                    width=request.width,
                    height=request.height,
                    seed=row.seed,
                    steps=request.steps,
                    guidance_scale=request.guidance_scale,
                )
            model.advance(drawings[row.index])
            schedule.advance(row)
            yield Progress(step=schedule.done, steps=schedule.total)
            if row.is_done:
                pixels = model.finish(drawings.pop(row.index))
                finished.add(row.index)
                yield Output(index=row.index, seed=row.seed, pixels=pixels)

    def _free(self, *, keep: str) -> None:
        self._models = {name: model for name, model in self._models.items() if name == keep}
        gc.collect()
        if self.device.name.startswith("cuda"):
            torch.cuda.empty_cache()
