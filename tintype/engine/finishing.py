"""The last stage of pictures, one at a time and off the way of the steps: autoencoder, pixels, down to the host.

Pictures that are made on the host altogether have a thread of their own, where they keep nobody's autoencoder waiting.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from tintype.engine import faults
from tintype.engine.devices import Device
from tintype.engine.family import Drawing, Loaded
from tintype.providers.contract import GenerationRequest

Done = Future[NDArray[np.uint8]]


class Finisher:
    """One thread, and on CUDA one stream of low priority, so that the next steps go first."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine-finish")
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine-aside")
        self._stream = torch.cuda.Stream(device.name, priority=0) if device.name.startswith("cuda") else None

    def begin(self, model: Loaded, drawing: Drawing, request: GenerationRequest) -> Done:
        """The picture of the drawing's last latents, in a while; fails with what the device says."""
        if drawing.is_apart:
            return self._aside.submit(model.finish, drawing, request)
        computed = torch.cuda.Event() if self._stream else None
        if computed is not None:
            computed.record(torch.cuda.current_stream(self._device.name))
        return self._thread.submit(self._finish, model, drawing, request, computed)

    def close(self) -> None:
        """Take no more; what is being finished ends with the process."""
        for thread in (self._thread, self._aside):
            thread.shutdown(wait=False, cancel_futures=True)

    def _finish(
        self, model: Loaded, drawing: Drawing, request: GenerationRequest, computed: "torch.cuda.Event | None"
    ) -> NDArray[np.uint8]:
        with torch.inference_mode(), faults.named(self._device.label):
            if self._stream is None or computed is None:
                return model.finish(drawing, request)
            with torch.cuda.stream(self._stream):
                self._stream.wait_event(computed)
                drawing.sampled.latents.record_stream(self._stream)
                return model.finish(drawing, request)
