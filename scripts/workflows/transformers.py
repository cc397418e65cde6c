"""Pictures with FLUX and Qwen-Image, and the enlarging of pictures."""

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.workflows import files, stills, unets
from scripts.workflows.drafts import Draft, Link, Node
from scripts.workflows.files import File
from scripts.workflows.recipes import Recipe
from scripts.workflows.unets import Words

SAMPLERS = ("euler", "heun", "dpmpp_2m", "uni_pc", "ddim", "res_multistep")
SCHEDULERS = ("simple", "beta", "normal", "sgm_uniform", "ddim_uniform")
PRECISIONS = ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")
LIMITS: Mapping[str, Any] = {
    "min_side": 256,
    "max_side": 2048,
    "multiple_of": 16,
    "max_pixels": 2_359_296,
    "max_steps": 100,
    "max_guidance_scale": 20,
    "max_images": 8,
    "max_loras": 3,
}


def recipes() -> Iterator[Recipe]:
    """FLUX.1 dev and schnell, Qwen-Image and Qwen-Image-Edit, Real-ESRGAN."""
    yield from (_flux(is_dev=True), _flux(is_dev=False), _qwen(), _qwen_edit(), _enlarge())


def load(draft: Draft, file: File, *, title: str = "Diffusion model", name: str = "diffusion_model") -> Node:
    """A denoiser of its own file, in the precision asked for."""
    node = draft.add(title, "UNETLoader", unet_name=draft.need(file), weight_dtype="default")
    draft.bind(
        *(name, "model", node, "unet_name"),
        folder="diffusion_models",
        default=file.name,
        label=title,
        help="A file of the same model in the server's folder, such as a smaller one in fp8.",
    )
    draft.bind(
        *("precision", "choice", node, "weight_dtype"),
        choices=list(PRECISIONS),
        default="default",
        label="Precision",
        help="fp8 halves what a 16-bit file takes in memory and costs a little quality.",
    )
    return node


def vae(draft: Draft, file: File) -> Link:
    """The VAE of such a model; there is but one."""
    return draft.add("VAE", "VAELoader", vae_name=draft.need(file))[0]


def sample(draft: Draft, model: Link, said: Words, latent: Link, *, steps: int, cfg: float) -> Node:
    """A sampler; guidance is bound by the caller, since such models take it in different places."""
    node = draft.add(
        *("Sampler", "KSampler"),
        model=model,
        positive=said.positive,
        negative=said.negative,
        latent_image=latent,
        seed=0,
        steps=steps,
        cfg=cfg,
        sampler_name="euler",
        scheduler="simple",
        denoise=1.0,
    )
    draft.bind("seed", "seed", node, "seed")
    draft.bind("steps", "integer", node, "steps", min=1, max=100)
    draft.bind("sampler", "choice", node, "sampler_name", choices=list(SAMPLERS))
    draft.bind(
        *("scheduler", "choice", node, "scheduler"),
        choices=list(SCHEDULERS),
        default="simple",
        label="Schedule of noise",
    )
    return node


def defaults(side: int, steps: int, guidance_scale: float) -> dict[str, Any]:
    """The manifest's defaults."""
    return {"width": side, "height": side, "steps": steps, "guidance_scale": guidance_scale, "sampler": "euler"}


