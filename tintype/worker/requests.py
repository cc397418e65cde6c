"""From a claimed generation and the pictures that go into it to what a provider gets."""

from typing import Any

from tintype.catalog.operations import Catalogue, Model
from tintype.generations.claims import Claim
from tintype.generations.masks import Geometry
from tintype.providers.contract import Control, GenerationRequest, Hires, Lora, ModelFiles, Refiner
from tintype.safety.contract import Pixels
from tintype.worker import canvases, shapes
from tintype.worker.inputs import Inputs


def build(claim: Claim, catalogue: Catalogue, inputs: Inputs) -> GenerationRequest:
    """The request: everything the row says, with pictures as pixels and models as folders."""
    parameters = claim.parameters
    return GenerationRequest(
        id=str(claim.id),
        task=parameters["task"],
        model=files_of(catalogue.get(claim.model)),
        prompt=parameters["drawn"]["prompt"],
        negative_prompt=parameters["drawn"]["negative_prompt"],
        width=parameters["width"],
        height=parameters["height"],
        seeds=tuple(parameters["seeds"]),
        steps=parameters["num_inference_steps"],
        guidance_scale=parameters["guidance_scale"],
        sampler=parameters["sampler"],
        seed_mode=parameters["seed_mode"],
        on_behalf_of=str(claim.owner_id),
        options={**parameters["options"], **_option_pictures(parameters, inputs)},
        **_pictures(parameters, inputs),
        **_parts(parameters, catalogue, inputs),
    )


def _option_pictures(parameters: dict[str, Any], inputs: Inputs) -> dict[str, Pixels]:
    """The options that are pictures, as pixels: of any size, uint8 RGB."""
    return {name: inputs.pixels_of(media_id) for name, media_id in parameters.get("option_pictures", {}).items()}


def _pictures(parameters: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
    """Source and mask, of the size that is drawn, and references as they are; a video's length and ends."""
    if "frames" in parameters:
        return _video(parameters, inputs)
    if "image" not in parameters:
        return {}
    source = inputs.pixels_of(parameters["image"])
    if parameters["task"] in ("upscale", "remove_background"):
        how = {name: parameters[name] for name in ("scale", "strength") if name in parameters}
        return {"source": source, **how}
    mask: Pixels | None = None
    if "mask" in parameters:
        mask = _mask(parameters["mask"], inputs, source)
    if "outpaint" in parameters:
        source, mask = canvases.enlarged(source, mask, parameters["outpaint"])
    width, height = parameters["width"], parameters["height"]
    found: dict[str, Any] = {"source": canvases.cover(source, width, height), "strength": parameters["strength"]}
    if references := parameters.get("references"):
        found["references"] = tuple(inputs.pixels_of(one) for one in references)
    return found if mask is None else {**found, "mask": canvases.cover(mask, width, height)}


def _video(parameters: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
    """Length, and the pictures at the ends, of the size that is drawn."""
    found = {"frames": parameters["frames"], "fps": parameters["fps"]}
    for name, known_as in (("image", "source"), ("last_image", "last_image")):
        if name in parameters:
            pixels = inputs.pixels_of(parameters[name])
            found[known_as] = canvases.cover(pixels, parameters["width"], parameters["height"])
    return found


def _mask(named: str | dict[str, Any], inputs: Inputs, source: Pixels) -> Pixels:
    """The mask of a picture, from the picture that it is or the shapes that it is described by."""
    if isinstance(named, str):
        return canvases.mask_of(inputs.pixels_of(named))
    height, width = source.shape[:2]
    return shapes.rasterised(Geometry.model_validate(named), width, height)


def _parts(parameters: dict[str, Any], catalogue: Catalogue, inputs: Inputs) -> dict[str, Any]:
    """Everything that other models have a part in."""

    def files(name: str) -> ModelFiles:
        return files_of(catalogue.get(name))

    found: dict[str, Any] = {}
    companions: dict[str, ModelFiles] = {}
    if loras := parameters.get("loras"):
        found["loras"] = tuple(Lora(model=files(one["model_id"]), weight=one["weight"]) for one in loras)
    if controls := parameters.get("controls"):
        found["controls"] = tuple(
            Control(
                type=one["type"],
                model=files(one["model"]),
                pixels=inputs.pixels_of(one["image"]),
                strength=one["strength"],
                start=one["start"],
                end=one["end"],
                is_ready=one.get("is_ready", False),
            )
            for one in controls
        )
        for one in controls:
            if (drawn_by := one.get("preprocessor")) is not None:
                companions[f"{one['type']}_estimator"] = files(drawn_by)
    for word, name in parameters.get("embeddings", {}).items():
        companions[f"embedding:{word}"] = files(name)
    if "style_image" in parameters:
        found["style_image"] = inputs.pixels_of(parameters["style_image"])
        companions["style_adapter"] = files(parameters["style_adapter"])
    if hires := parameters.get("hires"):
        found["hires"] = Hires(scale=hires["scale"], steps=hires["steps"], strength=hires["strength"])
    if (upscaler := parameters.get("upscaler") or (hires or {}).get("upscaler")) is not None:
        companions["upscaler"] = files(upscaler)
    if refiner := parameters.get("refiner"):
        found["refiner"] = Refiner(model=files(refiner["model"]), switch_at=refiner["switch_at"])
    return {**found, "companions": companions}


def files_of(model: Model) -> ModelFiles:
    """A model of the catalogue as a provider needs it."""
    return ModelFiles(
        id=model.id,
        family=model.manifest.family,
        folder=str(model.folder),
        memory_bytes=max(model.manifest.memory_bytes.values(), default=0),
    )
