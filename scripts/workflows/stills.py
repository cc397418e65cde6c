"""Pictures with SD 1.5 and SDXL: from words, from pictures, inside masks, along control pictures."""

from collections.abc import Iterator
from typing import Any

from scripts.workflows import files, unets
from scripts.workflows.drafts import Draft, Link, Node
from scripts.workflows.recipes import Recipe
from scripts.workflows.unets import Family, Loaded, Words

FEATURES = ("negative_prompt", "loras")
PEOPLE = "As with every model that can draw people, pictures leave only past an installed safety detector."
OTHERS = (
    "`inpainting_model` must name a model made for this; another one takes the mask too, but sees nothing of the rest. "
    "A style adds its words alone."
)
EXAMPLES = ("a lighthouse on a cliff at dusk, waves below", "a red bicycle leaning on a blue door")


def recipes() -> Iterator[Recipe]:
    """All of both families."""
    for family in unets.BOTH:
        yield from (_from_words(family), _hires(family), _from_picture(family))
        yield from (_inpaint(family), _inpaint_with_model(family), _outpaint(family))
    yield _refined()


def _recipe(family: Family, ending: str, draft: Draft, **said: Any) -> Recipe:
    """A recipe with what all of a family have in common."""
    common: dict[str, Any] = {
        "family": family.family,
        "defaults": family.defaults,
        "limits": family.limits,
        "samplers": unets.SAMPLERS,
        "features": FEATURES,
        "checked": "whole runs",
        "examples": EXAMPLES,
    }
    said["known_limits"] = (*said["known_limits"], PEOPLE)
    return Recipe(id=f"comfy-{family.slug}{ending}", draft=draft, **common | said)


def _from_words(family: Family) -> Recipe:
    draft = Draft()
    loaded = unets.load(draft, family)
    said = unets.words(draft, loaded.clip)
    latent = unets.canvas(draft, family.side)
    sampler = unets.sample(draft, family, loaded.model, said, latent)
    unets.save(draft, unets.show(draft, sampler[0], loaded.vae))
    return _recipe(
        *(family, "", draft),
        name=f"{family.name} in ComfyUI",
        description=f"Pictures from words with {family.name} and up to three LoRAs.",
        purpose="Draws pictures from words. A style chooses words, checkpoint, LoRA and sampler; every one of them can "
        "be set instead.",
        tasks=("text_to_image",),
        known_limits=(
            f"Sizes far from {family.side} × {family.side} pixels repeat or stretch things; draw larger ones with "
            f"`comfy-{family.slug}-hires`.",
        ),
    )


def _hires(family: Family) -> Recipe:
    draft = Draft()
    loaded = unets.load(draft, family)
    said = unets.words(draft, loaded.clip)
    latent = unets.canvas(draft, family.side)
    small = unets.sample(draft, family, loaded.model, said, latent)
    first = unets.show(draft, small[0], loaded.vae, title="First draft")
    larger = draft.add("Enlarge", "ImageScaleBy", image=first, upscale_method="lanczos", scale_by=1.5)
    draft.bind(
        *("hires_scale", "number", larger, "scale_by"),
        min=1,
        max=3,
        default=1.5,
        label="Enlarge by",
        help="How many times as wide and as high the second pass draws.",
    )
    again = draft.add("Encode", "VAEEncode", pixels=larger[0], vae=loaded.vae)
    second = unets.sample(
        draft, family, loaded.model, said, again[0], title="Second pass", steps=family.steps, denoise=0.45
    )
    _bind_second_pass(draft, family, second)
    unets.save(draft, unets.show(draft, second[0], loaded.vae))
    return _recipe(
        *(family, "-hires", draft),
        name=f"{family.name} in ComfyUI, large",
        description=f"Pictures from words with {family.name}, drawn small and then again at a larger size.",
        purpose="Draws a picture at the size the model knows, enlarges it and draws it again, so that large pictures "
        "keep one composition and gain detail.",
        tasks=("text_to_image",),
        known_limits=(
            "The picture is `hires_scale` times as large as the size asked for, cut to a multiple of 8 pixels.",
            "A strength above about 0.6 changes what the first pass drew.",
        ),
    )


def _bind_second_pass(draft: Draft, family: Family, second: Node) -> None:
    draft.bind(
        *("hires_steps", "integer", second, "steps"),
        min=1,
        max=100,
        default=family.steps,
        label="Steps of the second pass",
    )
    draft.bind(
        *("hires_strength", "number", second, "denoise"),
        min=0.05,
        max=1,
        default=0.45,
        label="Strength of the second pass",
        help="How much of the enlarged picture is drawn anew.",
    )