def _flux(*, is_dev: bool) -> Recipe:
    draft = Draft()
    denoiser = load(draft, files.FLUX_DEV_UNET if is_dev else files.FLUX_SCHNELL_UNET)
    encoders = draft.add(
        *("Text encoders", "DualCLIPLoader"),
        clip_name1=draft.need(files.T5XXL),
        clip_name2=draft.need(files.CLIP_L),
        type="flux",
    )
    model, clip = unets.loras(draft, denoiser[0], encoders[0])
    positive = draft.add("Prompt", "CLIPTextEncode", text="", clip=clip)
    draft.bind("prompt", "text", positive, "text", required=True)
    said = positive[0]
    if is_dev:
        guidance = draft.add("Guidance", "FluxGuidance", conditioning=said, guidance=3.5)
        draft.bind("guidance_scale", "number", guidance, "guidance", min=0, max=20)
        said = guidance[0]
        shift = draft.add(
            "Shift", "ModelSamplingFlux", model=model, max_shift=1.15, base_shift=0.5, width=1024, height=1024
        )
        draft.bind("width", "integer", shift, "width")
        draft.bind("height", "integer", shift, "height")
        model = shift[0]
    nothing = draft.add("Nothing", "ConditioningZeroOut", conditioning=positive[0])
    latent = unets.canvas(draft, 1024, kind="EmptySD3LatentImage")
    words = Words(positive=said, negative=nothing[0])
    sampler = sample(draft, model, words, latent, steps=20 if is_dev else 4, cfg=1.0)
    unets.save(draft, unets.show(draft, sampler[0], vae(draft, files.FLUX_VAE)))
    return _flux_recipe(draft, is_dev=is_dev)


def _flux_recipe(draft: Draft, *, is_dev: bool) -> Recipe:
    variant = "dev" if is_dev else "schnell"
    pace = "in twenty steps or more" if is_dev else "in four steps"
    licence = (
        "FLUX.1 dev may not be used commercially; its licence says what its pictures may be used for."
        if is_dev
        else "Distilled to four steps: guidance does nothing, and more than eight steps add little."
    )
    return Recipe(
        id=f"comfy-flux-{variant}",
        name=f"FLUX.1 {variant} in ComfyUI",
        description=f"Pictures from words with FLUX.1 {variant}, {pace}.",
        purpose=f"Draws pictures from sentences {pace}, legible short lettering included.",
        family="flux",
        tasks=("text_to_image",),
        draft=draft,
        defaults=defaults(1024, 20, 3.5) if is_dev else defaults(1024, 4, 0.0),
        limits={**LIMITS, "max_guidance_scale": 20 if is_dev else 0},
        samplers=SAMPLERS,
        features=("loras",),
        known_limits=(
            licence,
            "There is no negative prompt.",
            "The files as published need 24 GB of memory on the device, or `precision` fp8 and 12 GB.",
            stills.PEOPLE,
        ),
        checked="runs after the text encoder",
        examples=stills.EXAMPLES,
    )


def _qwen_parts(draft: Draft, file: File, shift: float) -> tuple[Link, Link]:
    """Denoiser with LoRAs and shift, and the text encoder."""
    denoiser = load(draft, file)
    model, _ = unets.loras(draft, denoiser[0])
    shifted = draft.add("Shift", "ModelSamplingAuraFlow", model=model, shift=shift)
    encoder = draft.add("Text encoder", "CLIPLoader", clip_name=draft.need(files.QWEN_TEXT), type="qwen_image")
    return shifted[0], encoder[0]


QWEN: Mapping[str, Any] = {
    "family": "qwen_image",
    "samplers": SAMPLERS,
    "limits": {**LIMITS, "max_pixels": 2_760_000},
    "features": ("negative_prompt", "loras"),
    "languages": ("en", "zh"),
    "checked": "runs after the text encoder",
    "defaults": defaults(1328, 20, 4.0),
}


def _qwen() -> Recipe:
    draft = Draft()
    model, clip = _qwen_parts(draft, files.QWEN_IMAGE, 3.1)
    said = unets.words(draft, clip)
    latent = unets.canvas(draft, 1328, kind="EmptySD3LatentImage")
    sampler = sample(draft, model, said, latent, steps=20, cfg=4.0)
    draft.bind("guidance_scale", "number", sampler, "cfg", min=0, max=20)
    unets.save(draft, unets.show(draft, sampler[0], vae(draft, files.QWEN_VAE)))
    return Recipe(
        **QWEN,
        id="comfy-qwen-image",
        name="Qwen-Image in ComfyUI",
        description="Pictures from words with Qwen-Image; writes lettering, Chinese as well.",
        purpose="Draws pictures from long descriptions, with lettering in English and Chinese that can be read.",
        tasks=("text_to_image",),
        draft=draft,
        known_limits=(
            "20 billion parameters: in fp8 the file alone takes 20 GB; smaller devices load it in parts, slowly.",
            "Twenty steps are a compromise; fifty give what its makers show.",
            stills.PEOPLE,
        ),
        examples=('a shop window with a sign that reads "OPEN LATE", rain at night',),
    )


