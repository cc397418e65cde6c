"""Styles: named presets of model and prompt parts, kept as data in `styles.json`."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tintype import errors


class UnknownStyleError(errors.NotFoundError):
    """No style with this id exists."""

    code = "style_unknown"


class StylePart(BaseModel):
    """What a style adds for one family: `prompt` wraps the user's words at `{prompt}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = "{prompt}"
    negative_prompt: str = ""


class Style(BaseModel):
    """A preset; `models` lists the models it prefers, best first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    description: str
    models: tuple[str, ...]
    families: Mapping[str, StylePart]


@cache
def styles() -> Mapping[str, Style]:
    """Every style by id."""
    data = json.loads((Path(__file__).parent / "styles.json").read_text())
    return {style.id: style for style in (Style.model_validate(item) for item in data)}


def get(style_id: str) -> Style:
    """The style `style_id`.

    Raises:
        UnknownStyleError: there is none; the message names those that exist.
    """
    if style_id not in styles():
        raise UnknownStyleError(f"no style {style_id[:80]!r}; styles are {', '.join(styles())}")
    return styles()[style_id]


def apply(style: Style, family: str, prompt: str, negative_prompt: str) -> tuple[str, str]:
    """The prompt and negative prompt a model of `family` gets for the user's words in this style."""
    part = style.families.get(family, StylePart())
    negative = ", ".join(text for text in (negative_prompt, part.negative_prompt) if text)
    return part.prompt.replace("{prompt}", prompt), negative
