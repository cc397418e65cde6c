"""Networks of transformers that tell something of a photograph, from a folder as the Hub has it; on the host."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tintype.engine import loading
from tintype.engine.loading import ModelBrokenError
from tintype.inference import hub_folders

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, where the folder says nothing."""


@lru_cache(maxsize=2)
def load(folder: Path, kind: Any) -> tuple[Any, dict[str, Any]]:
    """The network of the transformers class `kind`, and how it wants pictures to be read.

    Raises:
        ModelBrokenError: it cannot be loaded, or weights are missing.
    """
    path = folder / "preprocessor_config.json"
    reading = loading.config(path) if path.exists() else {}
    try:
        network, found = hub_folders.load(kind, folder)
    except hub_folders.FAILURES as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelBrokenError(f"the network in {folder} cannot be loaded ({reason}); install it anew") from error
    if found["missing_keys"] or found["mismatched_keys"]:
        raise ModelBrokenError(f"the network in {folder} lacks weights; install it anew")
    return network.float().eval().requires_grad_(requires_grad=False), reading


def standardise(pixels: NDArray[np.uint8], reading: dict[str, Any]) -> torch.Tensor:
    """Pixels [height, width, 3] as the network takes them: float32 [1, 3, height, width]."""
    mean, std = (
        np.array(reading.get(name, usual), np.float32) for name, usual in (("image_mean", MEAN), ("image_std", STD))
    )
    standing = (pixels.astype(np.float32) / 255 - mean) / std
    return torch.from_numpy(np.ascontiguousarray(standing.transpose(2, 0, 1)[None]))
