"""Masks that a request describes instead of bringing along: shapes in the pixels of the picture that is changed."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tintype.errors import FieldError

MAX_SHAPES = 50
MAX_POINTS = 5_000
"""Points of all shapes of a mask together."""
FARTHEST = 32_768
"""How far from the picture's corner a point may lie, so that a stroke may run over the edge."""

Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-FARTHEST, le=FARTHEST)]
Length = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=FARTHEST)]
Point = tuple[Coordinate, Coordinate]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge."""


class Part(BaseModel):
    """A frozen part of a mask; a field that does not exist is a typing mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Shape(Part):
    """A shape; `erase` takes it away from what shapes before it cover."""

    erase: bool = Field(default=False, strict=True)


class _Boxed(Shape):
    x: Coordinate = Field(description="The left edge.")
    y: Coordinate = Field(description="The upper edge.")
    width: Length
    height: Length


class Rectangle(_Boxed):
    """A rectangle by its upper left corner and its sides."""

    type: Literal["rectangle"]


class Ellipse(_Boxed):
    """The ellipse that fills a rectangle."""

    type: Literal["ellipse"]


class Polygon(Shape):
    """An area by its corners; the last is joined to the first."""

    type: Literal["polygon"]
    points: tuple[Point, ...] = Field(min_length=3, max_length=2000)


class Stroke(Shape):
    """What a round brush of `width` pixels paints along the points."""

    type: Literal["stroke"]
    points: tuple[Point, ...] = Field(min_length=1, max_length=4000)
    width: Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=4096)]


TYPES = ("rectangle", "ellipse", "polygon", "stroke")
AnyShape = Annotated[Rectangle | Ellipse | Polygon | Stroke, Field(discriminator="type")]


class Geometry(Part):
    """A mask by shapes, drawn one after the other, in pixels of the picture from its upper left corner."""

    shapes: tuple[AnyShape, ...] = Field(min_length=1, max_length=MAX_SHAPES)
    feather: float = Field(
        default=0, strict=True, allow_inf_nan=False, ge=0, le=512, description="Pixels over which the edge fades."
    )
    invert: bool = Field(default=False, strict=True, description="Whether to draw everywhere else instead.")

    @model_validator(mode="after")
    def _is_not_too_long(self) -> "Geometry":
        points = sum(len(shape.points) for shape in self.shapes if isinstance(shape, Polygon | Stroke))
        if points > MAX_POINTS:
            raise ValueError(f"has {points} points; send at most {MAX_POINTS} in all shapes together")
        return self


PICTURE, GEOMETRY = "a picture", "a geometry"


def tag_of(sent: object) -> str:
    """Which of the two a mask is meant to be, so that only what is wrong with that is said."""
    return GEOMETRY if isinstance(sent, dict | Geometry) else PICTURE


TAGS = frozenset((PICTURE, GEOMETRY, *TYPES))
"""What pydantic adds to the places of errors, and no request has in it."""


def problems(mask: Geometry, width: int, height: int) -> Iterator[FieldError]:
    """What is wrong with a mask of a picture of this size."""
    for index, shape in enumerate(mask.shapes):
        left, top, right, bottom = box_of(shape)
        if right <= 0 or bottom <= 0 or left >= width or top >= height:
            said = f"this {shape.type} lies outside the picture, which is {width}×{height}; move it, or leave it out"
            yield FieldError(loc=("body", "mask", "shapes", index), msg=said)
    if not mask.invert and all(shape.erase for shape in mask.shapes):
        yield FieldError(
            loc=("body", "mask", "shapes"), msg="all erase, so nothing is left to draw; add one that covers"
        )


def box_of(shape: AnyShape) -> Box:
    """What the shape lies within."""
    if isinstance(shape, Rectangle | Ellipse):
        return shape.x, shape.y, shape.x + shape.width, shape.y + shape.height
    reach = shape.width / 2 if isinstance(shape, Stroke) else 0.0
    across, down = [x for x, _ in shape.points], [y for _, y in shape.points]
    return min(across) - reach, min(down) - reach, max(across) + reach, max(down) + reach
