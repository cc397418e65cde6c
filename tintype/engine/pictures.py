"""Pictures between uint8 pixels and the tensors that autoencoders take and give."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def to_tensor(pixels: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    """uint8 RGB [height, width, 3] as float32 [1, 3, height, width] from -1 to 1, on `device`."""
    there = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
    return there.permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1


def of_tensor(decoded: Tensor) -> NDArray[np.uint8]:
    """What an autoencoder decoded, [1, 3, height, width] from -1 to 1, as uint8 RGB [height, width, 3].

    It is made on the device, so that a quarter of the bytes cross to the host.
    """
    scaled = ((decoded[0].permute(1, 2, 0).float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return to_host(scaled.contiguous())


def to_host(made: Tensor) -> NDArray[np.uint8]:
    """A uint8 tensor as an array. From CUDA it goes into pinned memory, which waits for the current stream alone."""
    if not made.is_cuda:
        return made.cpu().numpy()
    held = torch.empty(made.shape, dtype=made.dtype, pin_memory=True)
    held.copy_(made, non_blocking=True)
    arrived = torch.cuda.Event(blocking=True)
    arrived.record(torch.cuda.current_stream(made.device))
    arrived.synchronize()
    return held.numpy()


def resize(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pixels in another height and width, by Lanczos' filter; what is made smaller is smoothed first."""
    height, width = size
    if pixels.shape[:2] == size:
        return pixels
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def to_mask(mask: NDArray[np.uint8], size: Sequence[int], device: torch.device | str) -> Tensor:
    """A mask uint8 [height, width] in the size of latents: float32 [1, 1, height, width], 1 where it is drawn anew.

    A latent is drawn anew as far as its pixels are.
    """
    there = torch.from_numpy(np.ascontiguousarray(mask)).to(device).float()[None, None] / 255
    return torch.nn.functional.interpolate(there, size=tuple(size), mode="area")
