"""The family of background removers: a network in ONNX that says how much of each pixel is foreground.

They are U²-Net, IS-Net, BiRefNet and their like: a picture of one size goes in, a map of that size comes out. The
network runs on the host, in a thread beside the ticks, one picture at a time; colours stay as they are.

Beside the one `.onnx` file lies `preprocessor_config.json`, as models on the Hub have it: `size` (`height`, `width`),
`image_mean` and `image_std` of pixels in 0 to 1. To what it has there, Tintype adds `answers`: `shares` (0 to 1, the
default), `logits`, or `stretched` where least and most of each picture stand for background and foreground.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tintype.engine import loading
from tintype.engine.devices import Device
from tintype.engine.family import NOTHING, Drawing, Line, RequestUnsuitableError
from tintype.engine.loading import ModelBrokenError
from tintype.engine.onnx_network import OnnxNetwork
from tintype.engine.samplers import rows
from tintype.engine.samplers.plan import ONCE
from tintype.engine.scheduling.values import Phase
from tintype.providers.contract import GenerationRequest, ModelFiles

Answers = Literal["shares", "logits", "stretched"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, which most are trained on."""
SIDE = 1024
LEAST_SPAN = 0.05
"""A map that spans less is not stretched: there is nothing in the picture, and noise would become a shape."""
NUMBERS_PER_PIXEL = 512
"""About as many are in flight for each pixel the network takes."""


def outline(files: ModelFiles) -> "Outline":
    """The outline of the background remover in a folder."""
    return Outline(files)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the network wants its pictures and what it answers."""

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    answers: Answers


class Outline:
    """What is known of a background remover without opening its network."""

    def __init__(self, files: ModelFiles) -> None:
        self._id = files.id
        self._folder = Path(files.folder)

    @cached_property
    def path(self) -> Path:
        """The network.

        Raises:
            ModelBrokenError: there is none, or more than one.
        """
        found = sorted(self._folder.glob("*.onnx"))
        if len(found) != 1:
            raise ModelBrokenError(f"{self._folder} holds {len(found)} files in ONNX; leave one, the network")
        return found[0]

    @cached_property
    def reading(self) -> Reading:
        """What `preprocessor_config.json` says.

        Raises:
            ModelBrokenError: it cannot be read.
        """
        path = self._folder / "preprocessor_config.json"
        found = loading.config(path) if path.exists() else {}
        try:
            return _reading(found)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ModelBrokenError(f"{path} does not say how pictures are read ({error}); mend it") from error

    @property
    def weight_bytes(self) -> int:
        """The size of its file."""
        return self.path.stat().st_size

    @property
    def block_bytes(self) -> int:
        """None: it is small enough to be whole."""
        return 0

    @property
    def native_side(self) -> int:
        """The longer side of what it takes."""
        return max(self.reading.height, self.reading.width)

    def phases(self, request: GenerationRequest) -> tuple[Phase, ...]:
        """One evaluation, which is over at once: the network runs beside the ticks."""
        if request.task != "remove_background" or request.source is None:
            raise RequestUnsuitableError(
                f"{self._id} only removes backgrounds; send it a picture with the task `remove_background`"
            )
        numbers = NUMBERS_PER_PIXEL * self.reading.height * self.reading.width
        return (Phase(model=self._id, key=(), shape="beside", evaluations=1, lines=1, activation_bytes=4 * numbers),)

    def load(self, device: Device) -> "Remover":
        """The remover with its weights, on the host whatever the device is."""
        return Remover(self)


class Remover:
    """A loaded background remover."""

    def __init__(self, outline: Outline) -> None:
        self.parts: Mapping[str, Any] = {}
        self._reading = outline.reading
        self._network = OnnxNetwork(outline.path, outline.reading.height, outline.reading.width)

    def begin(self, request: GenerationRequest, seed: int) -> Drawing:
        """Nothing yet; `seed` has no part in it."""
        nothing = rows.Sampled(plan=ONCE, latents=torch.zeros(1, 1, 1, 1), generator=None)
        return Drawing(sampled=nothing, words=NOTHING, without_words=None, guidance_scale=1.0, is_apart=True)

    def go_on(self, drawing: Drawing, request: GenerationRequest, phase: int) -> Drawing:
        """There is one phase only."""
        raise AssertionError(f"a background remover has no phase {phase}")

    def predict(self, lines: Sequence[Line]) -> Tensor:
        """It takes no part in ticks."""
        raise AssertionError("a background remover has no lines")

    def form(self, lines: Sequence[Line]) -> Hashable:
        """Nothing: it is never compiled."""
        return ()

    def encode(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """It has no latents."""
        raise AssertionError("a background remover has no latents")

    def guide(self, without_words: Tensor, with_words: Tensor, scale: float) -> Tensor:
        """It reads no words."""
        raise AssertionError("a background remover is guided by nothing")

    def finish(self, drawing: Drawing, request: GenerationRequest) -> NDArray[np.uint8]:
        """The source with its foreground opaque: uint8 RGBA [height, width, 4]."""
        assert request.source is not None
        found = self._network.run(_prepared(request.source, self._reading))
        shares = _shares(found.reshape(found.shape[-2:]).astype(np.float32), self._reading.answers)
        height, width = request.source.shape[:2]
        resized = np.asarray(Image.fromarray(shares).resize((width, height), Image.Resampling.BICUBIC))
        return np.dstack((request.source, (resized * 255).round().clip(0, 255).astype(np.uint8)))

    def move(self, device_name: str) -> None:
        """It is on the host."""


def _reading(found: dict[str, Any]) -> Reading:
    size = found.get("size", {})
    sides = cast("dict[str, Any]", size if isinstance(size, dict) else {"height": size, "width": size})
    reading = Reading(
        height=int(sides.get("height", SIDE)),
        width=int(sides.get("width", SIDE)),
        mean=tuple(float(number) for number in found.get("image_mean", MEAN)),
        std=tuple(float(number) for number in found.get("image_std", STD)),
        answers=found.get("answers", "shares"),
    )
    if min(reading.height, reading.width) < 1 or len(reading.mean) != 3 or len(reading.std) != 3:
        raise ValueError("a size of at least 1 and three numbers for mean and deviation are needed")
    if not all(reading.std) or reading.answers not in get_args(Answers):
        raise ValueError(f"deviations above 0 and one of {', '.join(get_args(Answers))} are needed")
    return reading


def _prepared(pixels: NDArray[np.uint8], reading: Reading) -> NDArray[np.float32]:
    """The picture as the network takes it: float32 [1, 3, height, width]."""
    resized = Image.fromarray(pixels).resize((reading.width, reading.height), Image.Resampling.BILINEAR)
    shares = np.asarray(resized, np.float32) / 255
    standing = (shares - np.array(reading.mean, np.float32)) / np.array(reading.std, np.float32)
    return np.ascontiguousarray(standing.transpose(2, 0, 1)[None], np.float32)


def _shares(found: NDArray[np.float32], answers: Answers) -> NDArray[np.float32]:
    """How much of each pixel is foreground, 0 to 1."""
    if answers == "logits":
        return (1 / (1 + np.exp(-found.clip(-60, 60)))).astype(np.float32)
    least, most = float(found.min()), float(found.max())
    if answers == "stretched" and most - least >= LEAST_SPAN:
        found = (found - least) / (most - least)
    return found.clip(0, 1).astype(np.float32)
