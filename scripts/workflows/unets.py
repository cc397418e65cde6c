"""What the workflows of SD 1.5 and of SDXL share: the same pieces, never the same models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scripts.workflows import files
from scripts.workflows.drafts import Draft, Link, Node
from scripts.workflows.files import File

SAMPLERS = (
    *("euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde"),
    *("uni_pc", "ddim", "lcm"),
)
SCHEDULERS = ("normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform", "beta")
NONE = "none"
"""In place of a file's name: the node that would read it is taken out."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One of the two families, with the models and numbers that its workflows take."""

    slug: str
    family: str
    name: str
    checkpoint: File
    vae: File
    controlnets: Mapping[str, File]
    side: int
    most_side: int
    steps: int
    guidance_scale: float
    scheduler: str
    negative_prompt: str
    has_clip_layer: bool

    @property
    def defaults(self) -> dict[str, Any]:
        """The manifest's defaults."""
        return {
            "width": self.side,
            "height": self.side,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "sampler": "dpmpp_2m",
            "negative_prompt": self.negative_prompt,
        }

    @property
    def limits(self) -> dict[str, Any]:
        """The manifest's limits."""
        return {
            "min_side": self.side // 2,
            "max_side": self.most_side,
            "multiple_of": 8,
            "max_pixels": 2 * self.side * self.side,
            "max_steps": 100,
            "max_guidance_scale": 20,
            "max_images": 8,
            "max_loras": 3,
        }


SD15 = Family(
    slug="sd15",
    family="stable_diffusion",
    name="SD 1.5",
    checkpoint=files.SD15,
    vae=files.SD15_VAE,
    controlnets={"canny": files.SD15_CANNY, "depth": files.SD15_DEPTH, "pose": files.SD15_POSE},
    side=512,
    most_side=1024,
    steps=25,
    guidance_scale=7.0,
    scheduler="karras",
    negative_prompt="blurry, low quality, deformed",
    has_clip_layer=True,
)
SDXL = Family(
    slug="sdxl",
    family="sdxl",
    name="SDXL",
    checkpoint=files.SDXL,
    vae=files.SDXL_VAE,
    controlnets={"canny": files.SDXL_CANNY, "depth": files.SDXL_DEPTH, "pose": files.SDXL_POSE},
    side=1024,
    most_side=2048,
    steps=28,
    guidance_scale=6.0,
    scheduler="karras",
    negative_prompt="blurry, low quality, deformed",
    has_clip_layer=False,
)
BOTH = (SD15, SDXL)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The outputs of what loads a model, LoRAs included."""

    model: Link
    clip: Link
    vae: Link


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the prompts say, as conditioning."""

    positive: Link
    negative: Link


def load(draft: Draft, family: Family) -> Loaded:
    """Checkpoint, VAE and LoRAs."""
    name = draft.need(family.checkpoint)
    loader = draft.add("Checkpoint", "CheckpointLoaderSimple", ckpt_name=name)
    draft.bind(
        *("checkpoint", "model", loader, "ckpt_name"),
        folder="checkpoints",
        default=name,
        label="Checkpoint",
        help=f"A checkpoint of {family.name} in the server's folder; several names with | between: the first it has.",
    )
    return around(draft, family, loader[0], loader[1])


