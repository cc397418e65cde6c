"""Pictures for tests: what the built-in model draws, and what looks to arithmetic like a photograph."""

import random

import numpy as np

from scripts.sketch import drawing, meaning


def sketches(count: int, *, width: int = 512, height: int = 512, seed: int = 1) -> list[np.ndarray]:
    """Drawings as the built-in model was trained on: flat colours, sharp edges."""
    rng = random.Random(seed)
    lots = [meaning.draw_lots(rng, held_out=True) for _ in range(count)]
    return [drawing.draw(lot, width=width, height=height, seed=index) for index, lot in enumerate(lots)]


def photograph(seed: int = 0, *, width: int = 512, height: int = 512) -> np.ndarray:
    """Noise with the spectrum of a photograph."""
    noise = np.fft.fft2(np.random.default_rng(seed).standard_normal((height, width, 3)), axes=(0, 1))
    waves = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])[:, :, None]
    plane = np.fft.ifft2(noise / (waves + 1 / max(width, height)) ** 1.3, axes=(0, 1)).real
    return ((plane - plane.min()) / (plane.max() - plane.min()) * 255).astype(np.uint8)
