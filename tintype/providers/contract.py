"""The provider contract: what a maker of pictures and videos is given and what it gives back.

A provider sees no database, no queue and no HTTP request. It is made by a factory that an entry point in the group
`tintype.providers` names; the built-in engine is one such entry point.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Task = Literal[
    "text_to_image", "image_to_image", "inpaint", "upscale", "remove_background", "text_to_video", "image_to_video"
]
SeedMode = Literal["fast", "bucket", "strict"]
ControlType = Literal["canny", "depth", "pose", "scribble", "tile"]
VideoType = Literal["video/mp4", "video/webm", "image/gif", "image/webp"]


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model as a provider needs it: which architecture, and where its files lie (nowhere for a remote one)."""

    id: str
    family: str
    folder: str
    memory_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Control:
    """A picture that steers where things go: `pixels` uint8 RGB [height, width, 3], of any size.

    It acts from `start` to `end` (fractions of all steps) with `strength` (1 is as trained). `is_ready` says that it
    is a drawing of edges, depths or poses already; otherwise the provider makes one of the photograph it is.
    """

    type: ControlType
    model: ModelFiles
    pixels: "NDArray[np.uint8]"
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    is_ready: bool = False


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A LoRA and how strongly it acts; 1 is as trained, negative turns it round."""

    model: ModelFiles
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Hires:
    """A second pass over the picture enlarged `scale` times; `strength` is how much of it is drawn anew."""

    scale: float
    steps: int
    strength: float


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """A second model that takes over once `switch_at` (a fraction) of all steps is done."""

    model: ModelFiles
    switch_at: float


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One unit of work; every value is resolved, nothing is left to chance.

    `seeds` holds one seed per picture: picture `i` must not depend on how many others were asked for with it.

    `source` is the picture to work on, uint8 RGB [height, width, 3], already of the request's width and height except
    where it is to be upscaled `scale` times. `mask` is uint8 [height, width]: 255 is drawn anew, 0 stays, between is
    blended; outpainting is inpainting on a canvas that was enlarged before. `strength` says how much of the source is
    drawn anew, 0 to 1. `references` are pictures that the model sees beside the source, uint8 RGB of any size; a model
    whose manifest does not offer them is given none. `style_image` gives its style, uint8 RGB of any size. `companions`
    are models that a part of the request needs beside its own: by role, such as `vae` or `style_adapter`.
    `on_behalf_of` names whose work it is, for fairness among what a provider holds; it says nothing of who that is.

    A video has one seed and `frames` frames, `fps` of them a second; both are 0 for pictures. `source` is the picture
    that it begins with (task `image_to_video`), `last_image` the one it ends with, both of the request's size.
    """

    id: str
    task: Task
    model: ModelFiles
    prompt: str
    negative_prompt: str
    width: int
    height: int
    seeds: tuple[int, ...]
    steps: int
    guidance_scale: float
    sampler: str
    seed_mode: SeedMode = "fast"
    source: "NDArray[np.uint8] | None" = None
    last_image: "NDArray[np.uint8] | None" = None
    frames: int = 0
    fps: int = 0
    mask: "NDArray[np.uint8] | None" = None
    strength: float = 1.0
    scale: int = 1
    references: "tuple[NDArray[np.uint8], ...]" = ()
    controls: tuple[Control, ...] = ()
    style_image: "NDArray[np.uint8] | None" = None
    style_strength: float = 0.6
    loras: tuple[Lora, ...] = ()
    hires: Hires | None = None
    refiner: Refiner | None = None
    companions: Mapping[str, ModelFiles] = field(default_factory=dict[str, ModelFiles])
    on_behalf_of: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`step` of `steps` model evaluations are done, over all pictures of the request."""

    step: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Work goes on elsewhere under `token`: `generate(resume=token)` finds it again, `cancel(token)` ends it."""

    token: str


@dataclass(frozen=True, kw_only=True)
class Output:
    """Picture `index` of the request: `pixels` are uint8 RGB, shape [height, width, 3].

    `alpha`, uint8 [height, width], comes with a picture whose background was removed. `graph` is the ComfyUI workflow
    that drew it, as ComfyUI's API takes one; it is written into the file, which ComfyUI can then open.
    """

    index: int
    seed: int
    pixels: "NDArray[np.uint8]"
    alpha: "NDArray[np.uint8] | None" = None
    graph: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Frames:
    """A video as pixels: uint8 RGB [frames, height, width, 3], shown `fps` a second."""

    pixels: "NDArray[np.uint8]"
    fps: float


@dataclass(frozen=True, kw_only=True)
class VideoFile:
    """A video as somebody else's program wrote it. Its frames are taken out and written anew, so sound, texts and
    whatever else is in the file stay behind."""

    data: bytes = field(repr=False)
    content_type: VideoType


@dataclass(frozen=True, kw_only=True)
class VideoOutput:
    """Video `index` of the request; `graph` as for a picture."""

    index: int
    seed: int
    video: Frames | VideoFile
    graph: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What picture (or video) `index` looks like so far, small: uint8 RGB [height, width, 3].

    Judged before anybody sees it.
    """

    index: int
    pixels: "NDArray[np.uint8]"


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What a provider can do on this machine; `families` it can run, `concurrency` requests it can hold at once.

    `is_complete` is False while the provider is still finding out, e.g. which devices there are. `problem` says why it
    cannot work at present and what to do. `loaded` are the models that it could start on at once, None where nothing
    needs loading. `notes` are lines for people who look into it, such as what was measured. `broken` says of each part
    that does not work, while others do, why not and what to do: of one server among several, of one model.
    """

    tasks: tuple[Task, ...]
    families: tuple[str, ...]
    concurrency: int
    devices: tuple[str, ...]
    is_complete: bool = True
    problem: str | None = None
    loaded: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What a request would cost, in US dollars; 0 for work on one's own machine."""

    usd: float


WORK_UNKNOWN = "work_unknown"
"""The code by which `cancel` says that nothing goes on under a token, or no more; it is not asked again."""


class ProviderError(Exception):
    """The provider could not make what was asked for; `retryable` says whether trying again may help."""

    def __init__(self, detail: str, *, code: str, retryable: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.retryable = retryable


class Provider(Protocol):
    """A maker of pictures, of videos, or of both."""

    def capabilities(self) -> Capability:
        """What this provider can do here and now."""
        ...

    def quote(self, request: GenerationRequest) -> Quote:
        """What the request would cost."""
        ...

    async def prepare(self, model: ModelFiles) -> None:
        """Get ready for a model that will likely be asked for; what goes wrong shows when it is."""
        ...

    def generate(
        self, request: GenerationRequest, resume: str | None = None
    ) -> AsyncIterator[Progress | Preview | Checkpoint | Output | VideoOutput]:
        """Make what one request asks for; closing the iterator stops local work within one step."""
        ...

    async def cancel(self, token: str) -> None:
        """End the remote work that a `Checkpoint` named.

        Whatever else it raises, it is called again, maybe by another process, until it returns or says `WORK_UNKNOWN`.
        """
        ...

    async def close(self) -> None:
        """Give back devices and memory."""
        ...
