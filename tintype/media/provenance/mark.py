"""The invisible mark: says in the pixels themselves that a machine made or edited a picture.

A keyed noise tile of 128 pixels, of wavelengths that JPEG and halving keep, is added all over the brightness. A
second tile lies shifted against the first; the shift is the message. Folding a picture onto one tile and correlating
finds both, wherever it was cropped; the period of the tiles, which autocorrelation shows, gives the scale.

It is a label, not a lock: it survives what platforms do to pictures (JPEG, resizing, cropping, mirroring), not
somebody who wants it gone, nor rotation. Whoever knows the key can also forge it.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 128
LEAST_SIDE = 256  # a smaller picture holds too few tiles to fold
STRENGTH = 1.1
WAVE, WAVE_SPREAD = 0.11, 0.05  # cycles per pixel: 6 to 20 pixels long
SHIFT_STEP = 4
THRESHOLD = 5.5  # standard deviations; unmarked pictures stay below 4.5, see docs/provenance.md
PEAKS = 3
LOOKED_AT = 1024  # pixels a side of the middle: 64 tiles are plenty, and a search costs the same for any upload
PERIODS = np.exp(np.arange(np.log(46), np.log(256), 0.0008))
CANDIDATES = 24
COMMON_SCALES = (1.0, 0.5, 0.75, 1.5, 2.0)
GREY = np.array([0.299, 0.587, 0.114], np.float32)

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]


class Message(Enum):
    """What a mark says; the value is how far its second tile is shifted, in steps down and right."""

    CREATED = (21, 10)
    EDITED = (10, 21)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A mark, or None for `message`; `score` is in standard deviations, `scale` how much the picture was resized."""

    message: Message | None
    score: float
    scale: float


