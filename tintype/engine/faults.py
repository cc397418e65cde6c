"""What an error of a device means: for the request it hit, and for all that come after it."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from tintype.providers.contract import ProviderError

SHORTAGES = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How a shortage reads where torch has no class of its own for it: MPS, the CPU's allocator, cuBLAS."""

BREAKDOWNS = ("CUDA error", "CUDA driver error", "cuDNN error")


class OutOfMemoryError(ProviderError):
    """The device ran out of memory, and again after everything else was freed."""

    def __init__(self) -> None:
        super().__init__(
            "the device ran out of memory, also after everything else was freed; ask for a smaller picture",
            code="out_of_memory",
            retryable=False,
        )


class NoRoomError(ProviderError):
    """The model does not fit into the memory that is free; other programs may hold it for a while."""

    def __init__(self, model_id: str, label: str) -> None:
        super().__init__(
            f"model {model_id!r} does not fit into the free memory of {label}; end other programs that use it, "
            "or run a worker on a larger device",
            code="out_of_memory",
            retryable=True,
        )


class DeviceBrokenError(ProviderError):
    """The device failed. After such an error nothing works any more on it in this process; in another it may."""

    def __init__(self, label: str, reason: str) -> None:
        super().__init__(
            f"the device {label} failed ({reason}); restart this worker, and check the device if it happens again",
            code="device_broken",
            retryable=True,
        )


@contextmanager
def named(label: str) -> Generator[None]:
    """Names the errors of torch that come from the device `label` and not from what it was asked to do.

    Raises:
        OutOfMemoryError: its memory does not suffice.
        DeviceBrokenError: it failed.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = (str(error).splitlines() or [""])[0]
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or _tells(reason, SHORTAGES):
            raise OutOfMemoryError from error
        if isinstance(error, torch.AcceleratorError) or _tells(reason, BREAKDOWNS):
            raise DeviceBrokenError(label, reason) from error
        raise


def _tells(reason: str, signs: tuple[str, ...]) -> bool:
    return any(sign in reason for sign in signs)
