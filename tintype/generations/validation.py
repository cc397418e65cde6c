"""From a request to resolved parameters: defaults filled in, every limit of the model's manifest checked.

All that is wrong is reported at once, each with the field, the limit and what to send instead.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tintype import errors
from tintype.catalog import operations as catalog
from tintype.catalog import options, styles
from tintype.catalog.manifest import Defaults, Limits, Manifest
from tintype.catalog.operations import Catalogue, Model
from tintype.errors import FieldError
from tintype.generations.schemas import MAX_SEED, ImageCreate
from tintype.safety import registry


class InvalidGenerationError(errors.InvalidRequestError):
    """The request does not fit what the model offers."""

    code = "invalid_request"


class ModelUnknownError(errors.InvalidRequestError):
    """The request names a model that is not installed."""

    code = "model_unknown"


class SafetyDetectorMissingError(errors.InvalidRequestError):
    """The model can draw people and no safety detector is installed."""

    code = "safety_detector_missing"


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A request with nothing left open."""

    model: Model
    style: str | None
    prompt: str
    parameters: dict[str, Any]


def resolve(request: ImageCreate, catalogue: Catalogue) -> Resolved:
    """Check `request` against the manifest of the model it will run on and fill in what it leaves out.

    Raises:
        ModelUnknownError: no such model is installed.
        SafetyDetectorMissingError: nothing here could check what the model draws.
        InvalidGenerationError: fields break limits; all of them are listed.
    """
    style = _style(request)
    model = _model(request, style, catalogue)
    manifest = model.manifest
    if "text_to_image" not in manifest.tasks or manifest.defaults is None or manifest.limits is None:
        raise _invalid([_field("model", f"{manifest.id!r} does not make pictures from words; choose another model")])
    check_safety(model, catalogue)
    defaults, limits = manifest.defaults, manifest.limits
    problems = [
        *_size_problems(request, defaults, limits, manifest),
        *_run_problems(request, limits, manifest),
        *_text_problems(request, limits, manifest),
        *_feature_problems(request, manifest),
    ]
    if problems:
        raise _invalid(problems)
    drawn = (request.prompt, request.negative_prompt or defaults.negative_prompt)
    if style is not None:
        drawn = styles.apply(style, manifest.family, *drawn)
    parameters = _filled_in(request, defaults, drawn)
    return Resolved(model=model, style=request.style, prompt=request.prompt, parameters=parameters)


def _filled_in(request: ImageCreate, defaults: Defaults, drawn: tuple[str, str]) -> dict[str, Any]:
    """The request with nothing left out; `drawn` are the words the model gets, which a style may have changed."""
    first_seed = secrets.randbelow(MAX_SEED + 1) if request.seed in (None, -1) else request.seed
    assert first_seed is not None
    return {
        "task": "text_to_image",
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt or defaults.negative_prompt,
        "drawn": {"prompt": drawn[0], "negative_prompt": drawn[1]},
        "width": request.width or defaults.width,
        "height": request.height or defaults.height,
        "num_images": request.num_images,
        "seed": first_seed,
        "seeds": [(first_seed + index) % (MAX_SEED + 1) for index in range(request.num_images)],
        "num_inference_steps": request.num_inference_steps or defaults.steps,
        "guidance_scale": defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale,
        "sampler": request.sampler or defaults.sampler,
        "seed_mode": request.seed_mode,
        "output_format": request.output_format,
        "options": request.options,
    }


def check_safety(model: Model, catalogue: Catalogue) -> None:
    """Refuse a model whose pictures nothing here could look at.

    Raises:
        SafetyDetectorMissingError: it names detectors that are not installed, or none is installed at all.
    """
    if not model.can_draw_people:
        return
    models = catalogue.models()
    missing = [name for name in model.manifest.dependencies if name not in models]
    if not missing and (registry.has_foreign() or any(each.manifest.kind == "detector" for each in models.values())):
        return
    what = f"its safety detector {missing[0]!r} is not installed" if missing else "no safety detector is installed"
    detail = (
        f"{model.id!r} can draw people and {what}; choose a model that draws none, such as {catalog.DEFAULT_MODEL!r}"
    )
    raise SafetyDetectorMissingError(detail, fields=(_field("model", detail),))


