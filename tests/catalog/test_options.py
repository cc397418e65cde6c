"""Options are held to the JSON schema of their model."""

import math

import pytest
from pydantic import ValidationError

from tintype.catalog import options

SCHEMA = {
    "type": "object",
    "required": ["mode"],
    "properties": {
        "mode": {"type": "string", "enum": ["slow", "fast"], "title": "Mode", "default": "slow"},
        "strength": {"type": "number", "minimum": 0, "maximum": 1.5},
        "rounds": {"type": "integer", "minimum": 1},
        "tiled": {"type": "boolean"},
        "name": {"type": "string", "maxLength": 3},
        "points": {
            "type": "array",
            "maxItems": 2,
            "items": {"type": "object", "properties": {"x": {"type": "number"}}},
        },
    },
}


def problems(**value: object) -> dict[tuple[str | int, ...], str]:
    found = options.check({"mode": "slow", **value}, options.Schema.model_validate(SCHEMA), ("body", "options"))
    return {problem.loc[2:]: problem.msg for problem in found}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"strength": 0},
        {"strength": 1.5},
        {"rounds": 1},
        {"rounds": 2.0},
        {"tiled": False},
        {"name": "äöü"},
        {"points": []},
        {"points": [{"x": 1}, {}]},
        {"mode": "fast"},
    ],
    ids=str,
)
def test_what_fits_is_taken(value):
    assert problems(**value) == {}


@pytest.mark.parametrize(
    ("value", "place", "says"),
    [
        ({"mode": "medium"}, ("mode",), "send one of 'slow', 'fast'"),
        ({"mode": 1}, ("mode",), "send a string"),
        ({"strength": -0.1}, ("strength",), "is -0.1; send 0 or more"),
        ({"strength": 2}, ("strength",), "is 2; send 1.5 or less"),
        ({"strength": "1"}, ("strength",), "send a number"),
        ({"strength": True}, ("strength",), "send a number"),
        ({"strength": math.inf}, ("strength",), "send 1.5 or less"),
        ({"rounds": 0}, ("rounds",), "send 1 or more"),
        ({"rounds": 1.5}, ("rounds",), "send an integer"),
        ({"tiled": 1}, ("tiled",), "send a boolean"),
        ({"tiled": None}, ("tiled",), "send a boolean"),
        ({"name": "four"}, ("name",), "has 4 characters; send at most 3"),
        ({"points": {}}, ("points",), "send an array"),
        ({"points": [{}, {}, {}]}, ("points",), "has 3 items; send at most 2"),
        ({"points": [{}, {"x": "1"}]}, ("points", 1, "x"), "send a number"),
        ({"points": [{"y": 1}]}, ("points", 0, "y"), "no such option; there are x"),
        ({"speed": 1}, ("speed",), "no such option; there are mode, strength"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named_with_its_place_and_limit(value, place, says):
    found = problems(**value)
    assert list(found) == [place]
    assert says in found[place]


def test_a_required_option_is_asked_for():
    [problem] = options.check({}, options.Schema.model_validate(SCHEMA), ("body", "options"))
    assert (problem.loc, problem.msg) == (("body", "options", "mode"), "is required")


def test_a_model_without_options_takes_none():
    [problem] = options.check({"a": 1}, options.Schema(type="object"), ("body", "options"))
    assert problem.msg == "there is no such option; there are none"


@pytest.mark.parametrize(
    "schema",
    [
        [],
        {},
        {"type": ["string", "null"]},
        {"type": "object", "properties": {"a": True}},
        {"type": "string", "format": "uri"},
        {"type": "object", "patternProperties": {}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": []},
        {"type": "array"},
        {"type": "number", "minimum": "low"},
        {"type": "string", "maxLength": -1},
        {"type": "string", "enum": "abc"},
    ],
    ids=str,
)
def test_a_schema_that_could_not_be_checked_is_refused(schema):
    with pytest.raises(ValidationError):
        options.Schema.model_validate(schema)


def test_a_picture_stands_directly_among_the_options_and_nowhere_deeper():
    picture = {"type": "string", "format": "picture"}
    flat = options.Schema.model_validate({"type": "object", "properties": {"pose": picture}})
    deep = [
        {"type": "array", "items": picture},
        {"type": "object", "properties": {"b": {"type": "object", "properties": {"c": picture}}}},
    ]
    assert not options.has_deep_pictures(flat)
    for one in deep:
        assert options.has_deep_pictures(options.Schema.model_validate({"type": "object", "properties": {"a": one}}))
