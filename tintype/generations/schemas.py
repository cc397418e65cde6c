"""Generations on the wire: what a request may say and how a generation reads."""

import re
import uuid
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
)

from tintype.generations import masks
from tintype.generations.states import Status
from tintype.intake.text import clean_text

MAX_SEED = 2**32 - 1
MAX_PROMPT_CHARS = 20_000
"""What is read at all; a model's manifest may allow less."""
MAX_CLEANED_CHARS = 4 * MAX_PROMPT_CHARS
"""Longer ones are not searched for what nobody sees in them; they are refused as they are."""

OutputFormat = Literal["png", "jpeg", "webp"]
VideoFormat = Literal["mp4", "webp", "gif"]


CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
SURROGATE = re.compile(r"[\ud800-\udfff]")
DATA_URL = re.compile(r"data:image/[a-z]{3,4};base64,[A-Za-z0-9+/=]*")
MAX_OPTIONS_DEPTH = 8
MAX_OPTIONS_VALUES = 1000
MAX_OPTIONS_INTEGER = 2**53


def _plain(value: str) -> str:
    if CONTROL.search(value):
        raise ValueError("contains control characters; send plain text with line breaks and tabs at most")
    return value


def _cleaned(value: object) -> object:
    """A text as it is stored: without direction marks and the like. Half characters are left for pydantic to refuse."""
    if not isinstance(value, str) or SURROGATE.search(value):
        return value
    plain = _plain(value)
    if len(plain) > MAX_CLEANED_CHARS and len(plain := plain.strip()) > MAX_CLEANED_CHARS:
        return value
    return clean_text(plain)


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is not a number; send one")
    return value


def _storable(options: dict[str, Any]) -> dict[str, Any]:
    """Options with their texts cleaned; refuses what a database column or a provider cannot take.

    The model's schema may refuse more.
    """
    left = [(cast("object", options), 0)]
    seen = 0
    while left:
        value, depth = left.pop()
        seen += 1
        if depth > MAX_OPTIONS_DEPTH or seen > MAX_OPTIONS_VALUES:
            raise ValueError(f"has more than {MAX_OPTIONS_DEPTH} levels or {MAX_OPTIONS_VALUES} values")
        if isinstance(value, int | float) and not abs(value) <= MAX_OPTIONS_INTEGER:
            raise ValueError("has a number that is not finite or beyond 2^53")
        if isinstance(value, dict):
            left += [(part, depth + 1) for pair in cast("dict[str, object]", value).items() for part in pair]
        elif isinstance(value, list):
            left += [(item, depth + 1) for item in cast("list[object]", value)]
    return {
        _option_text(name): value if _is_data_url(value) else _with_clean_texts(value)
        for name, value in options.items()
    }


def _is_data_url(value: object) -> bool:
    """Whether an option brings a picture along; only an option that is one may be that long."""
    return isinstance(value, str) and DATA_URL.fullmatch(value) is not None


def _with_clean_texts(value: Any) -> Any:
    match value:
        case str():
            return _option_text(value)
        case dict():
            entries = cast("dict[str, Any]", value)
            return {_option_text(name): _with_clean_texts(item) for name, item in entries.items()}
        case list():
            return [_with_clean_texts(item) for item in cast("list[Any]", value)]
        case _:
            return value


def _option_text(value: str) -> str:
    text = str(_cleaned(_plain(value)))
    if len(text) > MAX_PROMPT_CHARS:
        raise ValueError(f"has a text of more than {MAX_PROMPT_CHARS} characters")
    return text


Clean = BeforeValidator(_cleaned)
Text = Annotated[str, StringConstraints(max_length=MAX_PROMPT_CHARS), Clean, AfterValidator(_plain)]
Prompt = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_PROMPT_CHARS, strip_whitespace=True),
    Clean,
    AfterValidator(_plain),
]
ShortText = Annotated[str, StringConstraints(max_length=100), Clean, AfterValidator(_plain)]
Integer = Annotated[int, BeforeValidator(_no_boolean)]
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_boolean)]
Options = Annotated[dict[str, Any], AfterValidator(_storable)]
PICTURE = r"^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$|data:image/[a-z]{3,4};base64,|https?://)"
IS_PICTURE = re.compile(PICTURE)


def _picture(value: str) -> str:
    if not IS_PICTURE.match(value):
        raise ValueError("is no picture; send the id of one of yours, or the file as `data:image/png;base64,…`")
    return value


