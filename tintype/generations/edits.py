"""From a request to change or enlarge a picture to resolved parameters, against the manifest of its model."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tintype.catalog import operations as catalog
from tintype.catalog import styles
from tintype.catalog.manifest import Limits, Manifest, Task
from tintype.catalog.operations import Catalogue, Model
from tintype.errors import FieldError
from tintype.generations import companions, masks, pictures, validation
from tintype.generations.masks import Geometry
from tintype.generations.pictures import Picture
from tintype.generations.schemas import EditCreate, Outpaint, UpscaleCreate
from tintype.generations.validation import Resolved, field, invalid
from tintype.media.tables import Media

REMOVE = "remove"
STRENGTH = 0.6
"""How much of a picture is drawn anew unless the request says: its composition stays, its details may change."""

REDRAWN = 0.3
"""The same of an enlargement: enough for details that were not there, too little for other things."""
DRAWING = (
    *("prompt", "negative_prompt", "strength", "seed", "num_inference_steps"),
    *("guidance_scale", "sampler", "seed_mode", "upscaler"),
)
"""What of a request to enlarge is for models that draw."""

MOST_PIXELS = 50_000_000
"""What an enlarged picture may have where the model sets no limit: as many as an upload."""

DOES: dict[Task, str] = {
    "image_to_image": "changes pictures",
    "inpaint": "draws inside a mask",
    "remove_background": "removes backgrounds",
    "upscale": "enlarges pictures",
    "text_to_video": "makes videos from words",
    "image_to_video": "makes videos from pictures",
}


def task_of(request: EditCreate) -> Task:
    """What a request to change a picture comes to.

    Outpainting is drawing inside the mask of what was added, a new background inside that of the old one.
    """
    if request.background == REMOVE:
        return "remove_background"
    is_partly = request.mask is not None or request.outpaint is not None or request.background is not None
    return "inpaint" if is_partly else "image_to_image"


def resolve_edit(request: EditCreate, catalogue: Catalogue, inputs: Sequence[Picture]) -> Resolved:
    """Check a request to change a picture and fill in what it leaves out.

    Raises:
        ModelUnknownError, SafetyDetectorMissingError, InvalidGenerationError: as for pictures from words.
    """
    task = task_of(request)
    style = validation.style_of(request)
    model = model_for(request.model, style, catalogue, task, takes_references=bool(request.references))
    validation.check_safety([model], catalogue)
    if task == "remove_background":
        return _resolve_removal(request, model, inputs)
    manifest = model.manifest
    if manifest.defaults is None or manifest.limits is None:
        raise invalid([field("model", f"{manifest.id!r} does not draw; choose another model")])
    if request.background is not None:  # what is in front stays as it is: the words are all about what is behind
        words = ", ".join(text for text in (request.prompt, request.background) if text)
        request = request.model_copy(update={"prompt": words})
    if request.outpaint is not None:
        whole = _in_whole_steps(request.outpaint, _source(inputs), manifest.limits)
        request = request.model_copy(update={"outpaint": whole})
    width, height = _size(request, _source(inputs), manifest.limits)
    problems = [
        *_edit_problems(request, inputs, manifest, catalogue),
        *_shape_problems(request, _source(inputs), manifest.limits, manifest),
        *validation.size_problems(width, height, manifest.limits, manifest, request.hires),
        *validation.taken_problems(request, manifest),
        *validation.drawing_problems(request, model, catalogue),
    ]
    if problems:
        raise invalid(problems)
    sized = request.model_copy(update={"width": width, "height": height})
    parameters = validation.filled_in(task, sized, style, manifest, catalogue, inputs)
    parameters |= _picture_parameters(request, task, inputs, catalogue)
    return Resolved(model=model, style=request.style, prompt=request.prompt, parameters=parameters)


def _picture_parameters(
    request: EditCreate, task: Task, inputs: Sequence[Picture], catalogue: Catalogue
) -> dict[str, Any]:
    named = pictures.ids_by_place(inputs)
    strength = STRENGTH if task == "image_to_image" else 1.0
    found: dict[str, Any] = {
        "image": named["body", "image"],
        "strength": strength if request.strength is None else request.strength,
    }
    if isinstance(request.mask, Geometry):
        found["mask"] = request.mask.model_dump(mode="json")
    elif request.mask is not None:
        found["mask"] = named["body", "mask"]
    if request.outpaint is not None:
        found["outpaint"] = request.outpaint.model_dump()
    if request.background is not None:
        found["remover"] = able("remove_background", catalogue)[0]
    if request.references:
        found["references"] = [named["body", "references", index] for index in range(len(request.references))]
    return found


def _edit_problems(
    request: EditCreate, inputs: Sequence[Picture], manifest: Manifest, catalogue: Catalogue
) -> Iterator[FieldError]:
    if not request.prompt and (manifest.takes is None or "prompt" in manifest.takes):
        yield field("prompt", "is required; say what to draw")
    if request.background is not None:
        if not able("remove_background", catalogue):
            yield field("background", "no installed model finds backgrounds; install one, or send a mask and a prompt")
        for name in ("mask", "outpaint"):
            if getattr(request, name) is not None:
                yield field(name, "does not go with a new background; leave it out")
    yield from _reference_problems(request, manifest)
    if request.outpaint is not None:
        if not any(request.outpaint.model_dump().values()):
            yield field("outpaint", "adds nothing; send at least one side")
        for name in ("width", "height"):
            if getattr(request, name) is not None:
                yield field(name, "follows from the picture and `outpaint`; leave it out")
    yield from _mask_problems(request, inputs)


def _mask_problems(request: EditCreate, inputs: Sequence[Picture]) -> Iterator[FieldError]:
    source = _source(inputs)
    if isinstance(request.mask, Geometry):
        yield from masks.problems(request.mask, source.width, source.height)
    for picture in inputs:
        row = picture.media
        if picture.role == "mask" and (row.width, row.height) != (source.width, source.height):
            said = (
                f"is {row.width}×{row.height}; send a mask of {source.width}×{source.height}, the size of the picture"
            )
            yield FieldError(loc=picture.place, msg=said)


def _shape_problems(request: EditCreate, source: Media, limits: Limits, manifest: Manifest) -> Iterator[FieldError]:
    if (grown := request.outpaint) is None:
        return
    width, height = source.width + grown.left + grown.right, source.height + grown.top + grown.bottom
    most = limits.max_side / limits.min_side
    if max(width, height) > most * min(width, height):
        said = f"makes {width}×{height}; {manifest.id!r} draws one side at most {most:g} times the other: add less"
        yield field("outpaint", said)


def _reference_problems(request: EditCreate, manifest: Manifest) -> Iterator[FieldError]:
    if not request.references:
        return
    if "references" not in manifest.features or manifest.limits is None:
        yield field("references", f"{manifest.id!r} takes no references; leave them out or choose another model")
    elif len(request.references) > (most := manifest.limits.max_references):
        yield field("references", f"{manifest.id!r} takes at most {most}; leave the others out")


def _resolve_removal(request: EditCreate, model: Model, inputs: Sequence[Picture]) -> Resolved:
    manifest = model.manifest
    asked = {
        "mask": request.mask is not None,
        "strength": request.strength is not None,
        "outpaint": request.outpaint is not None,
        "references": bool(request.references),
        "width": request.width is not None,
        "height": request.height is not None,
        "num_images": request.num_images > 1,
    }
    problems = [
        *(field(name, "does not go with the removal of a background; leave it out") for name in asked if asked[name]),
        *validation.feature_problems(request, manifest),
        *validation.option_problems(request.options, manifest),
    ]
    if request.output_format == "jpeg":
        problems.append(field("output_format", "'jpeg' cannot be transparent; send 'png' or 'webp'"))
    if problems:
        raise invalid(problems)
    source = _source(inputs)
    size = (source.width, source.height)
    parameters = _of_pictures_alone("remove_background", size, request, manifest, inputs)
    return Resolved(model=model, style=None, prompt="", parameters=parameters)


def resolve_upscale(request: UpscaleCreate, catalogue: Catalogue, inputs: Sequence[Picture]) -> Resolved:
    """Check a request to enlarge a picture.

    Raises:
        ModelUnknownError, SafetyDetectorMissingError, InvalidGenerationError: as for pictures from words.
    """
    model = model_for(request.model, None, catalogue, "upscale")
    validation.check_safety([model], catalogue)
    if model.manifest.defaults is not None and model.manifest.limits is not None:
        return _resolve_redrawing(request, model, catalogue, inputs)
    manifest, source = model.manifest, _source(inputs)
    width, height = source.width * request.scale, source.height * request.scale
    asked = {name for name in DRAWING if getattr(request, name) != UpscaleCreate.model_fields[name].default}
    problems = [
        *_scale_problems(request, width, height, manifest),
        *(field(name, f"{manifest.id!r} does not draw; leave it out") for name in sorted(asked)),
        *validation.delivery_problems(request.route, request.webhook),
        *validation.option_problems(request.options, manifest),
    ]
    if problems:
        raise invalid(problems)
    parameters = _of_pictures_alone("upscale", (width, height), request, manifest, inputs)
    parameters["scale"] = request.scale
    return Resolved(model=model, style=None, prompt="", parameters=parameters)


def _resolve_redrawing(
    request: UpscaleCreate, model: Model, catalogue: Catalogue, inputs: Sequence[Picture]
) -> Resolved:
    """An enlargement by a model that draws, over what an upscaler makes where one is installed."""
    manifest, source, models = model.manifest, _source(inputs), catalogue.models()
    width, height = source.width * request.scale, source.height * request.scale
    same = {
        name: getattr(request, name) for name in (*DRAWING, "image", "output_format", "route", "webhook", "options")
    }
    same.pop("upscaler")
    drawn = EditCreate.model_construct(**same, width=width, height=height)
    problems = [
        *_scale_problems(request, width, height, manifest),
        *validation.drawing_problems(drawn, model, catalogue),
    ]
    if request.upscaler is not None:
        problems += companions.upscaler_problems(request.upscaler, ("upscaler",), manifest, models)
    if problems:
        raise invalid(problems)
    parameters = validation.filled_in("upscale", drawn, None, manifest, catalogue, inputs)
    parameters |= {"image": str(source.id), "scale": request.scale}
    parameters["strength"] = REDRAWN if request.strength is None else request.strength
    upscaler = request.upscaler or next(iter(companions.upscalers(manifest, models)), None)
    if upscaler is not None:
        parameters["upscaler"] = upscaler
    return Resolved(model=model, style=None, prompt=request.prompt, parameters=parameters)


def _scale_problems(request: UpscaleCreate, width: int, height: int, manifest: Manifest) -> Iterator[FieldError]:
    if manifest.scales and request.scale not in manifest.scales:
        offered = " or ".join(map(str, manifest.scales))
        yield field("scale", f"{manifest.id!r} enlarges {offered} times; send that")
    most, side = MOST_PIXELS, validation.MAX_SIDE
    if manifest.limits is not None and manifest.defaults is None:  # one that draws does so in tiles of its own size
        most, side = manifest.limits.max_pixels, manifest.limits.max_side
    if width * height > most or max(width, height) > side:
        said = f"{width}×{height} is more than the {most} pixels, {side} a side, that are made; send a smaller picture"
        yield field("scale", said)


def _of_pictures_alone(
    task: Task,
    size: tuple[int, int],
    request: EditCreate | UpscaleCreate,
    manifest: Manifest,
    inputs: Sequence[Picture],
) -> dict[str, Any]:
    """The parameters of work in which no words and no chance have a part."""
    return {
        "task": task,
        "prompt": "",
        "negative_prompt": "",
        "drawn": {"prompt": "", "negative_prompt": ""},
        "width": size[0],
        "height": size[1],
        "num_images": 1,
        "seed": 0,
        "seeds": [0],
        "num_inference_steps": 1,
        "guidance_scale": 0.0,
        "sampler": "",
        "seed_mode": "fast",
        "output_format": request.output_format,
        **validation.option_parameters(request.options, manifest, inputs),
        "image": str(_source(inputs).id),
    }


def model_for(
    name: str | None, style: styles.Style | None, catalogue: Catalogue, task: Task, *, takes_references: bool = False
) -> Model:
    """The model that was asked for, or the first that does this: of the style, the default one, any.

    Raises:
        ModelUnknownError, InvalidGenerationError: it is not installed, cannot do this, or none can.
    """
    fitting = able(task, catalogue)
    if task == "upscale":  # what does nothing else goes before what draws the picture over
        fitting.sort(key=lambda each: catalogue.get(each).manifest.kind != "upscaler")
    if name is not None:
        model = validation.named_model(name, catalogue)
        if task not in model.manifest.tasks:
            there = f"send {' or '.join(map(repr, fitting))}" if fitting else "no installed model does"
            raise invalid([field("model", f"{model.id!r} is none that {DOES[task]}; {there}")])
        return model
    if takes_references and task != "remove_background":
        models = catalogue.models()
        fitting = [each for each in fitting if "references" in models[each].manifest.features]
        if not fitting:
            raise invalid([field("references", "no installed model takes references; leave them out")])
    if style is not None and fitting and task != "remove_background":
        return catalogue.get(validation.model_in(style, fitting, catalogue))
    usual = () if task == "upscale" else (catalog.DEFAULT_MODEL,)
    chosen = next((each for each in (*usual, *fitting) if each in fitting), None)
    if chosen is None:
        raise invalid([field("model", f"no installed model {DOES[task]}; install one that does")])
    return catalogue.get(chosen)


def able(task: Task, catalogue: Catalogue) -> list[str]:
    """The installed models that do this."""
    return [model.id for model in catalogue.models().values() if task in model.manifest.tasks]


def _source(inputs: Sequence[Picture]) -> Media:
    return next(picture.media for picture in inputs if picture.role == "source")


def _size(request: EditCreate, source: Media, limits: Limits) -> tuple[int, int]:
    """The size to draw at: as asked for; a side that is left out follows from the picture's shape."""
    grown = request.outpaint or Outpaint()
    width, height = source.width + grown.left + grown.right, source.height + grown.top + grown.bottom
    if request.outpaint is None and request.width is not None and request.height is not None:
        return request.width, request.height
    if request.outpaint is None and request.width is not None:
        return request.width, validation.nearest(round(height * request.width / width), limits)
    if request.outpaint is None and request.height is not None:
        return validation.nearest(round(width * request.height / height), limits), request.height
    return fitted(width, height, limits)


def _in_whole_steps(asked: Outpaint, source: Media, limits: Limits) -> Outpaint:
    """The margins, widened to the next size that the model draws, or the picture itself would lose its edges."""
    margins = asked.model_dump()
    for side, before, after in ((source.width, "left", "right"), (source.height, "top", "bottom")):
        added = margins[before] + margins[after]
        missing = -(side + added) % limits.multiple_of
        if added and side + added + missing <= limits.max_side:
            margins[max(before, after, key=margins.__getitem__)] += missing
    return Outpaint(**margins)


def fitted(width: int, height: int, limits: Limits) -> tuple[int, int]:
    """The size of about this shape that the model draws: as large as the picture where it can be."""
    factor = min(1.0, limits.max_side / max(width, height), math.sqrt(limits.max_pixels / (width * height)))
    factor = max(factor, limits.min_side / min(width, height))
    fit_width = validation.nearest(round(width * factor), limits)
    fit_height = validation.nearest(round(height * factor), limits)
    return fit_width, fit_height
