"""The last stage of pictures, one at a time and off the way of the steps: autoencoder, pixels, down to the host.

Pictures that are made on the host altogether have a thread of their own, where they keep nobody's autoencoder waiting.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tintype.engine import faults
from tintype.engine.devices import Device
from tintype.engine.family import Drawing, Loaded
from tintype.providers.contract import GenerationRequest

Done = Future[NDArray[np.uint8]]

Made = TypeVar("Made")


class Finisher:
    """One thread, and on CUDA one stream, so that the next steps need not wait for it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine-finish")
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine-aside")
        self._stream = torch.cuda.Stream(device.name) if device.name.startswith("cuda") else None

    def begin(self, model: Loaded, drawing: Drawing, request: GenerationRequest) -> Done:
        """The picture of the drawing's last latents, in a while; fails with what the device says."""
        if drawing.is_apart:
            return self._aside.submit(model.finish, drawing, request)
        return self.compute(drawing.sampled.latents, lambda: model.finish(drawing, request))

    def compute(self, latents: Tensor, work: Callable[[], Made]) -> Future[Made]:
        """What `work` makes of `latents` that the engine's thread has computed, or will have; in a while."""
        computed = torch.cuda.Event() if self._stream else None
        if computed is not None:
            computed.record(torch.cuda.current_stream(self._device.name))
        return self._thread.submit(self._run, latents, work, computed)

    def close(self) -> None:
        """Take no more; what is being finished ends with the process."""
        for thread in (self._thread, self._aside):
            thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, latents: Tensor, work: Callable[[], Made], computed: "torch.cuda.Event | None") -> Made:
        with torch.inference_mode(), faults.named(self._device.label):
            if self._stream is None or computed is None:
                return work()
            with torch.cuda.stream(self._stream):
                self._stream.wait_event(computed)
                latents.record_stream(self._stream)
                return work()
