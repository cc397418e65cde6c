"""The models that a part of a request needs beside its own: LoRAs, ControlNets and what draws for them, a refiner, …"""

from collections.abc import Iterator, Mapping
from typing import Any

from tintype.catalog.manifest import Kind, Manifest
from tintype.catalog.operations import Model
from tintype.errors import FieldError
from tintype.generations.schemas import Control, ImageCreate, LoraUse

Models = Mapping[str, Model]
Place = tuple[str | int, ...]

DRAWN_BY_NETWORKS = {"depth": "depths, near bright", "pose": "a skeleton as OpenPose draws it"}
"""Controls whose drawing only another model can make of a photograph, and what a picture of one shows."""


def loras_of(request: ImageCreate) -> tuple[LoraUse, ...]:
    """The LoRAs a request asks for, the shorthand for one included."""
    if request.model_id is None:
        return request.loras
    weight = 1.0 if request.lora_weight is None else request.lora_weight
    return (*request.loras, LoraUse(model_id=request.model_id, weight=weight))


def problems(request: ImageCreate, manifest: Manifest, models: Models) -> Iterator[FieldError]:
    """What of the parts that the model offers nothing installed can do."""
    features = manifest.features
    if "loras" in features:
        yield from _lora_problems(request, manifest, models)
    if "controls" in features:
        for index, control in enumerate(request.controls):
            if _controlnet(control, manifest, models) is None:
                said = f"no ControlNet for {control.type!r} and {manifest.id!r} is installed; leave it out"
                yield FieldError(loc=("body", "controls", index, "type"), msg=said)
            if _lacks_drawing(control, manifest) and _preprocessor(control, manifest, models) is None:
                said = f"no model that makes one of a photograph is installed; send {DRAWN_BY_NETWORKS[control.type]}"
                yield FieldError(loc=("body", "controls", index, "is_ready"), msg=f"{said}, and true here")
            if manifest.kind == "workflow":
                yield from _workflow_control_problems(request, index, manifest)
            if control.start >= control.end:
                yield FieldError(loc=("body", "controls", index, "start"), msg="send less than `end`")
    if "style_image" in features and request.style_image is not None and not _of("style_adapter", manifest, models):
        said = f"no style adapter for {manifest.id!r} is installed; leave it out"
        yield FieldError(loc=("body", "style_image"), msg=said)
    if "refiner" in features and request.refiner is not None:
        fitting = _of("checkpoint", manifest, models)
        if request.refiner.model not in fitting:
            said = f"{request.refiner.model!r} is no model of the family of {manifest.id!r}"
            there = " or ".join(map(repr, fitting))
            yield FieldError(loc=("body", "refiner", "model"), msg=f"{said}; send {there}, or leave it out")
    if "hires" in features and request.hires is not None and request.hires.upscaler is not None:
        yield from upscaler_problems(request.hires.upscaler, ("hires", "upscaler"), manifest, models)


def _workflow_control_problems(request: ImageCreate, index: int, manifest: Manifest) -> Iterator[FieldError]:
    """What a workflow, which has one place for each type of control, has no place for."""
    control = request.controls[index]
    if control.type in [before.type for before in request.controls[:index]]:
        said = f"{manifest.id!r} takes one picture of each type; leave the others out"
        yield FieldError(loc=("body", "controls", index, "type"), msg=said)


def upscaler_problems(name: str, place: Place, manifest: Manifest, models: Models) -> Iterator[FieldError]:
    """What is wrong with the upscaler that a request names at a place of its body."""
    fitting = upscalers(manifest, models)
    if name not in fitting:
        there = f"send {' or '.join(map(repr, fitting))}" if fitting else "none is installed; leave it out"
        yield FieldError(loc=("body", *place), msg=f"{name!r} is no upscaler that goes with {manifest.id!r}; {there}")


def upscalers(manifest: Manifest, models: Models) -> list[str]:
    """The installed upscalers that the model's provider runs."""
    return [
        name
        for name, each in models.items()
        if each.manifest.kind == "upscaler" and each.manifest.provider == manifest.provider
    ]


