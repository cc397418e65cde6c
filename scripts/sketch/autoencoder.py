"""The autoencoder: pictures to latents an eighth of their size and back, with exact colours and crisp edges.

It has no normalisation layers, so a colour means the same in any picture and training may use small crops.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from torch import Tensor

from . import drawing, hardware, meaning
from .orthogonal import Muon

LATENT_CHANNELS = 8
FACTOR = 8
CROP = 64
# Noise on latents in training, in standard deviations: small errors of the denoiser must not show.
LATENT_NOISE = 0.08
CHECKPOINT = "autoencoder.pt"
DECODER_CHECKPOINT = "decoder.pt"
SIZES = ((128, 128),) * 6 + (
    (64, 64),
    (96, 96),
    (192, 192),
    (256, 256),
    (96, 160),
    (160, 96),
    (64, 128),
    (128, 64),
)


def build() -> AutoencoderTiny:
    """Give an untrained autoencoder of half a million weights."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        num_encoder_blocks=(0, 1, 3, 4),
        num_decoder_blocks=(4, 4, 3, 1),
        latent_channels=LATENT_CHANNELS,
        act_fn="relu",
        scaling_factor=1.0,
        shift_factor=0.0,
    )


@dataclass(kw_only=True)
class Course:
    """A training of the autoencoder or of its decoder: where it is kept and how far it has come."""

    path: Path
    model: AutoencoderTiny
    optimisers: hardware.Optimisers
    step: int = 0
    minutes: float = 0.0

    def resume(self) -> None:
        """Go back to where the last part stopped, if there was one."""
        if state := hardware.load(self.path):
            self.model.load_state_dict(state["model"])
            for (optimiser, _), kept in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(kept)
            self.step, self.minutes = state["step"], state["minutes"]

    def go_on(self, run: hardware.Run, loss: Callable[[], Tensor], decline: float) -> None:
        """Train for what is left of the run's minutes; checkpoints every two minutes.

        Rates fall to nothing over the last 1/`decline` of the time.
        """
        before, saved = self.minutes, run.spent_minutes()
        stop = hardware.listen()
        while (share := run.spent_share(before)) < 1 and not stop.is_set():
            fade = min(1.0, (self.step + 1) / 50) * max(0.01, min(1.0, decline * (1 - share)))
            hardware.set_rates(self.optimisers, fade)
            now = loss()
            hardware.descend(self.model, self.optimisers, now)
            self.step, self.minutes = self.step + 1, before + run.spent_minutes()
            if self.step % 100 == 0:
                print(f"{self.path.stem} step {self.step} at {self.minutes:.1f} min: {now.item():.4f}", flush=True)
            if run.spent_minutes() - saved > 2:
                saved = run.spent_minutes()
                self.save()
        self.save()
        print(measure(self.model.eval(), run.folder / "reconstructions.png"), flush=True)

    def save(self) -> None:
        """Write a checkpoint."""
        kept = [optimiser.state_dict() for optimiser, _ in self.optimisers]
        state = {"model": self.model.state_dict(), "optimisers": kept, "step": self.step, "minutes": self.minutes}
        hardware.save(state, self.path)


def train(run: hardware.Run, *, rate: float = 3e-3, pictures: int = 8000) -> None:
    """Train for the run's minutes, or go on where the last part stopped."""
    torch.manual_seed(0)
    model = build().to(run.device, memory_format=torch.channels_last)
    course = Course(path=run.folder / CHECKPOINT, model=model, optimisers=optimise(model, rate))
    course.resume()
    rng = random.Random(f"{course.path.name} {course.step}")
    pool = _draw_pool(pictures, rng)
    batch = 128 if run.is_gpu else 32
    course.go_on(run, lambda: _loss(model, _crops(pool, batch, rng).to(run.device)), decline=1.5)


def start(folder: Path, model: AutoencoderTiny) -> None:
    """Write the checkpoint of a run whose autoencoder is already trained."""
    hardware.save({"model": model.state_dict()}, folder / CHECKPOINT)


