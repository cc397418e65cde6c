"""Depths of a photograph by a network of transformers, such as Depth Anything or DPT; on the host."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from tintype.engine.preprocessing import estimators

SIDE = 384
FAR_FIRST = frozenset({"glpn", "zoedepth", "depth_pro"})
"""Networks that tell distances; all others tell nearness, unless their configuration says `metric`."""
LEAST_DISTANCE = 1e-3


@torch.inference_mode()
def estimate(pixels: NDArray[np.uint8], size: tuple[int, int], folder: Path) -> NDArray[np.uint8]:
    """How near everything in a picture is, uint8 [height, width] of `size`: 255 is the nearest, 0 the farthest.

    Raises:
        ModelBrokenError: the network in `folder` cannot be loaded.
    """
    network, reading = estimators.load(folder, transformers.AutoModelForDepthEstimation)
    given = _prepared(pixels, reading)
    found = cast("torch.Tensor", network(given).predicted_depth)[0].float().numpy()
    is_metric = getattr(network.config, "depth_estimation_type", "") == "metric"
    if is_metric or network.config.model_type in FAR_FIRST:
        found = 1 / np.maximum(found, LEAST_DISTANCE)
    least, most = float(found.min()), float(found.max())
    shares = (found - least) / max(most - least, 1e-6)
    height, width = size
    resized = np.asarray(Image.fromarray(shares.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
    return (resized * 255).round().clip(0, 255).astype(np.uint8)


def _prepared(pixels: NDArray[np.uint8], reading: dict[str, Any]) -> torch.Tensor:
    """The picture as the network takes it: [1, 3, height, width]."""
    height, width = _size(pixels.shape[0], pixels.shape[1], reading)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return estimators.standardise(np.asarray(resized), reading)


def _size(height: int, width: int, reading: dict[str, Any]) -> tuple[int, int]:
    """As the folder says: one size, or where the shape is kept, that of the side which is to change less."""
    wanted = reading.get("size", {})
    sides = cast("dict[str, Any]", wanted if isinstance(wanted, dict) else {"height": wanted, "width": wanted})
    down, across = (int(sides.get(name, SIDE)) / along for name, along in (("height", height), ("width", width)))
    if reading.get("keep_aspect_ratio"):
        down = across = across if abs(1 - across) < abs(1 - down) else down
    multiple = int(reading.get("ensure_multiple_of") or 1)
    fitted = [max(multiple, round(along / multiple) * multiple) for along in (height * down, width * across)]
    return fitted[0], fitted[1]
