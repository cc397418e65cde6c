"""Depths of a photograph by a network of transformers, such as Depth Anything or DPT; on the host."""

from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from tintype.engine import loading
from tintype.engine.loading import ModelBrokenError

FAILURES = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, safetensors.SafetensorError)
"""What transformers raises over a folder it cannot load."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, where the folder says nothing."""
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
    network, reading = _load(folder)
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


@lru_cache(maxsize=1)
def _load(folder: Path) -> tuple[Any, dict[str, Any]]:
    path = folder / "preprocessor_config.json"
    reading = loading.config(path) if path.exists() else {}
    try:
        network, found = transformers.AutoModelForDepthEstimation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except FAILURES as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelBrokenError(
            f"the depth estimator in {folder} cannot be loaded ({reason}); install it anew"
        ) from error
    if found["missing_keys"] or found["mismatched_keys"]:
        raise ModelBrokenError(f"the depth estimator in {folder} lacks weights; install it anew")
    return network.float().eval().requires_grad_(requires_grad=False), reading


def _prepared(pixels: NDArray[np.uint8], reading: dict[str, Any]) -> torch.Tensor:
    """The picture as the network takes it: [1, 3, height, width]."""
    height, width = _size(pixels.shape[0], pixels.shape[1], reading)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    shares = np.asarray(resized, np.float32) / 255
    mean, std = (np.float32(reading.get(name, usual)) for name, usual in (("image_mean", MEAN), ("image_std", STD)))
    return torch.from_numpy(np.ascontiguousarray(((shares - mean) / std).transpose(2, 0, 1)[None]))


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
