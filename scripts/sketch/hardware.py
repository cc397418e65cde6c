"""Where training runs and how it is kept there: device, threads, clock and checkpoints."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Optimisers with the learning rate that each has at its height.
Optimisers = list[tuple[torch.optim.Optimizer, float]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run: its folder, its device and how long it may take in all, resumed parts included."""

    folder: Path
    device: torch.device
    minutes: float
    started: float = field(default_factory=time.monotonic)

    @property
    def is_gpu(self) -> bool:
        """Tell whether batches should be large."""
        return self.device.type == "cuda"

    def spent_share(self, minutes_before: float) -> float:
        """Give how much of the time is spent, 0 to 1, counting the minutes of earlier parts."""
        return min(1.0, (minutes_before + self.spent_minutes()) / self.minutes)

    def spent_minutes(self) -> float:
        """Give the minutes since this part started."""
        return (time.monotonic() - self.started) / 60


def choose(name: str, threads: int) -> torch.device:
    """Give the device ("auto" takes CUDA where there is one) and set the thread count on a CPU.

    One thread is the default because two collapse beside a busy neighbour.
    """
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    if device.type == "cpu":
        torch.set_num_threads(threads)
    return device


def listen() -> threading.Event:
    """Give an event that SIGTERM or Ctrl-C sets, so that training stops after its step and keeps what it learnt."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load(path: Path) -> dict[str, Any] | None:
    """Give a checkpoint, or None where training has not started."""
    return torch.load(path, map_location="cpu", weights_only=False) if path.exists() else None


def set_rates(optimisers: Optimisers, fade: float) -> None:
    """Set every learning rate to its height times `fade`, 0 to 1."""
    for optimiser, top in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = top * fade


def descend(network: nn.Module, optimisers: Optimisers, loss: Tensor) -> None:
    """Take one step down the loss, with gradients clipped to norm 1."""
    for optimiser, _ in optimisers:
        optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for optimiser, _ in optimisers:
        optimiser.step()
