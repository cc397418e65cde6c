"""What the engine asks of a family of models: an outline that needs no weights, and a loaded model that has them.

A picture's way: `Outline.phases` says how much work it is and with what it can share a step; once it is its turn,
`Loaded.begin` reads the words and draws the noise; each tick `engine.ticks` gives the lines of several pictures to
`Loaded.predict` at once; `Loaded.finish` makes pixels of the last latents. Everything but `predict` sees one picture
alone, so that no other picture can change it.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor

from tintype.engine.devices import Device
from tintype.engine.samplers.rows import Sampled
from tintype.engine.scheduling.values import Phase
from tintype.engine.tiles import Grid
from tintype.providers.contract import GenerationRequest, ProviderError

Words = Mapping[str, Tensor]
"""What a network reads beside the sample, by the names of its arguments; every tensor's first dimension is 1."""

NOTHING: Words = {}


class RequestUnsuitableError(ProviderError):
    """The model cannot do what is asked for; the sentence says what to change."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="request_unsuitable", retryable=False)


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A LoRA at work in one line: `name` is what the loaded model knows it by."""

    name: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class Steering:
    """A control at work: the network it goes through, its picture [1, 3, height, width] in 0 to 1, its strength.

    It acts on the evaluations that lie, as shares of all, between `start` and `end`. `features` is what a network made
    of the picture that reads it only once, `mode` the number of its type where a network knows several.
    """

    network: str
    picture: Tensor
    strength: float
    start: float = 0.0
    end: float = 1.0
    features: tuple[Tensor, ...] = ()
    mode: int = 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the batch a network is given: a picture's sample, with its words or without.

    `sample` is scaled for the network. `beside` holds what else it sees, [1, channels, height, width] each: the further
    channels of an inpainting network, or other pictures.
    """

    sample: Tensor
    timestep: float
    words: Words
    guidance_scale: float = 1.0
    beside: tuple[Tensor, ...] = ()
    steering: tuple[Steering, ...] = ()
    adapters: tuple[Adapter, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Blend:
    """What inpainting keeps: after every step the sample is `mask` of itself and the rest of `clean` under `noise`.

    All three have the shape of the latents, or can be broadcast to it; 1 in the mask is drawn anew.
    """

    mask: Tensor
    clean: Tensor
    noise: Tensor


@dataclass(kw_only=True)
class Tiling:
    """A sample larger than the network takes: an evaluation is made of its tiles, one in each tick.

    `grid` says where they are cut: from the sample, or from `seen` where that is there, and then the prediction is no
    step of a sampler but the picture. `made_grid` says where predictions lie in `made`, the whole of them, of which as
    much is used as the sample is large. `besides` holds what `Drawing.beside` is to each tile, nothing where there is
    none. Tile `at` is next.
    """

    grid: Grid
    made_grid: Grid
    seen: Tensor | None = None
    besides: tuple[tuple[Tensor, ...], ...] = ()
    made: Tensor | None = None
    at: int = 0


@dataclass(kw_only=True)
class Drawing:
    """A picture in the making. `without_words` is None where nothing is guided: then a step takes one line, not two.

    Where it `is_apart` the ticks have nothing to do: `Loaded.finish` makes the picture, on the host, beside all others.
    """

    sampled: Sampled
    words: Words
    without_words: Words | None
    guidance_scale: float
    beside: tuple[Tensor, ...] = ()
    blend: Blend | None = None
    steering: tuple[Steering, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    tiling: Tiling | None = None
    is_apart: bool = False


class Outline(Protocol):
    """A model as far as it is known without its weights. Cheap to make; reads configuration and tokenizer only."""

    @property
    def weight_bytes(self) -> int:
        """What its weights take on the device."""
        ...

    @property
    def block_bytes(self) -> int:
        """Half of what it takes on the device while it is streamed through it; 0 where it cannot be."""
        ...

    @property
    def native_side(self) -> int:
        """The side in pixels it was made for; for trials."""
        ...

    def phases(self, request: GenerationRequest) -> tuple[Phase, ...]:
        """The stretches of work of each picture of the request, in order.

        Raises:
            RequestUnsuitableError: the model cannot do what is asked for.
        """
        ...

    def load(self, device: Device) -> "Loaded":
        """The model with its weights on the device, or where `device.weights_name` says.

        Raises:
            ModelBrokenError: its files cannot be used.
            OutOfMemoryError: the device's memory does not suffice.
        """
        ...


class Loaded(Protocol):
    """A model on a device."""

    @property
    def parts(self) -> Mapping[str, Any]:
        """Its components, by their names in diffusers layout: `transformer` or `unet`, `vae`, `text_encoder`, …"""
        ...

    def begin(self, request: GenerationRequest, seed: int) -> Drawing:
        """The first phase of a picture: words read, noise drawn from `seed` alone, source and mask encoded."""
        ...

    def go_on(self, drawing: Drawing, request: GenerationRequest, phase: int) -> Drawing:
        """The next phase of a picture: enlarged, or taken over from another model. `phase` counts from 0."""
        ...

    def predict(self, lines: Sequence[Line]) -> Tensor:
        """One evaluation of the network over all lines: [lines, ...] in float32, as the sample's layout is."""
        ...

    def form(self, lines: Sequence[Line]) -> Hashable:
        """What is built into the network for these lines, such as LoRAs; beside shapes, code is compiled for it."""
        ...

    def guide(self, without_words: Tensor, with_words: Tensor, scale: float) -> Tensor:
        """The guided prediction of one picture; mostly `without + scale * (with - without)`."""
        ...

    def finish(self, drawing: Drawing, request: GenerationRequest) -> NDArray[np.uint8]:
        """The picture of the last latents: uint8 RGB [height, width, 3]; RGBA where its background was removed."""
        ...

    def encode(self, pixels: Tensor, generator: Generator) -> Tensor:
        """Latents [1, channels, height, width], as drawings hold them, of a picture [1, 3, height, width], -1 to 1."""
        ...

    def move(self, device_name: str) -> None:
        """Move the weights to another device, such as "cpu" for host memory, and forget what was cached on this one."""
        ...