def embed(pixels: Pixels, message: Message, key: bytes) -> Pixels:
    """A marked copy of `pixels` (uint8 [h, w, 3]); the same array where a side is under 256.

    Smooth places change by about one level in 255, busy ones by up to three (40 to 50 dB).
    """
    height, width = pixels.shape[:2]
    if min(height, width) < LEAST_SIDE:
        return pixels
    tile = _marked_tile(key, message)
    strength = _strength(pixels)
    marked = np.empty_like(pixels)
    for top in range(0, height, SIDE):  # a band of tiles at a time stays in the processor's cache
        rows = slice(top, min(top + SIDE, height))
        band = np.tile(tile, (1, -(-width // SIDE)))[: rows.stop - top, :width]
        change = np.rint(band * strength[rows]).astype(np.int16)
        np.clip(pixels[rows] + change[:, :, None], 0, 255, out=marked[rows], casting="unsafe")
    return marked


def detect(pixels: Pixels, *keys: bytes) -> Found:
    """The mark in `pixels` (uint8 [h, w, 3]) under the first of `keys` that fits; takes up to about a second."""
    best = Found(message=None, score=0.0, scale=1.0)
    if min(pixels.shape[:2]) < SIDE:
        return best
    noise = _whitened(_grey(_middle(pixels)))
    for scale in _scales(noise):
        folded = _folded(noise, scale)
        if folded is None:
            continue
        for spectrum in (_phases(folded), _phases(folded[:, ::-1])):
            for key in keys:
                message, score = _read(spectrum, key)
                if score > best.score:
                    best = Found(message=message if score >= THRESHOLD else None, score=score, scale=scale)
        if best.message is not None:
            break
    return best


@lru_cache(maxsize=8)
def _tiles(key: bytes) -> tuple[Plane, Plane]:
    return _tile(key, b"A"), _tile(key, b"B")


@lru_cache(maxsize=8)
def _sought(key: bytes) -> tuple[NDArray[Any], NDArray[Any]]:
    first, second = (np.conj(np.fft.rfft2(tile)) for tile in _tiles(key))
    return first, second


def _tile(key: bytes, name: bytes) -> Plane:
    """Noise of one band of wavelengths that repeats without a seam; mean 0, deviation 1."""
    seed = int.from_bytes(hashlib.sha256(key + name).digest()[:8], "big")
    spectrum = np.fft.fft2(np.random.default_rng(seed).standard_normal((SIDE, SIDE)))
    waves = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    spectrum *= np.exp(-0.5 * ((waves - WAVE) / WAVE_SPREAD) ** 2)
    spectrum[0, 0] = 0
    noise = np.fft.ifft2(spectrum).real
    return (noise / noise.std()).astype(np.float32)


@lru_cache(maxsize=8)
def _marked_tile(key: bytes, message: Message) -> Plane:
    first, second = _tiles(key)
    down, right = (SHIFT_STEP * steps for steps in message.value)
    return (first + np.roll(second, (down, right), (0, 1))) * np.float32(STRENGTH / math.sqrt(2))


def _strength(pixels: Pixels) -> Plane:
    """How much each place hides, 0.7 where it is smooth to 2 where it is busy, [h, w]."""
    height, width = pixels.shape[:2]
    half = _grey(pixels[::2, ::2])
    busy = np.zeros_like(half)
    busy[:-1] += np.abs(np.diff(half, axis=0))
    busy[:, :-1] += np.abs(np.diff(half, axis=1))
    around = Image.fromarray(busy).reduce(8).resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(0.7 + np.asarray(around) / 16, 0.7, 2.0).astype(np.float32)


def _grey(pixels: Pixels) -> Plane:
    return pixels.astype(np.float32) @ GREY


def _middle(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    top, left = (max(0, (side - LOOKED_AT) // 2) for side in (height, width))
    return pixels[top : top + LOOKED_AT, left : left + LOOKED_AT]


def _whitened(grey: Plane) -> Plane:
    """What is left without the picture's own shapes, equally strong everywhere."""
    rest: Plane = grey - _mean_around(grey, 8)
    spread = np.sqrt(np.maximum(_mean_around(np.square(rest), 8), 0)) + 1.5
    return np.clip(rest / spread, -2.5, 2.5).astype(np.float32)


def _mean_around(plane: Plane, radius: int) -> Plane:
    """The mean over a square of `radius` to each side, by running sums."""
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (radius + 1, radius)
        sums = np.cumsum(np.pad(plane, padding, mode="edge"), axis=axis, dtype=np.float64)
        width = 2 * radius + 1
        sums = sums.swapaxes(0, axis)
        plane = ((sums[width:] - sums[:-width]) / width).astype(np.float32).swapaxes(0, axis)
    return plane


def _scales(noise: Plane) -> Iterator[float]:
    """How much the picture may have been resized: not at all, as is common, then what its repetition tells."""
    yield from COMMON_SCALES
    for period in _periods(noise):
        yield period / SIDE


def _periods(noise: Plane) -> list[float]:
    """The periods at which the picture resembles itself most along its sides, in pixels."""
    shape = tuple(1 << math.ceil(math.log2(2 * side)) for side in noise.shape)
    spectrum = np.fft.rfft2(noise, shape)
    likeness = np.fft.irfft2(np.abs(spectrum) ** 2, shape)
    along = likeness[0, : noise.shape[1] // 2], likeness[: noise.shape[0] // 2, 0]
    total = np.zeros_like(PERIODS)
    for line in along:
        for times in (1, 2, 3, 4):
            total += np.interp(times * PERIODS, np.arange(len(line)), line, right=0.0)
    chosen: list[float] = []
    for index in np.argsort(-total)[:600]:
        period = float(PERIODS[index])
        if all(abs(period / other - 1) > 0.002 for other in chosen):
            chosen.append(period)
        if len(chosen) == CANDIDATES:
            break
    return chosen


def _folded(noise: Plane, scale: float) -> Plane | None:
    """All tiles laid over each other, [128, 128], the picture brought back from `scale`; None without a whole one."""
    if scale != 1.0:
        noise = noise[: math.ceil(LOOKED_AT * scale), : math.ceil(LOOKED_AT * scale)]
        height, width = (round(side / scale) for side in noise.shape)
        noise = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
    down, right = noise.shape[0] // SIDE, noise.shape[1] // SIDE
    if not down or not right:
        return None
    return noise[: down * SIDE, : right * SIDE].reshape(down, SIDE, right, SIDE).mean((0, 2))


def _phases(folded: Plane) -> NDArray[Any]:
    spectrum = np.fft.rfft2(folded)
    size = np.abs(spectrum)
    return spectrum / (size + np.median(size) + 1e-9)


def _read(spectrum: NDArray[Any], key: bytes) -> tuple[Message | None, float]:
    """The likeliest message and the weaker of its two tiles' scores."""
    best: tuple[Message | None, float] = (None, 0.0)
    first, second = (_peaks(spectrum * sought) for sought in _sought(key))
    for row, column, score in first:
        for other_row, other_column, other_score in second:
            shift = (other_row - row) % SIDE, (other_column - column) % SIDE
            for message in Message:
                weaker = min(score, other_score)
                if weaker > best[1] and _is_near(shift, message):
                    best = message, weaker
    return best


def _peaks(product: NDArray[Any]) -> list[tuple[int, int, float]]:
    """Where a tile fits best, best first; several, because an edited picture may be marked twice."""
    fit = np.fft.irfft2(product, (SIDE, SIDE))
    fit = (fit - fit.mean()) / (fit.std() + 1e-9)
    found: list[tuple[int, int, float]] = []
    for _ in range(PEAKS):
        row, column = divmod(int(fit.argmax()), SIDE)
        found.append((row, column, float(fit[row, column])))
        rows, columns = (np.arange(place - 2, place + 3) % SIDE for place in (row, column))
        fit[np.ix_(rows, columns)] = 0
    return found


def _is_near(shift: tuple[int, int], message: Message) -> bool:
    """Whether a measured shift is the message's, to two pixels."""
    wanted = (SHIFT_STEP * steps for steps in message.value)
    return all(abs((a - b + SIDE // 2) % SIDE - SIDE // 2) <= 2 for a, b in zip(shift, wanted, strict=True))