def _refined() -> Recipe:
    family, draft = unets.SDXL, Draft()
    loaded = unets.load(draft, family)
    said = unets.words(draft, loaded.clip)
    latent = unets.canvas(draft, family.side)
    refiner, refined_words = _refiner(draft, family)
    chooser = draft.add("Sampler", "KSamplerSelect", sampler_name="dpmpp_2m")
    schedule = draft.add(
        "Schedule", "BasicScheduler", model=loaded.model, scheduler=family.scheduler, steps=family.steps, denoise=1.0
    )
    draft.bind("steps", "integer", schedule, "steps", min=10, max=100)
    unets.bind_sampler(draft, chooser, schedule, family.scheduler)
    split = draft.add("Hand over", "SplitSigmasDenoise", sigmas=schedule[0], denoise=0.2)
    draft.bind(
        *("refiner_share", "number", split, "denoise"),
        min=0.1,
        max=0.5,
        default=0.2,
        label="The refiner's share",
        help="Which part of all steps, the last ones, the refiner makes.",
    )
    first = pass_over(draft, "Base", loaded.model, said, (chooser[0], split[0]), latent, has_noise=True)
    second = pass_over(draft, "Refine", refiner, refined_words, (chooser[0], split[1]), first, has_noise=False)
    unets.save(draft, unets.show(draft, second, loaded.vae))
    return _recipe(
        *(family, "-refiner", draft),
        name="SDXL in ComfyUI, refined",
        description="Pictures from words with SDXL, whose last steps its refiner makes.",
        purpose="Draws a picture with the base model and lets the refiner, which knows fine detail alone, make the "
        "last steps.",
        tasks=("text_to_image",),
        known_limits=(
            "The refiner suits the base model; with other checkpoints `comfy-sdxl` or `comfy-sdxl-hires` does better.",
            "LoRAs and the choice of checkpoint concern the base model alone.",
            "At least ten steps: the refiner needs one of its own.",
        ),
    )


def _refiner(draft: Draft, family: Family) -> tuple[Link, Words]:
    loader = draft.add("Refiner", "CheckpointLoaderSimple", ckpt_name=draft.need(files.SDXL_REFINER))
    found: dict[str, Link] = {}
    for name, score in (("positive", 6.0), ("negative", 2.5)):
        node = draft.add(
            *(f"Refiner's {name} prompt", "CLIPTextEncodeSDXLRefiner"),
            ascore=score,
            width=family.side,
            height=family.side,
            text="",
            clip=loader[1],
        )
        draft.bind("prompt" if name == "positive" else "negative_prompt", "text", node, "text")
        draft.bind("width", "integer", node, "width")
        draft.bind("height", "integer", node, "height")
        found[name] = node[0]
    return loader[0], Words(**found)


def pass_over(
    draft: Draft, title: str, model: Link, said: Words, course: tuple[Link, Link], latent: Link, *, has_noise: bool
) -> Link:
    """One stretch of a schedule of noise, `course` being sampler and schedule; the first stretch adds the noise."""
    node = draft.add(
        *(title, "SamplerCustom"),
        model=model,
        add_noise=has_noise,
        noise_seed=0,
        cfg=6.0,
        positive=said.positive,
        negative=said.negative,
        sampler=course[0],
        sigmas=course[1],
        latent_image=latent,
    )
    draft.bind("seed", "seed", node, "noise_seed")
    draft.bind("guidance_scale", "number", node, "cfg", min=0, max=20)
    return node[0]


def source(draft: Draft) -> Link:
    """The picture that came in, of the request's size already."""
    node = draft.add("Source", "LoadImage", image="source.png")
    draft.bind("image", "picture", node, "image", required=True)
    return node[0]


def _mask(draft: Draft) -> Link:
    node = draft.add("Mask", "LoadImageMask", image="mask.png", channel="red")
    draft.bind("mask", "mask", node, "image", required=True)
    return node[0]


def _strength(draft: Draft, sampler: Node) -> None:
    draft.bind("strength", "number", sampler, "denoise", min=0.01, max=1)


def _from_picture(family: Family) -> Recipe:
    draft = Draft()
    loaded = unets.load(draft, family)
    said = unets.words(draft, loaded.clip)
    latent = draft.add("Encode", "VAEEncode", pixels=source(draft), vae=loaded.vae)
    sampler = unets.sample(draft, family, loaded.model, said, latent[0], denoise=0.6)
    _strength(draft, sampler)
    unets.save(draft, unets.show(draft, sampler[0], loaded.vae))
    return _recipe(
        *(family, "-image", draft),
        name=f"{family.name} in ComfyUI, from a picture",
        description=f"Changes a picture with words, with {family.name}.",
        purpose="Draws a picture again with other words; `strength` says how much of it changes.",
        tasks=("image_to_image",),
        known_limits=("ComfyUI makes all steps at any strength: a low one changes less, it is not faster.",),
    )


def _put_back(draft: Draft, original: Link, drawn: Link, mask: Link) -> Link:
    """The new part in the old picture, which stays as it was to the last bit where the mask is black."""
    node = draft.add(
        "Put back", "ImageCompositeMasked", destination=original, source=drawn, x=0, y=0, resize_source=False, mask=mask
    )
    return node[0]


