"""The decoder trained further, on latents as the denoiser leaves them, without changing what latents mean.

Points of stars and arms of crosses are two pixels wide: the autoencoder's own training rounds them off, and the
denoiser's small errors bend them. What it should draw is known, because its latents come from drawn pictures that
were noised part of the way and brought back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from . import autoencoder, denoiser, drawing, hardware, meaning, tokens, wording

SIZES = ((128, 128),) * 6 + ((96, 96), (192, 128), (128, 192), (192, 192))
# How often a shape is kept, 0 to 1, by how often it came out wrong.
WORTH = {"star": 1.0, "cross": 0.6, "ring": 0.6, "square": 0.4}
LEAST_WORTH, SCENE_WORTH = 0.25, 0.5
# How far pictures are noised before the denoiser brings them back: beyond, edges come back in another place.
FROM, TO = 0.15, 0.5
STEPS = 3
# Noise on latents in training, in standard deviations, so that few pictures last longer.
NOISE = 0.06
# How many times more than plain ground the thinnest parts count.
THIN = 5.0


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Latents, channels x H/8 x W/8, and the picture that should come of them, H x W x 3 bytes."""

    latents: Tensor
    picture: np.ndarray


def train(run: hardware.Run, *, rate: float = 2e-3, pictures: int = 2400) -> None:
    """Train for the run's minutes, or go on where the last part stopped."""
    torch.manual_seed(0)
    model = autoencoder.load(run.folder).to(run.device, memory_format=torch.channels_last)
    model.encoder.requires_grad_(False)
    path = run.folder / autoencoder.DECODER_CHECKPOINT
    course = autoencoder.Course(path=path, model=model, optimisers=autoencoder.optimise(model, rate))
    course.resume()
    rng = random.Random(f"{path.name} {course.step}")
    pairs = _draw_pairs(run, model, pictures, rng)
    pixels = (32 if run.is_gpu else 8) << 14

    def loss() -> Tensor:
        latents, pictures = _batch(pairs, pixels, rng)
        return _loss(model, latents.to(run.device), pictures.to(run.device))

    course.go_on(run, loss, decline=1.3)


@torch.no_grad()
def _draw_pairs(run: hardware.Run, model: Any, count: int, rng: random.Random) -> list[Pair]:
    network = denoiser.load(run.folder).to(run.device)
    tokenizer = tokens.build_tokenizer()
    pairs: list[Pair] = []
    while len(pairs) < count:
        width, height = rng.choice(SIZES)
        lots = [_draw_lot(rng) for _ in range(32)]
        pictures = np.stack([drawing.draw(lot, width=width, height=height, seed=rng.getrandbits(32)) for lot in lots])
        ids = tokens.encode(tokenizer, [wording.word(lot, rng) for lot in lots]).to(run.device)
        tensor = autoencoder.to_tensor(pictures).to(run.device, memory_format=torch.channels_last)
        with torch.autocast(run.device.type, torch.bfloat16):
            clean = model.encode(tensor).latents.float()
            back = _bring_back(network, clean, ids)
        pairs += [Pair(latents=z.cpu(), picture=picture) for z, picture in zip(back, pictures, strict=True)]
    return pairs


def _draw_lot(rng: random.Random) -> meaning.Meaning:
    lot = meaning.draw_lots(rng)
    while rng.random() > _worth(lot):
        lot = meaning.draw_lots(rng)
    return lot


def _worth(lot: meaning.Meaning) -> float:
    """Give how often to keep a meaning that was drawn, 0 to 1."""
    if isinstance(lot, meaning.Scene):
        return SCENE_WORTH
    most = max(WORTH.get(subject.shape, LEAST_WORTH) for subject in lot.subjects)
    return min(1.0, 1.5 * most) if any(subject.size == "small" for subject in lot.subjects) else most


def _bring_back(network: denoiser.Network, clean: Tensor, ids: Tensor) -> Tensor:
    """Give latents noised to a level of their own and denoised again; a quarter stay as they were."""
    level = FROM + (TO - FROM) * torch.rand(len(clean), device=clean.device)
    level[: len(clean) // 4] = 0.0
    s = level.view(-1, 1, 1, 1)
    found = (1 - s) * clean + s * torch.randn_like(clean)
    for step in range(STEPS):
        found = found - s / STEPS * network(found, level * (1 - step / STEPS), ids).float()
    return found


def _batch(pairs: list[Pair], pixels: int, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Give whole pictures of one size and their latents: a crop's edge would be taken for the edge of a picture."""
    shape = rng.choice(pairs).picture.shape
    alike = [pair for pair in pairs if pair.picture.shape == shape]
    chosen = rng.sample(alike, min(len(alike), max(1, pixels // (shape[0] * shape[1]))))
    return (
        torch.stack([pair.latents for pair in chosen]),
        autoencoder.to_tensor(np.stack([pair.picture for pair in chosen])),
    )


def _loss(model: Any, latents: Tensor, pictures: Tensor) -> Tensor:
    """Give the loss of colours and edges, in which a pixel counts more the less its surroundings are like it."""
    noisy = latents + NOISE * torch.randn_like(latents)
    with torch.autocast(latents.device.type, torch.bfloat16):
        off = model.decode(noisy.contiguous(memory_format=torch.channels_last)).sample.float() - pictures
    apart = (pictures - functional.avg_pool2d(pictures, 5, 1, 2, count_include_pad=False)).abs().amax(1, keepdim=True)
    weight = 1 + THIN * (apart / apart.amax((2, 3), keepdim=True).clamp(min=0.05)).square()
    edge = off.diff(dim=2).abs().mean() + off.diff(dim=3).abs().mean()
    return (weight * (off.abs() + 0.5 * off.square())).mean() + 0.5 * edge
