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
]
Feature = Literal["negative_prompt", "loras", "controls", "style_image", "hires", "refiner", "references"]
ControlType = Literal["canny", "depth", "pose", "scribble", "tile"]


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
    commercial: Literal["yes", "no", "threshold", "territory"]
    gated: bool = False
    accept_required: bool = False


class Defaults(Value):
    """What a request that leaves a field out gets."""

    width: int
    height: int
    steps: int
    guidance_scale: float
    sampler: str
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


class Manifest(Value):
    """A model of the catalogue.

    `memory_bytes` gives the resident size per precision. `options` is a JSON schema of what only this model
    understands (`tintype.catalog.options` says how much of one); it validates a request, documents it and draws its
    form. `draws_people` decides whether the safety detector is needed to load it; `depicts_person` says that a LoRA was
    trained on one person, and then it counts as a picture of one. `controls` are the kinds of pictures a ControlNet
    understands or a preprocessor makes of photographs, `scales` how many times an upscaler enlarges.
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
    defaults: Defaults | None = None
    limits: Limits | None = None
    options: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    trigger_words: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    preview: str | None = None
    replaces: tuple[Slug, ...] = ()

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        generates = any(task.startswith("text_to") for task in self.tasks)
        if generates and (self.defaults is None or self.limits is None or not self.samplers):
            raise ValueError("a model that generates needs `defaults`, `limits` and `samplers`")
        if self.defaults is not None and self.defaults.sampler not in self.samplers:
            raise ValueError(f"default sampler {self.defaults.sampler!r} is not among `samplers`")
        if "references" in self.features and (self.limits is None or not self.limits.max_references):
            raise ValueError("a model that takes references says how many in `limits.max_references`")
        return self

    @field_validator("options")
    @classmethod
    def _can_be_checked(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        if value and options.Schema.model_validate(value).type != "object":
            raise ValueError("options are an object with `properties`")
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
        return Manifest.model_validate(json.loads(path.read_text()))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise ManifestError(f"{path}: {problems}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: {error}") from error
