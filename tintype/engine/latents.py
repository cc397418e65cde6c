"""Between pictures and latents, one picture at a time: encoding, decoding, masks, noise, a larger size."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tintype.engine import pictures

DRAWN_ANEW = 128
"""A pixel of a mask from which on a network that was trained with masks is told that it is to be drawn."""


def draw_noise(shape: tuple[int, ...], generator: torch.Generator, device: str) -> Tensor:
    """Standard normal noise, drawn on the CPU so that a seed means the same on every device."""
    return torch.randn(shape, generator=generator).to(device)


def encode(vae: Any, pixels: Tensor, generator: torch.Generator) -> Tensor:
    """The latents of pixels [1, 3, height, width] from -1 to 1, in float32, as the denoiser knows them.

    They are drawn from the distribution the autoencoder gives, with noise from `generator`.
    """
    found = vae.encode(pixels.to(vae.dtype)).latent_dist
    noise = draw_noise(found.mean.shape, generator, str(pixels.device))
    drawn = found.mean.float() + found.std.float() * noise
    spread, centre = _statistic(vae, "latents_std", drawn), _statistic(vae, "latents_mean", drawn)
    return (drawn - centre) * vae.config.scaling_factor / spread


def decode(vae: Any, latents: Tensor) -> NDArray[np.uint8]:
    """The picture of latents [1, channels, height, width]: uint8 RGB [height, width, 3]."""
    spread, centre = _statistic(vae, "latents_std", latents), _statistic(vae, "latents_mean", latents)
    scaled = latents * spread / vae.config.scaling_factor + centre
    return pictures.of_tensor(vae.decode(scaled.to(vae.dtype), return_dict=False)[0])


def _statistic(vae: Any, name: str, like: Tensor) -> Tensor:
    """What the latents of a few models are centred and scaled by, channel for channel; of most, by nothing."""
    values = vae.config.get(name)
    if values is None:
        return torch.tensor(1.0 if name == "latents_std" else 0.0, device=like.device)
    return torch.tensor(values, device=like.device, dtype=like.dtype).view(1, -1, 1, 1)


def soft_mask(mask: NDArray[np.uint8], device: str) -> Tensor:
    """A mask uint8 [height, width] as float32 [1, 1, height, width] from 0 (stays) to 1 (is drawn anew)."""
    return torch.from_numpy(np.ascontiguousarray(mask)).to(device).float()[None, None] / 255


def hard_mask(mask: NDArray[np.uint8], device: str) -> Tensor:
    """The same, with nothing between 0 and 1."""
    return torch.from_numpy(np.ascontiguousarray(mask >= DRAWN_ANEW)).to(device).float()[None, None]


def shrink(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask in the size of latents; each takes one pixel's value, as the networks were trained with."""
    return torch.nn.functional.interpolate(mask, size=size)


def enlarge(latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Latents in another size, bilinear."""
    return torch.nn.functional.interpolate(latents, size=size, mode="bilinear", align_corners=False)


def keep(drawn: NDArray[np.uint8], source: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`drawn` where the mask says so and the source's own pixels elsewhere: autoencoders change what they only pass."""
    share = mask[..., None].astype(np.float32) / 255
    return (source + share * (drawn.astype(np.float32) - source)).round().astype(np.uint8)
