"""The manifest of a model: one JSON file beside its weights that says everything Tintype needs to know about it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from tintype.catalog import options
from tintype.errors import SetupError

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Task = Literal[
    "text_to_image", "image_to_image", "inpaint", "upscale", "remove_background", "text_to_video", "image_to_video"
]
Kind = Literal[
    "checkpoint",
    "lora",
    "vae",
    "controlnet",
    "style_adapter",
    "embedding",
    "preprocessor",
    "background_remover",
    "motion",
    "upscaler",
    "detector",
    "translator",
    "workflow",
]
Feature = Literal["negative_prompt", "loras", "controls", "style_image", "hires", "refiner", "last_image", "references"]
ControlType = Literal["canny", "depth", "pose", "scribble", "tile"]
Taken = Literal[
    "prompt", "width", "height", "seed", "num_inference_steps", "guidance_scale", "strength", "scale", "seconds", "fps"
]

MAX_FRAMES = 3600
MAX_FPS = 120


class ManifestError(SetupError):
    """A model's manifest is not valid."""

    code = "manifest_invalid"


class Value(BaseModel):
    """A frozen part of a manifest; unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class File(Value):
    """One file of the model: `path` inside its folder; `source` where it can be fetched, pinned to `revision`."""

    path: str
    size: int = Field(ge=0)
    sha256: Sha256
    source: str | None = None
    revision: str | None = None

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        parts = Path(self.path).parts
        if Path(self.path).is_absolute() or ".." in parts or "\\" in self.path:
            raise ValueError(f"path {self.path!r} leaves the model's folder")
        return self


class Licence(Value):
    """Under which conditions the model may be used."""

    id: str
    url: str | None = None
    commercial: Literal["yes", "no", "threshold", "territory", "unknown"]
    gated: bool = False
    accept_required: bool = False


class Defaults(Value):
    """What a request that leaves a field out gets."""

    width: int
    height: int
    steps: int
    guidance_scale: float
    sampler: str = ""
    negative_prompt: str = ""


class Limits(Value):
    """What a request may ask for; sides in pixels."""

    min_side: int = Field(ge=8)
    max_side: int = Field(le=16384)
    multiple_of: int = Field(ge=1)
    max_pixels: int
    max_steps: int = Field(ge=1)
    max_guidance_scale: float = Field(ge=0)
    max_images: int = Field(default=8, ge=1, le=8)
    max_prompt_chars: int = Field(default=4000, ge=1)
    max_loras: int = Field(default=0, ge=0, le=3)
    max_references: int = Field(default=0, ge=0, le=4)


class Length(Value):
    """How long a model's videos are: `frames` of them at `fps` a second unless a request says otherwise.

    It makes one frame more than a multiple of `multiple_of`, from `min_frames` to `max_frames`.
    """

    frames: int = Field(ge=1)
    fps: int = Field(ge=1)
    min_frames: int = Field(default=1, ge=1)
    max_frames: int = Field(ge=1, le=MAX_FRAMES)
    multiple_of: int = Field(default=1, ge=1)
    min_fps: int = Field(default=1, ge=1)
    max_fps: int = Field(default=60, ge=1, le=MAX_FPS)

    @model_validator(mode="after")
    def _keeps_its_own_limits(self) -> Self:
        if self.nearest(self.frames) != self.frames or not self.min_fps <= self.fps <= self.max_fps:
            raise ValueError("`frames` and `fps` must be within the limits beside them")
        return self

    def nearest(self, frames: float) -> int:
        """The number of frames closest to `frames` that the model makes."""
        least = -(-(self.min_frames - 1) // self.multiple_of)
        most = (self.max_frames - 1) // self.multiple_of
        return 1 + self.multiple_of * max(least, min(most, round((frames - 1) / self.multiple_of)))


class Manifest(Value):
    """A model of the catalogue.

    `memory_bytes` gives the resident size per precision. `options` is a JSON schema of what only this model
    understands (`tintype.catalog.options` says how much of one); it validates a request, documents it and draws its
    form. `draws_people` decides whether the safety detector is needed to load it; `depicts_person` says that a LoRA was
    trained on one person, and then it counts as a picture of one. `controls` are the kinds of pictures a ControlNet
    understands, a preprocessor makes of photographs or a workflow follows, `scales` how many times an upscaler
    enlarges, `length` how long videos are. `takes` are the fields of a request that a workflow puts to use; None, all
    of them. What it does not take is refused, not ignored.
    """

    id: Slug
    name: str
    description: str
    kind: Kind
    family: str
    provider: str = "engine"
    loader: Literal["diffusers", "single_file", "modular", "comfy", "remote"] = "diffusers"
    tasks: tuple[Task, ...]
    features: tuple[Feature, ...] = ()
    samplers: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    dependencies: tuple[Slug, ...] = ()
    licence: Licence
    memory_bytes: Mapping[str, int] = Field(default_factory=dict[str, int])
    prompt_languages: tuple[str, ...]
    draws_people: bool
    depicts_person: bool = False
    controls: tuple[ControlType, ...] = ()
    scales: tuple[int, ...] = ()
    takes: tuple[Taken, ...] | None = None
    defaults: Defaults | None = None
    limits: Limits | None = None
    length: Length | None = None
    options: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    trigger_words: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    preview: str | None = None
    replaces: tuple[Slug, ...] = ()

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        generates = any(task.startswith("text_to") or task.endswith("_to_video") for task in self.tasks)
        samples = bool(self.samplers) or self.loader == "comfy"  # a workflow may leave the choice to its graph
        if generates and (self.defaults is None or self.limits is None or not samples):
            raise ValueError("a model that generates needs `defaults`, `limits` and `samplers`")
        if self.length is None and any(task.endswith("_to_video") for task in self.tasks):
            raise ValueError("a model that makes videos needs `length`, `defaults`, `limits` and `samplers`")
        if self.defaults is not None and self.samplers and self.defaults.sampler not in self.samplers:
            raise ValueError(f"default sampler {self.defaults.sampler!r} is not among `samplers`")
        if "references" in self.features and (self.limits is None or not self.limits.max_references):
            raise ValueError("a model that takes references says how many in `limits.max_references`")
        return self

    @field_validator("options")
    @classmethod
    def _can_be_checked(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        if value and options.Schema.model_validate(value).type != "object":
            raise ValueError("options are an object with `properties`")
        if value and options.has_deep_pictures(options.Schema.model_validate(value)):
            raise ValueError("options of the format `picture` stand directly below `properties`")
        return value

    @property
    def disk_bytes(self) -> int:
        """What its files take on disk."""
        return sum(file.size for file in self.files)


def read(path: Path) -> Manifest:
    """The manifest in the file `path`.

    Raises:
        ManifestError: it is missing, not JSON, or breaks a rule; the message says which.
    """
    try:
        return parse(json.loads(path.read_text()), where=str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: {error}") from error


def parse(value: object, *, where: str) -> Manifest:
    """The manifest in a JSON value; `where` names it in messages.

    Raises:
        ManifestError: it breaks a rule; the message says which.
    """
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise ManifestError(f"{where}: {problems}") from error