Picture = Annotated[
    str,
    AfterValidator(_picture),
    Field(
        description="The id of a picture of yours, a data URL, or a link where this server fetches links.",
        json_schema_extra={"pattern": PICTURE},
    ),
]
Mask = Annotated[
    Annotated[Picture, Tag(masks.PICTURE)] | Annotated[masks.Geometry, Tag(masks.GEOMETRY)],
    Discriminator(masks.tag_of),
]


class Wire(BaseModel):
    """A frozen part of a request; a field that does not exist is an error, because it is usually a typing mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, populate_by_name=True)


class LoraUse(Wire):
    """A LoRA and how strongly it acts."""

    model_id: ShortText
    weight: Number = Field(default=1.0, ge=-4, le=4)


class Control(Wire):
    """A control picture: what it steers, how strongly and over which part of the run (fractions of all steps)."""

    type: Literal["canny", "depth", "pose", "scribble", "tile"]
    image: Picture
    is_ready: bool = Field(
        default=False,
        description="Whether it is a drawing of edges, depths or a pose already; else one is made of the photograph.",
    )
    strength: Number = Field(default=1.0, ge=0, le=2)
    start: Number = Field(default=0.0, ge=0, le=1)
    end: Number = Field(default=1.0, ge=0, le=1)


class Hires(Wire):
    """A second pass at a larger size; with `upscaler` over the picture that this model makes, else over latents."""

    scale: Number = Field(gt=1, le=4)
    steps: Integer | None = Field(default=None, ge=1, le=200)
    strength: Number = Field(default=0.5, gt=0, le=1)
    upscaler: ShortText | None = Field(default=None, description="An installed model that enlarges.")


class Refiner(Wire):
    """A second model that takes over at `switch_at` (fraction of all steps)."""

    model: ShortText
    switch_at: Number = Field(default=0.8, gt=0, lt=1)


class Drawing(Wire):
    """What a request for pictures and one for a video have in common. What is left out gets the model's defaults."""

    negative_prompt: Text = Field(default="", description="What to avoid.")
    model: ShortText | None = Field(default=None, description="A model of `GET /api/models`.")
    width: Integer | None = Field(default=None, ge=1, le=16384, description="Pixels.")
    height: Integer | None = Field(default=None, ge=1, le=16384, description="Pixels.")
    seed: Integer | None = Field(default=None, ge=-1, le=MAX_SEED, description="−1 or absent draws one.")
    num_inference_steps: Integer | None = Field(
        default=None, ge=1, le=1000, validation_alias=AliasChoices("num_inference_steps", "steps")
    )
    guidance_scale: Number | None = Field(
        default=None, ge=0, le=100, validation_alias=AliasChoices("guidance_scale", "cfg_scale")
    )
    sampler: ShortText | None = None
    loras: tuple[LoraUse, ...] = Field(default=(), max_length=3)
    model_id: ShortText | None = Field(default=None, description="Shorthand for one LoRA.")
    lora_weight: Number | None = Field(default=None, ge=-4, le=4)
    seed_mode: Literal["fast", "bucket", "strict"] = "fast"
    route: ShortText | None = None
    priority: Integer = Field(default=0, ge=-100, le=100, description="Higher runs first; capped by role.")
    webhook: Text | None = None
    options: Options = Field(default_factory=dict[str, Any], description="What only this model understands.")


class ImageCreate(Drawing):
    """A request for pictures from words. What is left out gets the model's defaults."""

    prompt: Prompt = Field(description="What to draw.", examples=["a red circle on a blue background"])
    style: ShortText | None = Field(default=None, description="A style of `GET /api/styles`.")
    num_images: Integer = Field(default=1, ge=1, le=8)
    controls: tuple[Control, ...] = Field(default=(), max_length=4)
    style_image: Picture | None = None
    hires: Hires | None = None
    refiner: Refiner | None = None
    output_format: OutputFormat = "png"


class Outpaint(Wire):
    """How many pixels to add on each side of a picture."""

    left: Integer = Field(default=0, ge=0, le=4096)
    top: Integer = Field(default=0, ge=0, le=4096)
    right: Integer = Field(default=0, ge=0, le=4096)
    bottom: Integer = Field(default=0, ge=0, le=4096)


class EditCreate(ImageCreate):
    """A request to change a picture. Without `width` and `height` it keeps its size, as far as the model draws that."""

    image: Picture
    prompt: Text = Field(default="", description="What to draw; may be absent beside `background`.")
    mask: Mask | None = Field(
        default=None,
        description="Where to draw: shapes in the picture's pixels, or a picture as large as it, white where to draw.",
    )
    strength: Number | None = Field(default=None, gt=0, le=1, description="How much of the picture is drawn anew.")
    outpaint: Outpaint | None = None
    background: Prompt | None = Field(default=None, description="`remove`, or a prompt for a new one.")
    references: tuple[Picture, ...] = Field(default=(), max_length=4)