def _qwen_edit() -> Recipe:
    draft = Draft()
    model, clip = _qwen_parts(draft, files.QWEN_EDIT, 3.0)
    kept = draft.add("Keep contrast", "CFGNorm", model=model, strength=1.0)
    original = stills.source(draft)
    decoder = vae(draft, files.QWEN_VAE)
    found: dict[str, Link] = {}
    for name, title in (("prompt", "Instruction"), ("negative_prompt", "Negative instruction")):
        node = draft.add(title, "TextEncodeQwenImageEditPlus", clip=clip, prompt="", vae=decoder, image1=original)
        draft.bind(name, "text", node, "prompt")
        found[name] = node[0]
    words = Words(positive=found["prompt"], negative=found["negative_prompt"])
    encoded = draft.add("Encode", "VAEEncode", pixels=original, vae=decoder)
    sampler = sample(draft, kept[0], words, encoded[0], steps=20, cfg=4.0)
    draft.bind("guidance_scale", "number", sampler, "cfg", min=0, max=20)
    unets.save(draft, unets.show(draft, sampler[0], decoder))
    return Recipe(
        **QWEN | {"defaults": defaults(1024, 20, 4.0)},
        id="comfy-qwen-image-edit",
        name="Qwen-Image-Edit in ComfyUI",
        description="Changes a picture as an instruction says, with Qwen-Image-Edit 2509.",
        purpose="Changes what an instruction names in a picture, such as a colour, a thing or a sign, and keeps the "
        "rest.",
        tasks=("image_to_image",),
        draft=draft,
        known_limits=(
            "`strength` has no meaning: the picture is drawn anew from what the model sees of it.",
            "Only one picture goes in, though the model can read three: one request may show one person at most.",
            "20 billion parameters, as for `comfy-qwen-image`.",
            stills.PEOPLE,
        ),
        examples=("make the door green and add a brass knocker",),
    )


def _enlarge() -> Recipe:
    draft = Draft()
    picture = stills.source(draft)
    network = draft.add("Upscaler", "UpscaleModelLoader", model_name=draft.need(files.ESRGAN))
    draft.bind(
        *("upscaler", "model", network, "model_name"),
        folder="upscale_models",
        default=files.ESRGAN.name,
        label="Upscaler",
        help="A model in the server's folder of upscalers, of any architecture that ComfyUI reads.",
    )
    larger = draft.add("Enlarge", "ImageUpscaleWithModel", upscale_model=network[0], image=picture)
    sized = draft.add(
        "Size", "ImageScale", image=larger[0], upscale_method="lanczos", width=2048, height=2048, crop="disabled"
    )
    draft.bind("width", "integer", sized, "width")
    draft.bind("height", "integer", sized, "height")
    unets.save(draft, sized[0])
    return Recipe(
        id="comfy-upscale",
        name="Upscaler in ComfyUI",
        description="Enlarges a picture two, three or four times with Real-ESRGAN or another upscaler.",
        purpose="Enlarges pictures with a network that sharpens what it enlarges, four times at once; two and three "
        "times are scaled down from that.",
        family="rrdb",
        tasks=("upscale",),
        draft=draft,
        defaults={},
        limits={},
        samplers=(),
        scales=(2, 3, 4),
        known_limits=(
            "An upscaler that enlarges twice only is scaled up from there.",
            "Textures are made up; letters and faces far from the size it was trained on can warp.",
            stills.PEOPLE,
        ),
        checked="whole runs",
    )
