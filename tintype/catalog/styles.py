"""Styles: named presets of model and prompt parts, kept as data in `styles.json`."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tintype import errors
from tintype.catalog.manifest import Defaults, Manifest

CHECKPOINT = "checkpoint"
"""The option by which a workflow lets a request choose the model that draws."""


class UnknownStyleError(errors.NotFoundError):
    """No style with this id exists."""

    code = "style_unknown"


class Run(BaseModel):
    """How a style wants a workflow run whose checkpoint it may choose.

    `options` name files that suit it, `a | b` where a server without the first may take the second.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: str
    steps: int = Field(ge=1)
    guidance_scale: float = Field(ge=0)
    options: Mapping[str, str | int | float]


class StylePart(BaseModel):
    """What a style adds for one family: `prompt` wraps the user's words at `{prompt}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = "{prompt}"
    negative_prompt: str = ""
    run: Run | None = None


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


def run(
    style: Style | None, manifest: Manifest, defaults: Defaults, options: Mapping[str, Any]
) -> tuple[Defaults, dict[str, Any]]:
    """The defaults and options of a model in a style.

    A style changes them only where it chooses the checkpoint: the model offers the choice and the request made none.
    """
    part = style.families.get(manifest.family) if style is not None else None
    offered = manifest.options.get("properties", {})
    if part is None or part.run is None or CHECKPOINT not in offered or CHECKPOINT in options:
        return defaults, dict(options)
    wanted = part.run
    sampler = wanted.sampler if wanted.sampler in manifest.samplers else defaults.sampler
    update = {"sampler": sampler, "steps": wanted.steps, "guidance_scale": wanted.guidance_scale}
    chosen = {name: value for name, value in wanted.options.items() if name in offered}
    return defaults.model_copy(update=update), {**chosen, **options}