class UpscaleCreate(Wire):
    """A request to enlarge a picture. What says how to draw is for models that draw it over, tile by tile."""

    image: Picture
    scale: Integer = Field(default=2, ge=2, le=8, description="How many times as wide and as high.")
    model: ShortText | None = Field(default=None, description="A model of `GET /api/models`.")
    prompt: Text = Field(default="", description="What to draw in every tile, such as a material or a manner.")
    negative_prompt: Text = Field(default="", description="What to avoid.")
    strength: Number | None = Field(default=None, gt=0, le=1, description="How much is drawn anew.")
    seed: Integer | None = Field(default=None, ge=-1, le=MAX_SEED, description="−1 or absent draws one.")
    num_inference_steps: Integer | None = Field(
        default=None, ge=1, le=1000, validation_alias=AliasChoices("num_inference_steps", "steps")
    )
    guidance_scale: Number | None = Field(
        default=None, ge=0, le=100, validation_alias=AliasChoices("guidance_scale", "cfg_scale")
    )
    sampler: ShortText | None = None
    seed_mode: Literal["fast", "bucket", "strict"] = "fast"
    upscaler: ShortText | None = Field(
        default=None, description="What enlarges before it is drawn over; absent takes one that is installed."
    )
    output_format: OutputFormat = "png"
    route: ShortText | None = None
    priority: Integer = Field(default=0, ge=-100, le=100, description="Higher runs first; capped by role.")
    webhook: Text | None = None
    options: Options = Field(default_factory=dict[str, Any], description="What only this model understands.")


class VideoCreate(Drawing):
    """A request for one video: from words, or from the picture it begins with, without sound.

    Its length is so many `seconds` or `frames` (send one of them) as come closest to what the model makes.
    """

    prompt: Text = Field(default="", description="What to show; may be absent beside `image`.")
    image: Picture | None = Field(default=None, description="The picture it begins with.")
    last_image: Picture | None = Field(default=None, description="The picture it ends with, where the model can.")
    seconds: Number | None = Field(default=None, gt=0, le=3600)
    frames: Integer | None = Field(default=None, ge=1, le=100_000)
    fps: Integer | None = Field(default=None, ge=1, le=1000, description="Frames a second.")
    output_format: VideoFormat = "mp4"


Request = ImageCreate | UpscaleCreate | VideoCreate
"""Whatever makes a generation."""


class ProgressRead(BaseModel):
    """How far a running generation is."""

    step: int
    steps: int
    percent: float
    eta_s: float | None


class StoryboardRead(BaseModel):
    """Frames of a whole video on one sheet: `tiles` of one size, row by row, evenly spaced in time."""

    url: str
    tiles: int
    columns: int
    tile_width: int
    tile_height: int


class VideoRead(BaseModel):
    """What only a video has."""

    seconds: float
    fps: float
    frames: int
    codec: str
    storyboard: StoryboardRead


class MediaRead(BaseModel):
    """A stored picture or video; the URLs are signed and expire. A video's thumbnail is the frame it begins with."""

    id: uuid.UUID
    generation_id: uuid.UUID | None
    index: int
    source: Literal["generated", "uploaded"]
    content_type: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    seed: int | None
    settings: dict[str, Any] | None
    video: VideoRead | None = Field(description="Null for a picture.")
    url: str
    thumbnail_url: str
    created_at: datetime


class ErrorRead(BaseModel):
    """Why a generation failed, or what is worth knowing of it."""

    code: str
    message: str


class CostRead(BaseModel):
    """What a generation cost, in US dollars."""

    usd: float


class GenerationRead(BaseModel):
    """A generation as it stands."""

    id: uuid.UUID
    kind: Literal["image", "video"]
    status: Status
    prompt: str
    parameters: dict[str, Any]
    model: str
    style: str | None
    position: int | None = Field(
        description="Place in line while it waits, 1 is next; counted up to 1000. Null once it runs or has ended."
    )
    progress: ProgressRead | None
    cancel_requested: bool = Field(description="Whether somebody asked to stop it; a running one stops within a step.")
    output_paths: list[str]
    media: list[MediaRead]
    error: ErrorRead | None
    warnings: list[ErrorRead] = Field(description="What is worth knowing although the request was accepted.")
    cost: CostRead
    attempt: int
    retry_of: uuid.UUID | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


class GenerationPage(BaseModel):
    """A page of generations, newest first; `next_cursor` is null on the last."""

    items: list[GenerationRead]
    next_cursor: str | None
