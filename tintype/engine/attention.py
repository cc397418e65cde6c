"""How this device computes attention fastest: by which kernel, and whether one product makes queries, keys and values.

Both are measured where the engine first runs on a device and kept with its costs, because another way gives other bits:
what is promised of a seed holds between devices that compute in the same way.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from tintype import logs
from tintype.engine.devices import Device
from tintype.providers.contract import ProviderError

log = logs.get("engine")

KERNELS: Mapping[str, SDPBackend] = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
"""Those of torch, which is all that diffusers can use without further packages. The first one is what torch prefers."""
USUAL = next(iter(KERNELS))
ON: Mapping[str, Sequence[str]] = {"cuda": tuple(KERNELS), "cpu": (USUAL, "math"), "mps": ("math",)}

GAIN = 0.9
"""Another way has to take less than this share of what the usual one takes."""
RUNS = 5
HEADS, HEAD_WIDTH = 10, 64
TOKENS = {"cuda": 4096, "cpu": 256, "mps": 256}
"""Of the trial, two lines of so many: a picture of a million pixels in SDXL's middle; on a CPU a small one."""

JOINED, APART = "joined", "apart"


class KernelMissingError(ProviderError):
    """The kernel that the settings name cannot be used here."""

    def __init__(self, name: str, device: Device, there: Sequence[str]) -> None:
        detail = f"TINTYPE_ENGINE_ATTENTION={name}: {device.label} has no such kernel; use auto or {' or '.join(there)}"
        super().__init__(detail, code="kernel_missing", retryable=False)


@dataclass(frozen=True, kw_only=True)
class Way:
    """The kernel, whether projections are joined, and what was measured: seconds by kernel, and of both projections.

    `library` is the version of torch that was measured with; another one may have other kernels.
    """

    kernel: str
    is_joined: bool
    seconds: Mapping[str, float]
    library: str = torch.__version__

    def label(self, device: Device) -> str:
        """What to call the device, so that those that compute in another way are told apart."""
        marks = [f"{self.kernel} attention"] if self.kernel != USUAL else []
        marks += ["joined projections"] if self.is_joined else []
        return ", ".join([device.label, *marks])

    def describe(self) -> str:
        """A line for people to read."""
        measured = ", ".join(f"{name} {seconds * 1000:.3g} ms" for name, seconds in self.seconds.items())
        return f"attention by {self.kernel}, projections {JOINED if self.is_joined else APART}: {measured}"

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "kernel": self.kernel,
            "is_joined": self.is_joined,
            "seconds": dict(self.seconds),
            "library": self.library,
        }


def restore(kept: Mapping[str, Any]) -> Way | None:
    """What `dump` gave; None where nothing was kept, or by another version of torch, which may compute otherwise.

    Raises:
        ValueError: it is not what `dump` gives.
    """
    if not kept or kept.get("library") != torch.__version__:
        return None
    try:
        seconds = {str(name): float(value) for name, value in kept["seconds"].items()}
        way = Way(kernel=str(kept["kernel"]), is_joined=bool(kept["is_joined"]), seconds=seconds)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("the kept way of attention cannot be read") from error
    if way.kernel not in KERNELS:
        raise ValueError(f"the kept way of attention names a kernel {way.kernel!r} that does not exist")
    return way


def choose(device: Device, configured: str, kept: Way | None) -> Way:
    """The way for this device: what was kept, else measured; the kernel is the `configured` one unless that is `auto`.

    A CPU stays with the usual way, whatever is measured: what a busy one measures changes from one worker to the next,
    and all of them must draw the same.

    Raises:
        KernelMissingError: the configured kernel cannot be used here.
    """
    kind = device.name.partition(":")[0]
    if configured != "auto" and configured not in ON[kind]:
        raise KernelMissingError(configured, device, ON[kind])
    way = kept or measure(device)
    if kept is None and kind == "cpu":
        way = replace(way, kernel=USUAL, is_joined=False)
    if configured == "auto":
        return way
    if configured not in way.seconds:
        raise KernelMissingError(configured, device, [name for name in ON[kind] if name in way.seconds])
    return replace(way, kernel=configured)


def measure(device: Device) -> Way:
    """The fastest way, by trial; what is usual stays unless another takes a tenth less."""
    kind = device.name.partition(":")[0]
    tokens = TOKENS[kind]
    seconds: dict[str, float] = {}
    heads = torch.ones(2, HEADS, tokens, HEAD_WIDTH, device=device.name, dtype=device.dtype)
    for name in ON[kind]:
        try:
            with sdpa_kernel(KERNELS[name]):
                attend = partial(functional.scaled_dot_product_attention, heads, heads, heads)
                seconds[name] = _least_s(attend, device)
        except RuntimeError as error:
            log.debug("a kernel cannot be used here", kernel=name, error=str(error))
    width = HEADS * HEAD_WIDTH
    sample = torch.ones(2, tokens, width, device=device.name, dtype=device.dtype)
    weights = torch.ones(3 * width, width, device=device.name, dtype=device.dtype)
    each = weights.split(width)
    seconds[APART] = _least_s(lambda: [functional.linear(sample, one) for one in each], device)
    seconds[JOINED] = _least_s(lambda: functional.linear(sample, weights), device)
    usable = [name for name in ON[kind] if name in seconds]
    usual, fastest = usable[0], min(usable, key=lambda name: seconds[name])
    way = Way(
        kernel=fastest if seconds[fastest] < GAIN * seconds[usual] else usual,
        is_joined=seconds[JOINED] < GAIN * seconds[APART],
        seconds=seconds,
    )
    log.info("attention measured", device=device.label, way=way.describe())
    return way


def use(way: Way) -> None:
    """Let the whole process compute so. What this kernel cannot compute, such as with masks, the others do in order."""
    order = list(dict.fromkeys([way.kernel, *KERNELS]))
    allowed = [KERNELS[name] for name in order[: order.index("math") + 1]]
    _USED.close()
    _USED.enter_context(sdpa_kernel(allowed, set_priority=True))


_USED = ExitStack()
"""torch sets kernels for as long as a context lasts; this one lasts."""


def _least_s(work: Callable[[], object], device: Device) -> float:
    """The seconds of the quickest of several runs."""
    least = float("inf")
    with torch.inference_mode():
        for _ in range(RUNS):
            begun = time.perf_counter()
            work()
            if device.name.startswith("cuda"):
                torch.cuda.synchronize(device.name)
            least = min(least, time.perf_counter() - begun)
    return least
