"""How long ticks take, and how far the host may run ahead of a device that computes on its own time."""

import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from tintype.engine.devices import Device

AHEAD = 2
"""Ticks that may be under way on the device: one computes while the next is being put together."""

REMEASURED = 100
"""One in so many ticks is measured whatever is known: compiled code and other programs change the pace."""

HOST_CLOCK = time.thread_time
"""What a CPU's ticks are timed with: the thread's own processor time, so that busy neighbours do not make a batch size
look bad."""


@dataclass
class Took:
    """What a tick took; 0 where it was not waited for."""

    seconds: float = 0.0


class Pace:
    """The clock of one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._ticks = 0
        self._under_way: deque[torch.cuda.Event] = deque()

    @contextmanager
    def measuring(self, *, is_exact: bool) -> Generator[Took]:
        """Time what is computed inside. On CUDA that waits for the device twice: only if it `is_exact`, or its turn."""
        took = Took()
        self._ticks += 1
        is_exact = is_exact or self._ticks % REMEASURED == 0
        is_cuda = self._device.name.startswith("cuda")
        if is_cuda and is_exact:
            torch.cuda.synchronize(self._device.name)
        clock = HOST_CLOCK if self._device.is_host else time.perf_counter
        began = clock()
        yield took
        if not is_cuda:
            took.seconds = clock() - began
        elif is_exact:
            torch.cuda.synchronize(self._device.name)
            took.seconds = clock() - began
            self._under_way.clear()
        else:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self._device.name))
            self._under_way.append(event)
            if len(self._under_way) > AHEAD:
                self._under_way.popleft().synchronize()
