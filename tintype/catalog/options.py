"""The options only one model understands: the part of JSON Schema a manifest describes them in, and its check.

A manifest with a keyword outside this part is refused, so that nothing a manifest promises goes unchecked.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tintype.errors import FieldError

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}

Place = tuple[str | int, ...]
MAX_TEXT_CHARS = 20_000
"""What any text may have; a schema may allow less."""


class Schema(BaseModel):
    """What one option may be; an object takes no property it does not name.

    A text of the format `picture` names a picture of the actor's: by id, as a data URL or as a link.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["object", "array", "string", "integer", "number", "boolean"]
    title: str = ""
    description: str = ""
    default: Any = None
    examples: tuple[Any, ...] = ()
    format: Literal["picture"] | None = None
    enum: tuple[Any, ...] | None = None
    minimum: float = -math.inf
    maximum: float = math.inf
    max_length: float = Field(default=math.inf, ge=0, alias="maxLength")
    max_items: float = Field(default=math.inf, ge=0, alias="maxItems")
    items: "Schema | None" = None
    properties: "Mapping[str, Schema]" = Field(default_factory=dict[str, "Schema"])
    required: tuple[str, ...] = ()
    additional_properties: Literal[False] = Field(default=False, alias="additionalProperties")

    @model_validator(mode="after")
    def _says_what_a_list_holds(self) -> Self:
        if self.type == "array" and self.items is None:
            raise ValueError("an array needs `items`")
        return self


def has_deep_pictures(schema: Schema) -> bool:
    """Whether a picture stands elsewhere than directly among an object's properties, where nobody looks for one."""
    return any(_holds_picture(part) for one in schema.properties.values() for part in _parts(one))


def _holds_picture(schema: Schema) -> bool:
    return schema.format is not None or any(map(_holds_picture, _parts(schema)))


def _parts(schema: Schema) -> Iterator[Schema]:
    yield from schema.properties.values()
    if schema.items is not None:
        yield schema.items


def check(value: object, schema: Schema, place: Place) -> Iterator[FieldError]:
    """Everything in `value` that breaks `schema`, each with the limit; `place` is where the value stands."""
    if not _is_of_type(value, schema.type):
        article = "an" if schema.type[0] in "aio" else "a"
        yield FieldError(loc=place, msg=f"is not of type {schema.type}; send {article} {schema.type}")
        return
    if schema.enum is not None and value not in schema.enum:
        yield FieldError(loc=place, msg=f"send one of {', '.join(map(repr, schema.enum))}")
    if isinstance(value, dict):
        yield from _check_object(cast("dict[str, object]", value), schema, place)
    elif isinstance(value, list | tuple):
        yield from _check_array(cast("list[object]", value), schema, place)
    elif isinstance(value, str) and schema.format is None and len(value) > min(schema.max_length, MAX_TEXT_CHARS):
        most = min(schema.max_length, MAX_TEXT_CHARS)
        yield FieldError(loc=place, msg=f"has {len(value)} characters; send at most {most:g}")
    elif isinstance(value, int | float):
        if value < schema.minimum:
            yield FieldError(loc=place, msg=f"is {value}; send {schema.minimum:g} or more")
        if value > schema.maximum:
            yield FieldError(loc=place, msg=f"is {value}; send {schema.maximum:g} or less")


def _check_object(value: Mapping[str, object], schema: Schema, place: Place) -> Iterator[FieldError]:
    for name in schema.required:
        if name not in value:
            yield FieldError(loc=(*place, name), msg="is required")
    for name, item in value.items():
        if name in schema.properties:
            yield from check(item, schema.properties[name], (*place, name))
        else:
            there = f"there are {', '.join(schema.properties)}" if schema.properties else "there are none"
            yield FieldError(loc=(*place, name), msg=f"there is no such option; {there}")


def _check_array(value: list[object], schema: Schema, place: Place) -> Iterator[FieldError]:
    if len(value) > schema.max_items:
        yield FieldError(loc=place, msg=f"has {len(value)} items; send at most {schema.max_items:g}")
    assert schema.items is not None
    for index, item in enumerate(value):
        yield from check(item, schema.items, (*place, index))


def _is_of_type(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, TYPES[kind]) or (kind == "integer" and isinstance(value, float) and value.is_integer())
