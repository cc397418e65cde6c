"""From a request to resolved parameters: defaults filled in, every limit of the model's manifest checked.

All that is wrong is reported at once, each with the field, the limit and what to send instead.
"""

import math
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from tintype import errors
from tintype.catalog import operations as catalog
from tintype.catalog import options, styles
from tintype.catalog.manifest import Limits, Manifest, Taken
from tintype.catalog.operations import Catalogue, Model
from tintype.errors import FieldError
from tintype.generations import companions, pictures
from tintype.generations.pictures import Picture, Place
from tintype.generations.schemas import IS_PICTURE, MAX_SEED, Drawing, Hires, ImageCreate
from tintype.media.tables import Media
from tintype.safety import registry

MAX_SIDE = 16_384
"""Pixels along one side of any picture that is made."""


class InvalidGenerationError(errors.InvalidRequestError):
    """The request does not fit what the model offers."""

    code = "invalid_request"


class ModelUnknownError(errors.InvalidRequestError):
    """The request names a model that is not installed."""

    code = "model_unknown"


class SafetyDetectorMissingError(errors.InvalidRequestError):
    """What is asked for may show people, and no safety detector is installed."""

    code = "safety_detector_missing"


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A request with nothing left open."""

    model: Model
    style: str | None
    prompt: str
    parameters: dict[str, Any]


def resolve(request: ImageCreate, catalogue: Catalogue, inputs: Sequence[Picture] = ()) -> Resolved:
    """Check `request` against the manifest of the model it will run on and fill in what it leaves out.

    Raises:
        ModelUnknownError: no such model is installed.
        SafetyDetectorMissingError: nothing here could check what the model draws.
        InvalidGenerationError: fields break limits; all of them are listed.
    """
    style = style_of(request)
    model = _model(request, style, catalogue)
    manifest = model.manifest
    if "text_to_image" not in manifest.tasks or manifest.defaults is None or manifest.limits is None:
        raise invalid([field("model", f"{manifest.id!r} does not make pictures from words; choose another model")])
    check_safety([model], catalogue)
    width, height = request.width or manifest.defaults.width, request.height or manifest.defaults.height
    problems = [
        *size_problems(width, height, manifest.limits, manifest, request.hires),
        *taken_problems(request, manifest),
        *drawing_problems(request, model, catalogue),
    ]
    if problems:
        raise invalid(problems)
    sized = request.model_copy(update={"width": width, "height": height})
    parameters = filled_in("text_to_image", sized, style, manifest, catalogue, inputs)
    return Resolved(model=model, style=request.style, prompt=request.prompt, parameters=parameters)


def drawing_problems(request: ImageCreate, model: Model, catalogue: Catalogue) -> Iterator[FieldError]:
    """Everything in a request but its size and its pictures that a model which draws does not offer."""
    manifest = model.manifest
    assert manifest.limits is not None
    yield from _run_problems(request, manifest.limits, manifest)
    yield from _text_problems(request, manifest.limits, manifest)
    yield from feature_problems(request, manifest)
    yield from companions.problems(request, manifest, catalogue.models())
    yield from option_problems(request.options, manifest)


def filled_in(
    task: str,
    request: ImageCreate,
    style: styles.Style | None,
    manifest: Manifest,
    catalogue: Catalogue,
    inputs: Sequence[Picture],
) -> dict[str, Any]:
    """The parameters of a request whose size is chosen, with nothing left out.

    `drawn` are the words the model gets, which a style may have changed.
    """
    first_seed = secrets.randbelow(MAX_SEED + 1) if request.seed in (None, -1) else request.seed
    assert first_seed is not None
    assert manifest.defaults is not None
    defaults, chosen = styles.run(style, manifest, manifest.defaults, request.options)
    drawn = (request.prompt, request.negative_prompt or defaults.negative_prompt)
    if style is not None:
        drawn = styles.apply(style, manifest.family, *drawn)
    return {
        "task": task,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt or defaults.negative_prompt,
        "drawn": {"prompt": drawn[0], "negative_prompt": drawn[1]},
        "width": request.width,
        "height": request.height,
        "num_images": request.num_images,
        "seed": first_seed,
        "seeds": [(first_seed + index) % (MAX_SEED + 1) for index in range(request.num_images)],
        "num_inference_steps": request.num_inference_steps or defaults.steps,
        "guidance_scale": defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale,
        "sampler": request.sampler or defaults.sampler,
        "seed_mode": request.seed_mode,
        "output_format": request.output_format,
        **option_parameters(chosen, manifest, inputs),
        **companions.chosen(request, manifest, catalogue.models(), pictures.ids_by_place(inputs)),
    }


def check_safety(models: Iterable[Model], catalogue: Catalogue) -> None:
    """Refuse models whose pictures nothing here could look at.

    Raises:
        SafetyDetectorMissingError: one names detectors that are not installed, or none is installed at all.
    """
    installed = catalogue.models()
    for model in models:
        if not model.can_draw_people:
            continue
        missing = [name for name in model.manifest.dependencies if name not in installed]
        if not missing and has_detector(catalogue):
            continue
        what = f"its safety detector {missing[0]!r} is not installed" if missing else "no safety detector is installed"
        detail = (
            f"{model.id!r} can draw people and {what}; choose a model that draws none, such as "
            f"{catalog.DEFAULT_MODEL!r}"
        )
        raise SafetyDetectorMissingError(detail, fields=(field("model", detail),))


def check_pictures_safety(inputs: Iterable[tuple[Place, Media]], catalogue: Catalogue) -> None:
    """Refuse pictures that were not drawn here by the built-in model where nothing could look at them.

    Raises:
        SafetyDetectorMissingError: no detector is installed.
    """
    foreign = [place for place, row in inputs if row.is_foreign]
    if foreign and not has_detector(catalogue):
        fields = tuple(FieldError(loc=place, msg=_unseen(place)) for place in foreign)
        raise SafetyDetectorMissingError(fields[0].msg, fields=fields)


def _unseen(place: Place) -> str:
    """What to do about a picture that nothing here can look at."""
    if place[-1] == "mask":
        return (
            "a mask is a picture that is looked at as any other, and no safety detector is installed; send shapes "
            'instead, such as {"shapes": [{"type": "ellipse", …}]}, or install one (docs/safety.md)'
        )
    return (
        "this picture may show people and no safety detector is installed to look at it; send one that "
        f"{catalog.DEFAULT_MODEL!r} drew"
    )


def has_detector(catalogue: Catalogue) -> bool:
    """Whether a safety detector is installed; whether it works, workers say."""
    return registry.has_foreign() or any(each.manifest.kind == "detector" for each in catalogue.models().values())


def style_of(request: ImageCreate) -> styles.Style | None:
    """The style a request names, if it names one.

    Raises:
        InvalidGenerationError: there is none of this name.
    """
    if request.style is None:
        return None
    try:
        return styles.get(request.style)
    except styles.UnknownStyleError as error:
        raise invalid([field("style", error.detail)]) from error


def _model(request: ImageCreate, style: styles.Style | None, catalogue: Catalogue) -> Model:
    if request.model is not None:
        return named_model(request.model, catalogue)
    if style is None:
        return catalogue.get(catalog.DEFAULT_MODEL)
    able = [model.id for model in catalogue.models().values() if "text_to_image" in model.manifest.tasks]
    return catalogue.get(model_in(style, able, catalogue))


def model_in(style: styles.Style, able: Sequence[str], catalogue: Catalogue) -> str:
    """The first of the models `able` to do a task that the style prefers, else one that it has words for.

    Raises:
        InvalidGenerationError: it has none among them.
    """
    models = catalogue.models()
    worded = [name for name in able if models[name].manifest.family in style.families]
    chosen = next((name for name in (*style.models, *worded) if name in able), None)
    if chosen is None:
        names = " or ".join(map(repr, style.models))
        said = f"no installed model that can do this draws in the style {style.id!r}; install {names}, or leave it out"
        raise invalid([field("style", said)])
    return chosen


def named_model(name: str, catalogue: Catalogue) -> Model:
    """The model a request names.

    Raises:
        ModelUnknownError: it is not installed.
    """
    try:
        return catalogue.get(name)
    except catalog.UnknownModelError as error:
        raise ModelUnknownError(error.detail, fields=(field("model", error.detail),)) from error


def size_problems(
    width: int, height: int, limits: Limits, manifest: Manifest, hires: Hires | None = None
) -> Iterator[FieldError]:
    """What is wrong with the size of a picture to draw, and of what a second pass makes of it."""
    sides = {"width": width, "height": height}
    for name, side in sides.items():
        if not limits.min_side <= side <= limits.max_side or side % limits.multiple_of:
            yield field(
                name,
                f"{manifest.id!r} draws sides from {limits.min_side} to {limits.max_side} pixels in steps of "
                f"{limits.multiple_of}; send {nearest(side, limits)} instead of {side}",
            )
    if sides["width"] * sides["height"] > limits.max_pixels:
        yield field(
            "width",
            f"{sides['width']}×{sides['height']} is more than the {limits.max_pixels} pixels {manifest.id!r} draws; "
            "send a smaller width or height",
        )
    yield from _second_pass_problems(hires, width, height, limits, manifest)


def _second_pass_problems(
    hires: Hires | None, width: int, height: int, limits: Limits, manifest: Manifest
) -> Iterator[FieldError]:
    """What is wrong with a second pass over a picture of this size: it is held to what the first one is."""
    if hires is None or "hires" not in manifest.features:
        return
    most = min(limits.max_side / max(width, height), math.sqrt(limits.max_pixels / (width * height)))
    if hires.scale > most:
        larger = f"{width}×{height} becomes {round(width * hires.scale)}×{round(height * hires.scale)}"
        limit = f"{manifest.id!r} draws at most {limits.max_pixels} pixels, {limits.max_side} a side"
        at_most = math.floor(100 * most) / 100
        mend = f"send at most {at_most:g}" if at_most > 1 else "leave `hires` out"
        yield FieldError(loc=("body", "hires", "scale"), msg=f"{larger}; {limit}: {mend}, or a smaller picture")
    if (hires.steps or 1) > limits.max_steps:
        said = f"{manifest.id!r} takes at most {limits.max_steps} steps"
        yield FieldError(loc=("body", "hires", "steps"), msg=said)


def nearest(side: int, limits: Limits) -> int:
    """The side closest below, in pixels, that the model draws."""
    least = -(-limits.min_side // limits.multiple_of) * limits.multiple_of
    return max(least, min(side, limits.max_side) // limits.multiple_of * limits.multiple_of)


def _run_problems(request: ImageCreate, limits: Limits, manifest: Manifest) -> Iterator[FieldError]:
    if request.num_images > limits.max_images:
        yield field("num_images", f"{manifest.id!r} draws at most {limits.max_images} pictures a request")
    if (request.num_inference_steps or 1) > limits.max_steps:
        yield field("num_inference_steps", f"{manifest.id!r} takes at most {limits.max_steps} steps")
    if (request.guidance_scale or 0) > limits.max_guidance_scale:
        yield field("guidance_scale", f"{manifest.id!r} takes at most {limits.max_guidance_scale}")
    if request.sampler is not None and request.sampler not in manifest.samplers:
        mend = f"send {_one_of(manifest.samplers)}" if manifest.samplers else "it has its own, so leave it out"
        yield field("sampler", f"{manifest.id!r} has no sampler {request.sampler!r}; {mend}")


def _text_problems(request: ImageCreate, limits: Limits, manifest: Manifest) -> Iterator[FieldError]:
    for name, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
        if len(text) > limits.max_prompt_chars:
            yield field(name, f"has {len(text)} characters; {manifest.id!r} reads at most {limits.max_prompt_chars}")


def feature_problems(request: ImageCreate, manifest: Manifest) -> Iterator[FieldError]:
    """The parts of a request that the model, or this server, does not offer."""
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
            yield field(name, f"{manifest.id!r} does not offer this; leave it out or choose another model")
    yield from delivery_problems(request.route, request.webhook)


def taken_problems(request: Drawing, manifest: Manifest) -> Iterator[FieldError]:
    """The fields of a request, as it was sent, that a workflow would not put to use."""
    taken = (*(manifest.takes or ()), *(("frames",) if "seconds" in (manifest.takes or ()) else ()))
    for name in () if manifest.takes is None else (*get_args(Taken), "frames"):
        if name not in taken and getattr(request, name, None) not in (None, "", -1):
            yield field(name, f"{manifest.id!r} is a workflow that does not take it; leave it out")


def delivery_problems(route: str | None, webhook: str | None) -> Iterator[FieldError]:
    """What this server is not set up for."""
    if route is not None:
        yield field("route", "no routes are set up; leave it out")
    if webhook is not None:
        yield field("webhook", "webhooks are not set up on this server; leave it out and follow the events")


def option_problems(given: Mapping[str, Any], manifest: Manifest) -> Iterator[FieldError]:
    """What in the options breaks the schema of the model's own."""
    schema = options.Schema.model_validate(manifest.options or {"type": "object"})
    yield from options.check(given, schema, ("body", "options"))
    for name in pictures.picture_options(manifest):
        if isinstance(text := given.get(name), str) and not IS_PICTURE.match(text):
            said = "is no picture; send the id of one of yours, or the file as `data:image/png;base64,…`"
            yield FieldError(loc=("body", "options", name), msg=said)


def option_parameters(given: Mapping[str, Any], manifest: Manifest, inputs: Sequence[Picture]) -> dict[str, Any]:
    """The options as parameters: pictures among them by id, and named once more in `option_pictures`.

    Raises:
        InvalidGenerationError: a picture was not looked up, because the request does not name its model.
    """
    found = pictures.ids_by_place(inputs)
    named = {name: found.get(("body", "options", name)) for name in pictures.picture_options(manifest) if name in given}
    if lost := [name for name, media_id in named.items() if media_id is None]:
        raise invalid([FieldError(loc=("body", "options", lost[0]), msg=f"send `model` {manifest.id!r} beside it")])
    return {"options": {**given, **named}, **({"option_pictures": named} if named else {})}


def _one_of(names: tuple[str, ...]) -> str:
    return " or ".join(repr(name) for name in names)


def field(name: str, msg: str) -> FieldError:
    """What is wrong with one field of the body."""
    return FieldError(loc=("body", name), msg=msg)


def invalid(problems: Sequence[FieldError]) -> InvalidGenerationError:
    """All that is wrong with a request, as one refusal."""
    return InvalidGenerationError(
        "; ".join(f"{problem.loc[-1]}: {problem.msg}" for problem in problems), fields=tuple(problems)
    )
