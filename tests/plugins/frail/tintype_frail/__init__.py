"""The engine itself on a device that fails: torch raises there what it raises on a real one.

Its folder first on PYTHONPATH puts it in the engine's place. While the file that FRAIL_DEVICE names is there, moving
weights to the device and attention raise the error the file holds: `out_of_memory 3` three times, then the file goes;
`broken` from then on for ever, also without the file, as a CUDA context does after its first error.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tintype.engine import provider


def create() -> provider.EngineProvider:
    """The engine, in whose thread every call of torch passes the frail device."""
    engine = provider.create()
    orders = Path(os.environ["FRAIL_DEVICE"])
    engine._runner.add_done_callback(lambda ready: ready.result()._inbox.put(lambda: _enter(orders)))
    return engine


def _enter(orders: Path) -> None:
    import torch
    from torch.overrides import TorchFunctionMode

    class Frail(TorchFunctionMode):
        is_broken = False

        def __torch_function__(
            self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping | None = None
        ) -> Any:
            is_move = function is torch.Tensor.to and args[0].ndim > 1  # of weights, not of a sampler's few numbers
            if is_move or function is torch.nn.functional.scaled_dot_product_attention:
                self._touch()
            return function(*args, **(kwargs or {}))

        def _touch(self) -> None:
            order, _, times = orders.read_text().partition(" ") if orders.exists() else ("", "", "")
            if order == "out_of_memory":
                left = int(times) - 1
                orders.write_text(f"{order} {left}") if left else orders.unlink()
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            self.is_broken |= order == "broken"
            if self.is_broken:
                raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with ...")

    Frail().__enter__()