def _inpaint(family: Family) -> Recipe:
    draft = Draft()
    loaded = unets.load(draft, family)
    said = unets.words(draft, loaded.clip)
    original, mask = source(draft), _mask(draft)
    latent = draft.add(
        "Encode around the mask", "VAEEncodeForInpaint", pixels=original, vae=loaded.vae, mask=mask, grow_mask_by=6
    )
    draft.bind(
        *("grow_mask", "integer", latent, "grow_mask_by"),
        min=0,
        max=64,
        default=6,
        label="Grow the mask by",
        help="Pixels beyond the mask that are drawn anew as well, which hides the seam from the model.",
    )
    sampler = unets.sample(draft, family, loaded.model, said, latent[0])
    drawn = unets.show(draft, sampler[0], loaded.vae)
    unets.save(draft, _put_back(draft, original, drawn, mask))
    return _recipe(
        *(family, "-inpaint", draft),
        name=f"{family.name} in ComfyUI, inside a mask",
        description=f"Draws something new inside a mask, with any checkpoint of {family.name}.",
        purpose="Empties what the mask covers and draws it from nothing, with any checkpoint. For replacing things.",
        tasks=("inpaint",),
        known_limits=(
            "What was under the mask is lost before drawing, so `strength` has no meaning here.",
            "A checkpoint that was not made for it sees little of the surroundings; "
            f"`comfy-{family.slug}-inpaint-model` fits new things in better.",
        ),
    )


def _inpainting_model(draft: Draft, family: Family) -> Loaded:
    """The model made for drawing inside masks: a checkpoint of its own, or for SDXL a denoiser beside the checkpoint.

    Its option has another name than that of other workflows, so that no style puts an ordinary checkpoint there.
    """
    if family is unets.SD15:
        file, target = files.SD15_INPAINTING, "ckpt_name"
        loader = draft.add("Checkpoint", "CheckpointLoaderSimple", ckpt_name=draft.need(file))
        model, clip = loader[0], loader[1]
    else:
        file, target = files.SDXL_INPAINTING, "unet_name"
        loader = draft.add("Inpainting model", "UNETLoader", unet_name=draft.need(file), weight_dtype="default")
        encoders = draft.add("Checkpoint", "CheckpointLoaderSimple", ckpt_name=draft.need(family.checkpoint))
        model, clip = loader[0], encoders[1]
    draft.bind(
        *("inpainting_model", "model", loader, target),
        folder=file.folder,
        default=file.name,
        label="Inpainting model",
        help=f"A model of {family.name} that was trained to draw inside masks.",
    )
    return unets.around(draft, family, model, clip)


def _masked(draft: Draft, loaded: Loaded, said: Words, original: Link, mask: Link) -> tuple[Words, Link]:
    node = draft.add(
        *("Inpaint", "InpaintModelConditioning"),
        positive=said.positive,
        negative=said.negative,
        vae=loaded.vae,
        pixels=original,
        mask=mask,
        noise_mask=True,
    )
    return Words(positive=node[0], negative=node[1]), node[2]


def _inpaint_with_model(family: Family) -> Recipe:
    draft = Draft()
    loaded = _inpainting_model(draft, family)
    said = unets.words(draft, loaded.clip)
    original, mask = source(draft), _mask(draft)
    masked, latent = _masked(draft, loaded, said, original, mask)
    sampler = unets.sample(draft, family, loaded.model, masked, latent)
    _strength(draft, sampler)
    drawn = unets.show(draft, sampler[0], loaded.vae)
    unets.save(draft, _put_back(draft, original, drawn, mask))
    return _recipe(
        *(family, "-inpaint-model", draft),
        name=f"{family.name} in ComfyUI, inside a mask (inpainting model)",
        description=f"Draws inside a mask with the {family.name} model that was trained for it.",
        purpose="Draws what the mask covers with a model that sees the rest of the picture. For mending and changing "
        "things that must fit in.",
        tasks=("inpaint",),
        known_limits=(OTHERS,),
    )


def _outpaint(family: Family) -> Recipe:
    draft = Draft()
    loaded = _inpainting_model(draft, family)
    said = unets.words(draft, loaded.clip)
    original, mask = source(draft), _mask(draft)
    grown = draft.add("Overlap", "GrowMask", mask=mask, expand=16, tapered_corners=True)
    draft.bind(
        *("overlap", "integer", grown, "expand"),
        min=0,
        max=128,
        default=16,
        label="Overlap",
        help="Pixels of the old picture beside the new part that are drawn as well, so that the two meet.",
    )
    masked, latent = _masked(draft, loaded, said, original, grown[0])
    sampler = unets.sample(draft, family, loaded.model, masked, latent)
    drawn = unets.show(draft, sampler[0], loaded.vae)
    unets.save(draft, _put_back(draft, original, drawn, mask))
    return _recipe(
        *(family, "-outpaint", draft),
        name=f"{family.name} in ComfyUI, beyond the edges",
        description=f"Continues a picture beyond its edges, with {family.name}.",
        purpose="Draws what lies beyond the edges of a picture. Tintype enlarges the canvas by `outpaint` and masks "
        "what was added, with a soft edge; this draws it, and a little of the old picture so that both meet.",
        tasks=("inpaint",),
        known_limits=(
            "More than half of the picture's width or height at once drifts; continue in several requests.",
            OTHERS,
        ),
    )