def around(draft: Draft, family: Family, model: Link, clip: Link) -> Loaded:
    """What every workflow of a family puts around a model and its text encoder."""
    vae = load_vae(draft, family.vae)
    if family.has_clip_layer:
        layer = draft.add("CLIP layer", "CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-1)
        draft.bind(
            *("clip_layer", "integer", layer, "stop_at_clip_layer"),
            min=-12,
            max=-1,
            default=-1,
            label="CLIP layer",
            help="The text encoder's layer that is read, counted from its end; many anime checkpoints want -2.",
        )
        clip = layer[0]
    model, clip = _style_lora(draft, family, model, clip)
    model, clip = loras(draft, model, clip)
    return Loaded(model=model, clip=clip, vae=vae)


def load_vae(draft: Draft, file: File) -> Link:
    """A VAE of its own file, whatever checkpoint is chosen."""
    name = draft.need(file)
    loader = draft.add("VAE", "VAELoader", vae_name=name)
    draft.bind(
        *("vae", "model", loader, "vae_name"),
        folder="vae",
        default=name,
        label="VAE",
        help="A VAE of the same family in the server's folder.",
    )
    return loader[0]


def _style_lora(draft: Draft, family: Family, model: Link, clip: Link) -> tuple[Link, Link]:
    """The LoRA that belongs to a style, beside the three of the request."""
    node = draft.add(
        *("Style LoRA", "LoraLoader"),
        model=model,
        clip=clip,
        lora_name=NONE,
        strength_model=1.0,
        strength_clip=1.0,
    )
    draft.bypass[node.title] = {"0": "model", "1": "clip"}
    draft.bind(
        *("style_lora", "model", node, "lora_name"),
        folder="loras",
        default=NONE,
        label="LoRA of the style",
        help=f"A LoRA of {family.name} in the server's folder beside those asked for; {NONE} for no such.",
        without=[node.title],
    )
    draft.bind(
        *("style_lora_weight", "number", node, "strength_model"),
        min=-4,
        max=4,
        default=1.0,
        label="Weight of that LoRA",
    )
    draft.bind("style_lora_weight", "number", node, "strength_clip")
    return node[0], node[1]


def loras(draft: Draft, model: Link, clip: Link | None = None) -> tuple[Link, Link]:
    """Up to three LoRAs one after the other; those not asked for are taken out. Without `clip` for the model alone."""
    for number in (1, 2, 3):
        title = f"LoRA {number}"
        if clip is None:
            inputs: dict[str, Any] = {"model": model, "lora_name": NONE, "strength_model": 1.0}
            node = draft.add(title, "LoraLoaderModelOnly", **inputs)
            draft.bypass[title] = {"0": "model"}
            draft.slot("loras", {"node": title, "name": "lora_name", "weights": ["strength_model"]})
            model = node[0]
            continue
        inputs = {"model": model, "clip": clip, "lora_name": NONE, "strength_model": 1.0, "strength_clip": 1.0}
        node = draft.add(title, "LoraLoader", **inputs)
        draft.bypass[title] = {"0": "model", "1": "clip"}
        draft.slot("loras", {"node": title, "name": "lora_name", "weights": ["strength_model", "strength_clip"]})
        model, clip = node[0], node[1]
    return model, clip or model


def words(draft: Draft, clip: Link) -> Words:
    """Prompt and negative prompt."""
    positive = draft.add("Positive prompt", "CLIPTextEncode", text="", clip=clip)
    negative = draft.add("Negative prompt", "CLIPTextEncode", text="", clip=clip)
    draft.bind("prompt", "text", positive, "text", required=True)
    draft.bind("negative_prompt", "text", negative, "text")
    return Words(positive=positive[0], negative=negative[0])


def canvas(draft: Draft, side: int, *, kind: str = "EmptyLatentImage") -> Link:
    """An empty latent picture of the request's size; one, since each picture has a seed and so a run of its own."""
    node = draft.add("Canvas", kind, width=side, height=side, batch_size=1)
    draft.bind("width", "integer", node, "width")
    draft.bind("height", "integer", node, "height")
    return node[0]


def sample(
    draft: Draft, family: Family, model: Link, said: Words, latent: Link, *, title: str = "Sampler", **more: Any
) -> Node:
    """A sampler with all that a request says about sampling; `more` replaces inputs, which are then not bound."""
    inputs = {"steps": family.steps, "denoise": 1.0} | more
    node = draft.add(
        *(title, "KSampler"),
        model=model,
        positive=said.positive,
        negative=said.negative,
        latent_image=latent,
        seed=0,
        cfg=family.guidance_scale,
        sampler_name="dpmpp_2m",
        scheduler=family.scheduler,
        **inputs,
    )
    draft.bind("seed", "seed", node, "seed")
    if "steps" not in more:
        draft.bind("steps", "integer", node, "steps", min=1, max=100)
    draft.bind("guidance_scale", "number", node, "cfg", min=0, max=20)
    bind_sampler(draft, node, node, family.scheduler)
    return node


def bind_sampler(draft: Draft, chooser: Node, schedule: Node, scheduler: str) -> None:
    """Sampler and schedule of noise, where one node or two take them."""
    draft.bind("sampler", "choice", chooser, "sampler_name", choices=list(SAMPLERS))
    draft.bind(
        *("scheduler", "choice", schedule, "scheduler"),
        choices=list(SCHEDULERS),
        default=scheduler,
        label="Schedule of noise",
    )


def show(draft: Draft, samples: Link, vae: Link, *, title: str = "Decode") -> Link:
    """The picture that a latent stands for."""
    return draft.add(title, "VAEDecode", samples=samples, vae=vae)[0]


def save(draft: Draft, images: Link) -> None:
    """Save the pictures."""
    node = draft.add("Save", "SaveImage", images=images, filename_prefix="tintype")
    draft.outputs.append({"node": node.title, "kind": "pictures"})
