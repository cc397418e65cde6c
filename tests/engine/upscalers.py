"""Upscalers with random weights, small ones, in every way of naming; and what they compute, written out."""

import math
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, leaky_relu, pixel_shuffle, pixel_unshuffle, prelu

from tintype.providers.contract import ModelFiles

Weights = dict[str, Tensor]


def dense(*, doublings: int = 1, folding: int = 1, colours: int = 3, features: int = 8, blocks: int = 1) -> Weights:
    """An ESRGAN as its first release named it; its answers stay near the picture that it is given."""
    generator = torch.Generator().manual_seed(3)
    growth, found = 4, Weights()

    def conv(name: str, taken: int, given: int) -> None:
        scale = 1 / math.sqrt(9 * taken)
        found[f"{name}.weight"] = torch.randn(given, taken, 3, 3, generator=generator) * scale
        found[f"{name}.bias"] = torch.randn(given, generator=generator) * 0.05

    conv("model.0", colours * folding**2, features)
    for block in range(blocks):
        for part in (1, 2, 3):
            for index in range(5):
                taken, given = features + index * growth, growth if index < 4 else features
                conv(f"model.1.sub.{block}.RDB{part}.conv{index + 1}.0", taken, given)
    conv(f"model.1.sub.{blocks}", features, features)
    for index in range(doublings):
        conv(f"model.{3 + 3 * index}", features, features)
    conv(f"model.{2 + 3 * doublings}", features, features)
    conv(f"model.{4 + 3 * doublings}", features, colours)
    return found


def compact(*, factor: int = 2, layers: int = 2, features: int = 6) -> Weights:
    generator = torch.Generator().manual_seed(4)
    found = Weights()
    for index in range(layers + 2):
        taken, given = 3 if index == 0 else features, features if index <= layers else 3 * factor**2
        found[f"body.{2 * index}.weight"] = torch.randn(given, taken, 3, 3, generator=generator) / math.sqrt(9 * taken)
        found[f"body.{2 * index}.bias"] = torch.zeros(given)
        if index <= layers:
            found[f"body.{2 * index + 1}.weight"] = torch.rand(features, generator=generator)
    return found


SECOND = (
    (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0", r"RRDB_trunk.\1.RDB\2.conv\3"),
    (r"model\.1\.sub\.\d+", "trunk_conv"),
)
REAL = (
    (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0", r"params_ema.body.\1.rdb\2.conv\3"),
    (r"model\.1\.sub\.\d+", "params_ema.conv_body"),
)
ENDS = {"second": ("upconv", "HRconv", ""), "real": ("conv_up", "conv_hr", "params_ema.")}


def renamed(weights: Weights, way: str) -> Weights:
    """The same network as the second release named it, or as Real-ESRGAN does."""
    doubling, fine, prefix = ENDS[way]
    places = sorted({int(match[1]) for name in weights if (match := re.match(r"model\.(\d+)\.\w+$", name))})
    names = {place: f"{prefix}{doubling}{index + 1}" for index, place in enumerate(places[1:-2])}
    names |= {0: f"{prefix}conv_first", places[-2]: f"{prefix}{fine}", places[-1]: f"{prefix}conv_last"}
    found = Weights()
    for name, tensor in weights.items():
        stem, kind = name.rsplit(".", 1)
        for pattern, ours in SECOND if way == "second" else REAL:
            if re.fullmatch(pattern, stem):
                stem = re.sub(pattern, ours, stem)
        if match := re.fullmatch(r"model\.(\d+)", stem):
            stem = names[int(match[1])]
        found[f"{stem}.{kind}"] = tensor
    return found


def compute(weights: Weights, picture: Tensor) -> Tensor:
    """What an ESRGAN of the first release makes of a picture, step by step."""

    def conv(name: str, seen: Tensor) -> Tensor:
        return conv2d(seen, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    folding = math.isqrt(weights["model.0.weight"].shape[1] // picture.shape[1])
    places = sorted({int(match[1]) for name in weights if (match := re.match(r"model\.(\d+)\.\w+$", name))})
    blocks = max(int(match[1]) for name in weights if (match := re.match(r"model\.1\.sub\.(\d+)", name)))
    first = seen = conv("model.0", pixel_unshuffle(picture, folding))
    for block in range(blocks):
        before = seen
        for part in (1, 2, 3):
            found = [seen]
            for index in range(1, 5):
                name = f"model.1.sub.{block}.RDB{part}.conv{index}.0"
                found.append(leaky_relu(conv(name, torch.cat(found, 1)), 0.2))
            seen = seen + 0.2 * conv(f"model.1.sub.{block}.RDB{part}.conv5.0", torch.cat(found, 1))
        seen = before + 0.2 * seen
    seen = first + conv(f"model.1.sub.{blocks}", seen)
    for place in places[1:-2]:
        seen = leaky_relu(conv(f"model.{place}", interpolate(seen, scale_factor=2.0)), 0.2)
    return conv(f"model.{places[-1]}", leaky_relu(conv(f"model.{places[-2]}", seen), 0.2))


def compute_compact(weights: Weights, picture: Tensor, factor: int) -> Tensor:
    seen = picture
    last = max(int(name.split(".")[1]) for name in weights)
    for place in range(last + 1):
        weight, bias = weights[f"body.{place}.weight"], weights.get(f"body.{place}.bias")
        seen = prelu(seen, weight) if bias is None else conv2d(seen, weight, bias, padding=1)
    return pixel_shuffle(seen, factor) + interpolate(picture, scale_factor=float(factor))


def install(folder: Path, weights: Weights, name: str = "upscaler") -> ModelFiles:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, folder / "weights.safetensors")
    return ModelFiles(id=name, family="rrdb", folder=str(folder))


def to_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def to_pixels(made: Tensor) -> np.ndarray:
    return (made[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def landscape(height: int, width: int, seed: int = 1) -> np.ndarray:
    """A picture with soft and with sharp edges: uint8 RGB."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    soft = 128 + 90 * np.sin(rows / 11)[..., None] * np.cos(columns[..., None] / np.array([7.0, 9.0, 13.0]))
    sharp = 40 * ((rows // 17 + columns // 23) % 2)[..., None]
    return (soft + sharp - 20 + rng.normal(0, 4, (height, width, 3))).clip(0, 255).astype(np.uint8)
