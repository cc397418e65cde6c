"""`detector.json`: what a detector's folder says about its network beyond what the network says itself."""

import json
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tintype.detectors import scoring
from tintype.detectors.folders import DESCRIPTION, Folder
from tintype.detectors.pictures import Input, Tiles
from tintype.safety.contract import Label


class Value(BaseModel):
    """A frozen part of a description; unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Adapter(BaseModel):
    """The one field every description has: which adapter reads the rest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    adapter: str


class ImageClassifierDescription(Value):
    """A Hugging Face classifier folder; `labels` must name exactly the classes of its config.json."""

    adapter: Literal["image_classifier"]
    labels: dict[str, Label | None]
    tiles: Tiles = Tiles()


class OnnxClassifierDescription(Value):
    """A classifier exported to ONNX: `classes` in the order of its output, which has shape [pictures, classes]."""

    adapter: Literal["onnx_classifier"]
    file: str
    input: Input
    activation: scoring.Activation
    classes: tuple[str, ...] = Field(min_length=1)
    labels: dict[str, Label | None]
    tiles: Tiles = Tiles()

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        if problem := scoring.problem_of(self.classes, self.labels):
            raise ValueError(problem)
        return self


class Queries(Value):
    """Boxes as transformers-like detectors give them: centre and size as parts of the input, beside class values."""

    form: Literal["queries"]
    boxes: str
    scores: str
    activation: scoring.Activation
    has_background: bool = False


class Rows(Value):
    """One row per box: centre and size in input pixels, then one value per class; `transposed` if rows come last."""

    form: Literal["rows"]
    output: str
    activation: scoring.Activation = "none"
    transposed: bool = False


class Grid(Value):
    """One row per cell of YOLOX's grids: centre and size relative to the cell, objectness, then the classes."""

    form: Literal["grid"]
    output: str
    strides: tuple[int, ...] = (8, 16, 32)


class Yunet(Value):
    """YuNet's twelve outputs `cls_8`, `obj_8`, `bbox_8`, ... for one class."""

    form: Literal["yunet"]
    strides: tuple[int, ...] = (8, 16, 32)


class OnnxBoxesDescription(Value):
    """A detector in ONNX that gives boxes.

    A box counts from `threshold` on, in the network's own scores; a label's score is 0.5 there, as the policy reads it.
    Classes that `labels` leaves out are ignored: such networks often know eighty kinds of things.
    """

    adapter: Literal["onnx_boxes"]
    file: str
    input: Input
    output: Annotated[Queries | Rows | Grid | Yunet, Field(discriminator="form")]
    classes: tuple[str, ...] = Field(min_length=1)
    labels: dict[str, Label] = Field(min_length=1)
    threshold: float = Field(default=0.4, ge=0.05, le=0.9)
    same_from: float = Field(default=0.5, ge=0.1, le=1)
    tiles: Tiles = Tiles()

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        if unknown := set(self.labels) - set(self.classes):
            raise ValueError(f"labels are given for {sorted(unknown)}, which are not among its classes")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class is named twice")
        if self.output.form == "yunet" and len(self.classes) != 1:
            raise ValueError("YuNet knows one class")
        return self


class Severity(Value):
    """How sure a guard's level counts; neither can be turned off."""

    unsafe: float = Field(default=1.0, ge=0.5, le=1)
    controversial: float = Field(default=0.5, ge=0.25, le=1)


class TextClassifierDescription(Value):
    """A guard language model that answers in Qwen3Guard's form.

    `labels` says what each of its categories means to us, `severity` how sure a level counts. Long texts are judged
    in pieces of `piece_tokens` that overlap; more than `most_pieces` is an error.
    """

    adapter: Literal["text_classifier"]
    labels: dict[str, Label | None]
    severity: Severity = Severity()
    piece_tokens: int = Field(default=512, ge=32, le=8192)
    overlap_tokens: int = Field(default=64, ge=0, le=512)
    most_pieces: int = Field(default=32, ge=1, le=256)
    answer_tokens: int = Field(default=96, ge=8, le=512)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.overlap_tokens * 2 > self.piece_tokens:
            raise ValueError("overlap_tokens may be half of piece_tokens at most")
        if not any(self.labels.values()):
            raise ValueError("none of its categories has a label")
        return self


Description = TypeVar("Description", bound=BaseModel)


def read(folder: Folder, kind: type[Description]) -> Description:
    """The description in `folder`, as the adapter that reads `kind` understands it.

    Raises:
        DetectorBrokenError: it is not JSON or breaks a rule; the message says which.
    """
    try:
        return kind.model_validate(json.loads(folder.read(DESCRIPTION)))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or DESCRIPTION}: {e['msg']}" for e in error.errors())
        raise folder.broken(f"{DESCRIPTION}: {problems}") from error
    except (ValueError, RecursionError) as error:
        raise folder.broken(f"{DESCRIPTION} is not JSON ({error})") from error