def _lora_problems(request: ImageCreate, manifest: Manifest, models: Models) -> Iterator[FieldError]:
    wanted = loras_of(request)
    most = manifest.limits.max_loras if manifest.limits is not None else 0
    if len(wanted) > most:
        yield FieldError(loc=("body", "loras"), msg=f"{manifest.id!r} takes at most {most}; leave the others out")
    fitting = _of("lora", manifest, models)
    for index, lora in enumerate(wanted):
        if lora.model_id not in fitting:
            place = ("loras", index, "model_id") if index < len(request.loras) else ("model_id",)
            there = f"send {' or '.join(map(repr, fitting))}" if fitting else "none is installed; leave it out"
            said = f"{lora.model_id!r} is no LoRA for {manifest.id!r}; {there}"
            yield FieldError(loc=("body", *place), msg=said)


def chosen(request: ImageCreate, manifest: Manifest, models: Models, pictures: Mapping[Any, str]) -> dict[str, Any]:
    """The parameters of these parts, as far as asked for; `pictures` gives the media id of each place in the body."""
    found: dict[str, Any] = {}
    if loras := loras_of(request):
        found["loras"] = [lora.model_dump() for lora in loras]
    if request.controls:
        found["controls"] = [
            {
                **control.model_dump(),
                "image": pictures["body", "controls", index, "image"],
                "model": _controlnet(control, manifest, models),
                "preprocessor": _preprocessor(control, manifest, models) if _lacks_drawing(control, manifest) else None,
            }
            for index, control in enumerate(request.controls)
        ]
    if learned := _learned_words(request, manifest, models):
        found["embeddings"] = learned
    if request.style_image is not None:
        found["style_image"] = pictures["body", "style_image"]
        found["style_adapter"] = _of("style_adapter", manifest, models)[0]
    if request.hires is not None:
        steps = (
            request.hires.steps or request.num_inference_steps or (manifest.defaults.steps if manifest.defaults else 1)
        )
        found["hires"] = {**request.hires.model_dump(), "steps": steps}
    if request.refiner is not None:
        found["refiner"] = request.refiner.model_dump()
    return found


def ids_of(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The models that resolved parameters name beside the one that draws."""
    named = [
        *(lora["model_id"] for lora in parameters.get("loras", ())),
        *(control["model"] for control in parameters.get("controls", ())),
        *(control.get("preprocessor") for control in parameters.get("controls", ())),
        *parameters.get("embeddings", {}).values(),
        parameters.get("style_adapter"),
        parameters.get("remover"),
        parameters.get("refiner", {}).get("model"),
        parameters.get("hires", {}).get("upscaler"),
        parameters.get("upscaler"),
    ]
    return tuple(dict.fromkeys(name for name in named if name is not None))


def _of(kind: Kind, manifest: Manifest, models: Models) -> list[str]:
    """The installed models of a kind that fit the model."""
    return [m.id for m in models.values() if m.manifest.kind == kind and m.manifest.family == manifest.family]


def _controlnet(control: Control, manifest: Manifest, models: Models) -> str | None:
    if manifest.kind == "workflow":  # it has its own in its graph
        return manifest.id if control.type in manifest.controls else None
    fitting = _of("controlnet", manifest, models)
    return next((name for name in fitting if control.type in models[name].manifest.controls), None)


def _learned_words(request: ImageCreate, manifest: Manifest, models: Models) -> dict[str, str]:
    """The installed words that were learned for this family and stand in the prompts, and whose they are."""
    said = f"{request.prompt}\n{request.negative_prompt}"
    return {
        word: name
        for name in _of("embedding", manifest, models)
        for word in models[name].manifest.trigger_words or (name,)
        if word in said
    }


def _lacks_drawing(control: Control, manifest: Manifest) -> bool:
    """Whether another model has to make the drawing that this control is shown; a workflow does so in its graph."""
    return control.type in DRAWN_BY_NETWORKS and not control.is_ready and manifest.kind != "workflow"


def _preprocessor(control: Control, manifest: Manifest, models: Models) -> str | None:
    """What makes drawings for a control of this type, where the model's provider runs it."""
    return next(
        (
            name
            for name, each in models.items()
            if each.manifest.kind == "preprocessor"
            and each.manifest.provider == manifest.provider
            and control.type in each.manifest.controls
        ),
        None,
    )