def load(folder: Path) -> AutoencoderTiny:
    """Give the trained autoencoder of a run, on the CPU, in evaluation mode, with its latest decoder."""
    model = build()
    model.load_state_dict(_state(folder / CHECKPOINT)["model"])
    if later := hardware.load(folder / DECODER_CHECKPOINT):
        model.load_state_dict(later["model"])
    return model.eval()


def _state(path: Path) -> dict[str, Any]:
    state = hardware.load(path)
    if state is None:
        raise FileNotFoundError(f"{path}: train the autoencoder first")
    return state


def to_tensor(pictures: np.ndarray) -> Tensor:
    """Give N x 3 x H x W floats in -1 to 1 from N x H x W x 3 bytes."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(pictures: Tensor) -> np.ndarray:
    """Give N x H x W x 3 bytes from N x 3 x H x W floats in -1 to 1."""
    scaled = (pictures.float().cpu().permute(0, 2, 3, 1) + 1) * 127.5
    return scaled.round().clamp(0, 255).byte().numpy()


@torch.no_grad()
def measure(model: AutoencoderTiny, sheet: Path, count: int = 64) -> str:
    """Give the mean error per byte on new pictures and write originals above reconstructions."""
    rng = random.Random(-1)
    originals = np.stack([_draw(rng, (128, 128)) for _ in range(count)])
    device = next(model.parameters()).device
    latents = model.encode(to_tensor(originals).to(device)).latents
    copies = to_bytes(model.decode(latents).sample)
    off = np.abs(copies.astype(float) - originals).mean()
    rows = [np.concatenate(list(s[i : i + 16]), 1) for i in range(0, count, 16) for s in (originals, copies)]
    Image.fromarray(np.concatenate(rows)).save(sheet)
    spread = ", ".join(f"{m:.2f}±{s:.2f}" for m, s in zip(latents.mean((0, 2, 3)), latents.std((0, 2, 3)), strict=True))
    return f"mean error {off:.2f}/255; latents {spread}"


def _draw(rng: random.Random, size: tuple[int, int]) -> np.ndarray:
    width, height = size
    return drawing.draw(meaning.draw_lots(rng), width=width, height=height, seed=rng.getrandbits(32))


def _draw_pool(count: int, rng: random.Random) -> list[np.ndarray]:
    return [_draw(rng, rng.choice(SIZES)) for _ in range(count)]


def _crops(pool: list[np.ndarray], batch: int, rng: random.Random) -> Tensor:
    crops: list[np.ndarray] = []
    for picture in rng.sample(pool, batch):
        top = rng.randint(0, picture.shape[0] - CROP)
        left = rng.randint(0, picture.shape[1] - CROP)
        crops.append(picture[top : top + CROP, left : left + CROP])
    return to_tensor(np.stack(crops)).contiguous(memory_format=torch.channels_last)


def _loss(model: AutoencoderTiny, crops: Tensor) -> Tensor:
    """Give the loss: colours, edges (differences of neighbours), and latents of mean 0 and deviation 1."""
    with torch.autocast(crops.device.type, torch.bfloat16):
        latents = model.encode(crops).latents.float()
        copies = model.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample.float()
    off = copies - crops
    colour = off.abs().mean()
    edge = off.diff(dim=2).abs().mean() + off.diff(dim=3).abs().mean()
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    unit = mean.square().mean() + (deviation - 1).square().mean()
    return colour + 0.5 * off.square().mean() + 0.5 * edge + 0.02 * unit


def optimise(model: AutoencoderTiny, rate: float) -> hardware.Optimisers:
    """Give Muon for the kernels between hidden layers and AdamW for the rest, with their rates."""
    weights = [w for w in model.parameters() if w.requires_grad]
    kernels = [w for w in weights if w.ndim == 4 and min(w.shape[:2]) > 3]
    chosen = {id(w) for w in kernels}
    others = [w for w in weights if id(w) not in chosen]
    return [(Muon(kernels, lr=rate), rate), (torch.optim.AdamW(others, 1e-3, betas=(0.9, 0.99)), 1e-3)]