def _style(request: ImageCreate) -> styles.Style | None:
    if request.style is None:
        return None
    try:
        return styles.get(request.style)
    except styles.UnknownStyleError as error:
        raise _invalid([_field("style", error.detail)]) from error


def _model(request: ImageCreate, style: styles.Style | None, catalogue: Catalogue) -> Model:
    models = catalogue.models()
    if request.model is None:
        preferred = style.models if style is not None else ()
        chosen = next((name for name in preferred if name in models), catalog.DEFAULT_MODEL)
        return catalogue.get(chosen)
    try:
        return catalogue.get(request.model)
    except catalog.UnknownModelError as error:
        raise ModelUnknownError(error.detail, fields=(_field("model", error.detail),)) from error


def _size_problems(
    request: ImageCreate, defaults: Defaults, limits: Limits, manifest: Manifest
) -> Iterator[FieldError]:
    sides = {"width": request.width or defaults.width, "height": request.height or defaults.height}
    for name, side in sides.items():
        if not limits.min_side <= side <= limits.max_side or side % limits.multiple_of:
            yield _field(
                name,
                f"{manifest.id!r} draws sides from {limits.min_side} to {limits.max_side} pixels in steps of "
                f"{limits.multiple_of}; send {_nearest(side, limits)} instead of {side}",
            )
    if sides["width"] * sides["height"] > limits.max_pixels:
        yield _field(
            "width",
            f"{sides['width']}×{sides['height']} is more than the {limits.max_pixels} pixels {manifest.id!r} draws; "
            "send a smaller width or height",
        )


def _nearest(side: int, limits: Limits) -> int:
    least = -(-limits.min_side // limits.multiple_of) * limits.multiple_of
    return max(least, min(side, limits.max_side) // limits.multiple_of * limits.multiple_of)


def _run_problems(request: ImageCreate, limits: Limits, manifest: Manifest) -> Iterator[FieldError]:
    if request.num_images > limits.max_images:
        yield _field("num_images", f"{manifest.id!r} draws at most {limits.max_images} pictures a request")
    if (request.num_inference_steps or 1) > limits.max_steps:
        yield _field("num_inference_steps", f"{manifest.id!r} takes at most {limits.max_steps} steps")
    if (request.guidance_scale or 0) > limits.max_guidance_scale:
        yield _field("guidance_scale", f"{manifest.id!r} takes at most {limits.max_guidance_scale}")
    if request.sampler is not None and request.sampler not in manifest.samplers:
        yield _field(
            "sampler",
            f"{manifest.id!r} has no sampler {request.sampler!r}; send {_one_of(manifest.samplers)}",
        )


def _text_problems(request: ImageCreate, limits: Limits, manifest: Manifest) -> Iterator[FieldError]:
    for name, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
        if len(text) > limits.max_prompt_chars:
            yield _field(name, f"has {len(text)} characters; {manifest.id!r} reads at most {limits.max_prompt_chars}")


def _feature_problems(request: ImageCreate, manifest: Manifest) -> Iterator[FieldError]:
    asked = {
        "negative_prompt": bool(request.negative_prompt),
        "loras": bool(request.loras),
        "model_id": request.model_id is not None or request.lora_weight is not None,
        "controls": bool(request.controls),
        "style_image": request.style_image is not None,
        "hires": request.hires is not None,
        "refiner": request.refiner is not None,
    }
    for name, is_asked in asked.items():
        feature = "loras" if name == "model_id" else name
        if is_asked and feature not in manifest.features:
            yield _field(name, f"{manifest.id!r} does not offer this; leave it out or choose another model")
    if request.route is not None:
        yield _field("route", "no routes are set up; leave it out")
    if request.webhook is not None:
        yield _field("webhook", "webhooks are not set up on this server; leave it out and follow the events")
    schema = options.Schema.model_validate(manifest.options or {"type": "object"})
    yield from options.check(request.options, schema, ("body", "options"))


def _one_of(names: tuple[str, ...]) -> str:
    return " or ".join(repr(name) for name in names)


def _field(name: str, msg: str) -> FieldError:
    return FieldError(loc=("body", name), msg=msg)


def _invalid(problems: list[FieldError]) -> InvalidGenerationError:
    return InvalidGenerationError(
        "; ".join(f"{problem.loc[-1]}: {problem.msg}" for problem in problems), fields=tuple(problems)
    )
