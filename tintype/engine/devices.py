"""Where tensors live and how many threads compute: chosen once, by measurement where a guess would be wrong."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from tintype import logs
from tintype.engine.beside import Beside
from tintype.providers.contract import ProviderError

log = logs.get("engine")

MEASURED_RUNS = 3


class DeviceMissingError(ProviderError):
    """The device the settings name is not there."""

    def __init__(self, name: str, reason: str) -> None:
        detail = f"TINTYPE_ENGINE_DEVICE={name}: there is no such device here ({reason}); use auto or cpu"
        super().__init__(detail, code="device_missing", retryable=False)


@dataclass(frozen=True, kw_only=True)
class Device:
    """A place to compute: its torch name, the precision used there and what to call it.

    Where it `is_streaming` a model is loaded whose weights stay in host memory. Where it
    `joins_projections` one product makes queries, keys and values. `beside` is one model's alone.
    """

    name: str
    dtype: torch.dtype
    label: str
    is_streaming: bool = False
    joins_projections: bool = False
    beside: Beside = field(default_factory=Beside, compare=False)

    @property
    def is_host(self) -> bool:
        """Whether it computes in the host's own memory."""
        return self.name == "cpu"

    @property
    def weights_name(self) -> str:
        """The torch name of the place where a model's weights are loaded to."""
        return "cpu" if self.is_streaming else self.name


def choose(configured: str) -> Device:
    """The device to use; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Half precision is used on GPUs only: CPUs without matrix units are slower with it.

    Raises:
        DeviceMissingError: there is no such device here.
    """
    name = configured
    if configured == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    _require(name)
    if name.startswith("cuda"):
        # What is in float32 is there to be exact: by default convolutions would round it to 10 bits (TF32).
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        return Device(name=name, dtype=torch.bfloat16, label=f"{name} ({torch.cuda.get_device_name(name)})")
    if name == "mps":
        return Device(name=name, dtype=torch.float16, label="mps")
    return Device(name="cpu", dtype=torch.float32, label=f"cpu ({os.cpu_count()} cores)")


def _require(name: str) -> None:
    try:
        torch.empty(1, device=name)
    # What torch raises depends on the device it lacks: a driver's fault, a build without CUDA, an unknown back end.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceMissingError(name, str(error).splitlines()[0]) from error


def numbers(values: Sequence[float], name: str, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor of a few numbers on the device `name`, without waiting for what the device has still to compute."""
    is_cuda = name.startswith("cuda")
    return torch.tensor(values, dtype=dtype, pin_memory=is_cuda).to(name, non_blocking=is_cuda)


def choose_threads(configured: int, step: Callable[[], object]) -> int:
    """Set and return the number of compute threads that makes `step` fastest.

    With a busy neighbour on a shared machine two threads can be many times slower than one, so candidates are timed;
    one thread wins unless another is at least a tenth faster.
    """
    if configured:
        torch.set_num_threads(configured)
        return configured
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    best, best_s = 1, _median_s(1, step)
    threads = 2
    while threads <= cores:
        took_s = _median_s(threads, step)
        if took_s < 0.9 * best_s:
            best, best_s = threads, took_s
        threads *= 2
    torch.set_num_threads(best)
    log.info("compute threads chosen", threads=best, step_ms=round(best_s * 1000, 1))
    return best


def _median_s(threads: int, step: Callable[[], object]) -> float:
    torch.set_num_threads(threads)
    step()
    times: list[float] = []
    for _ in range(MEASURED_RUNS):
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    return sorted(times)[len(times) // 2]
