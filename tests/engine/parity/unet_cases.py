"""What the families around UNets must draw as diffusers' pipelines do, on the same tiny models."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

from tests.engine.parity import tiny_unets
from tests.engine.parity.harness import Case, Made, draw
from tintype.providers.contract import Control, GenerationRequest, Hires, ModelFiles, Refiner

SIDE = tiny_unets.SIDE
STEPS = 6
SEED = 11
SCHEDULERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "euler": diffusers.EulerDiscreteScheduler.from_config,
    "euler_karras": partial(diffusers.EulerDiscreteScheduler.from_config, use_karras_sigmas=True),
    "euler_a": diffusers.EulerAncestralDiscreteScheduler.from_config,
    "heun": diffusers.HeunDiscreteScheduler.from_config,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler.from_config,
    "dpmpp_2m_karras": partial(diffusers.DPMSolverMultistepScheduler.from_config, use_karras_sigmas=True),
    "dpmpp_2m_sde": partial(diffusers.DPMSolverMultistepScheduler.from_config, algorithm_type="sde-dpmsolver++"),
    "unipc": diffusers.UniPCMultistepScheduler.from_config,
    "ddim": diffusers.DDIMScheduler.from_config,
    "lcm": diffusers.LCMScheduler.from_config,
}
LONG = "a red cat with very long whiskers on a small round mat, a dog beside it, and a bird far up in a green tree"
CUT = LONG.index(" and a bird")
"""Letters are tokens here; a chunk ends at the comma before this."""
BROAD = ("euler", "euler_a", "dpmpp_2m_karras")
"""Samplers of three kinds, for what differs little from sampler to sampler."""
SD, XL = "stable_diffusion", "sdxl"
PIPELINES = {SD: "StableDiffusion", XL: "StableDiffusionXL"}


def write_models(folder: Path) -> None:
    """Every tiny model the cases use."""
    tiny_unets.write_stable_diffusion(folder / SD)
    tiny_unets.write_stable_diffusion(folder / "stable_diffusion_v", prediction_type="v_prediction")
    tiny_unets.write_stable_diffusion(folder / "stable_diffusion_masks", in_channels=9)
    tiny_unets.write_stable_diffusion(folder / "stable_diffusion_told", time_cond_proj_dim=16)
    tiny_unets.write_sdxl(folder / XL)
    tiny_unets.write_sdxl(folder / "sdxl_masks", in_channels=9)
    tiny_unets.write_sdxl(folder / "sdxl_refiner", is_refiner=True)
    for count in (1, 3):
        tiny_unets.write_learned_word(folder / f"learned_{count}", count=count)
    for seed in (1, 2):
        tiny_unets.write_lora(folder / f"lora_{seed}", folder / SD, seed=seed)
    for family in (SD, XL):
        for seed in (4, 5):
            tiny_unets.write_controlnet(folder / f"{family}_control_{seed}", folder / family, seed=seed)
        if family == XL:
            tiny_unets.write_union(folder / f"{family}_union_7", folder / family, seed=7)
        tiny_unets.write_adapter(folder / f"{family}_adapter_6", seed=6, is_xl=family == XL)
        for kind in ("plain", "plus"):
            tiny_unets.write_style_adapter(folder / f"{family}_style_{kind}", folder / family, is_plus=kind == "plus")


def cases() -> Iterator[Case]:
    """All of them."""
    for family in (SD, XL):
        for sampler in SCHEDULERS:
            yield _text(family, sampler)
        for sampler in SCHEDULERS if family == SD else BROAD:
            yield _picture(family, sampler)
            yield _inpaint(family, sampler, "inpaint", strength=0.6)
        for sampler in BROAD:
            yield _inpaint(family, sampler, "inpaint, masked UNet", strength=0.6, folder="_masks")
        yield from _plain_variants(family)
        yield from _steered(family)
        yield from _styled(family)
        yield _larger(family)
        yield _worded(family, "long prompt", LONG, [(LONG[:CUT], 1.0), (LONG[CUT:], 1.0)])
        yield _worded(family, "weighted prompt", "a (red:1.4) [cat]", [("a", 1.0), ("red", 1.4), ("cat", 1 / 1.1)])
    yield _text(SD, "euler", "text to image, v-prediction", folder="_v")
    yield _text(SD, "lcm", "text to image, UNet told of guidance", folder="_told")
    yield _text(XL, "lcm", "text to image, two steps", steps=2, guidance_scale=1.0)
    yield from (_refined(sampler) for sampler in BROAD)
    redrawn = {"task": "image_to_image", "source": photograph(), "strength": 0.8}
    yield _refined("euler", "refiner, image to image", **redrawn)
    yield from (_learned(count) for count in (1, 3))


def _plain_variants(family: str) -> Iterator[Case]:
    yield _text(family, "euler", "text to image, no guidance", guidance_scale=1.0)
    yield _text(family, "euler", "text to image, negative prompt", negative_prompt="blurry, grey")
    yield _text(family, "euler", "text to image, wide", width=SIDE + 32)
    yield _inpaint(family, "euler", "inpaint from noise", strength=1.0)
    yield _inpaint(family, "euler", "inpaint from noise, masked UNet", strength=1.0, folder="_masks")


def _steered(family: str) -> Iterator[Case]:
    """ControlNets and T2I-Adapters, also together with a picture and a mask, and for a part of the steps."""
    kind = PIPELINES[family]
    one, two = _Control(4, strength=0.8), _Control(5, strength=0.5, start=0.2, end=0.7)
    for sampler in BROAD:
        yield _case(family, sampler, "ControlNet", f"{kind}ControlNet", controls=(one,))
    yield _case(family, "euler", "ControlNet, two for a while", f"{kind}ControlNet", controls=(one, two))
    yield _case(
        family,
        "euler",
        "ControlNet, image to image",
        f"{kind}ControlNetImg2Img",
        controls=(two,),
        task="image_to_image",
        source=photograph(),
        strength=0.7,
    )
    for folder, named in (
        ("", "ControlNet, inpaint"),
        *([("_masks", "ControlNet, masked UNet")] if family == SD else []),
    ):
        yield _case(
            family,
            "euler",
            named,
            f"{kind}ControlNetInpaint",
            controls=(one,),
            folder=folder,
            task="inpaint",
            source=photograph(),
            mask=mask(),
            strength=0.6,
        )
    if family == XL:
        union = (_Control(7, strength=0.8, end=0.7, network="union"),)
        yield _case(family, "euler", "ControlNet, union", f"{kind}ControlNetUnion", controls=union)
        again = {"task": "image_to_image", "source": photograph(), "strength": 0.7}
        yield _case(
            family,
            "euler",
            "ControlNet, union, image to image",
            f"{kind}ControlNetUnionImg2Img",
            controls=union,
            **again,
        )
    yield _case(
        family, "euler", "T2I-Adapter", f"{kind}Adapter", controls=(_Control(6, strength=0.9, network="adapter"),)
    )


def _styled(family: str) -> Iterator[Case]:
    """Style pictures, with both kinds of adapters."""
    for kind in ("plain", "plus"):
        yield _case(family, "euler", f"style adapter, {kind}", PIPELINES[family], style=kind)
    yield _case(family, "euler", "style adapter, no guidance", PIPELINES[family], style="plain", guidance_scale=1.0)
    kind, control = f"{PIPELINES[family]}ControlNet", _Control(4, strength=0.8)
    yield _case(family, "euler", "style adapter, ControlNet", kind, style="plus", controls=(control,))


def _text(family: str, sampler: str, title: str = "text to image", **changes: Any) -> Case:
    return _case(family, sampler, title, PIPELINES[family], **changes)


def _picture(family: str, sampler: str, title: str = "image to image", **changes: Any) -> Case:
    given = {"task": "image_to_image", "source": photograph(), "strength": 0.7}
    return _case(family, sampler, title, PIPELINES[family] + "Img2Img", **{**given, **changes})


def _inpaint(family: str, sampler: str, title: str, **changes: Any) -> Case:
    given = {"task": "inpaint", "source": photograph(), "mask": mask()}
    return _case(family, sampler, title, PIPELINES[family] + "Inpaint", **{**given, **changes})


def _larger(family: str) -> Case:
    """A second pass is the image-to-image pipeline over enlarged latents, with the same stream of random numbers."""
    larger = Hires(scale=1.5, steps=8, strength=0.6)

    def request(models: Path) -> GenerationRequest:
        return _request(files(models, family, family), "euler", hires=larger)

    def theirs(models: Path) -> Made:
        asked, generator = request(models), torch.Generator("cpu").manual_seed(SEED)
        first = open_pipeline(PIPELINES[family], models / family, "euler")
        small = run(first, asked, generator=generator).latents
        enlarged = torch.nn.functional.interpolate(small, scale_factor=1.5, mode="bilinear")
        second = open_pipeline(PIPELINES[family] + "Img2Img", models / family, "euler")
        changes = {"image": enlarged, "strength": 0.6, "num_inference_steps": 8}
        again = _request(asked.model, "euler", task="image_to_image")
        return run(second, again, **changes, generator=generator)

    return Case(task="hires", family=family, sampler="euler", ours=lambda models: draw(request(models)), theirs=theirs)


def _worded(family: str, title: str, prompt: str, pieces: Sequence[tuple[str, float]]) -> Case:
    """diffusers reads 77 tokens and knows no weights, but takes what was read elsewhere: here, plainly."""

    def request(models: Path) -> GenerationRequest:
        return _request(files(models, family, family), "euler", prompt=prompt, negative_prompt="grey")

    def theirs(models: Path) -> Made:
        pipeline = open_pipeline(PIPELINES[family], models / family, "euler")
        chunks = [[piece] for piece in pieces] if title == "long prompt" else [pieces]
        words = _read_plainly(pipeline, chunks)
        without = _read_plainly(pipeline, [[("grey", 1.0)], *[[("", 1.0)]] * (len(chunks) - 1)])
        told = {**words, **{f"negative_{name}": value for name, value in without.items()}}
        return run(pipeline, request(models), prompt=None, negative_prompt=None, **told)

    return Case(task=title, family=family, sampler="euler", ours=lambda models: draw(request(models)), theirs=theirs)


@torch.no_grad()
def _read_plainly(pipeline: Any, chunks: Sequence[Sequence[tuple[str, float]]]) -> dict[str, torch.Tensor]:
    """The prompt's states: chunk by chunk, every token's times its weight, the chunk's mean then as it was."""
    read: list[torch.Tensor] = []
    pooled: list[torch.Tensor] = []
    is_xl = hasattr(pipeline, "text_encoder_2")
    for suffix in ("", "_2") if is_xl else ("",):
        encoder, tokenizer = getattr(pipeline, f"text_encoder{suffix}"), getattr(pipeline, f"tokenizer{suffix}")
        states: list[torch.Tensor] = []
        for chunk in chunks:
            ids, weights = [tokenizer.bos_token_id], [1.0]
            for text, weight in chunk:
                found = tokenizer(text, add_special_tokens=False).input_ids
                ids, weights = [*ids, *found], [*weights, *[weight] * len(found)]
            ids = [*ids, tokenizer.eos_token_id]
            ids += [tokenizer.pad_token_id] * (77 - len(ids))
            output = encoder(torch.tensor([ids]), output_hidden_states=True)
            found = output.hidden_states[-2] if is_xl else output.last_hidden_state
            scaled = found * torch.tensor([*weights, *[1.0] * (77 - len(weights))])[None, :, None]
            states.append(scaled * found.mean() / scaled.mean())
            pooled += [output.text_embeds] if suffix else []
        read.append(torch.cat(states, dim=1))
    told = {"prompt_embeds": torch.cat(read, dim=-1)}
    return told | {"pooled_prompt_embeds": pooled[0]} if is_xl else told


def _learned(count: int) -> Case:
    """A word that was learned, of one vector and of several."""
    prompt = "a <toy> on a mat"

    def request(models: Path) -> GenerationRequest:
        companions = {"embedding:<toy>": files(models, f"learned_{count}", SD)}
        return _request(files(models, SD, SD), "euler", prompt=prompt, companions=companions)

    def theirs(models: Path) -> Made:
        pipeline = open_pipeline(PIPELINES[SD], models / SD, "euler")
        pipeline.load_textual_inversion(str(models / f"learned_{count}" / "learned.safetensors"), token="<toy>")
        return run(pipeline, request(models))

    title = f"learned word, {count} vectors"
    return Case(task=title, family=SD, sampler="euler", ours=lambda models: draw(request(models)), theirs=theirs)


def _refined(sampler: str, title: str = "refiner", **changes: Any) -> Case:
    """Base and refiner share a run as diffusers' documentation shows it."""

    def request(models: Path) -> GenerationRequest:
        refiner = Refiner(model=files(models, "sdxl_refiner", XL), switch_at=0.7)
        return _request(files(models, XL, XL), sampler, refiner=refiner, **changes)

    def theirs(models: Path) -> Made:
        asked, generator = request(models), torch.Generator("cpu").manual_seed(SEED)
        first = PIPELINES[XL] if asked.source is None else PIPELINES[XL] + "Img2Img"
        base = open_pipeline(first, models / XL, sampler)
        noisy = run(base, asked, denoising_end=0.7, generator=generator).latents
        refiner = open_pipeline(PIPELINES[XL] + "Img2Img", models / "sdxl_refiner", sampler)
        again = _request(asked.model, sampler, task="image_to_image")
        return run(refiner, again, image=noisy, denoising_start=0.7, generator=generator)

    return Case(task=title, family=XL, sampler=sampler, ours=lambda models: draw(request(models)), theirs=theirs)


@dataclass(frozen=True)
class _Control:
    """A control of a case; `seed` names its network and picture."""

    seed: int
    strength: float
    start: float = 0.0
    end: float = 1.0
    network: str = "control"

    def of(self, models: Path, family: str) -> Control:
        """As the engine is told of it."""
        return Control(
            type="canny",
            model=files(models, f"{family}_{self.network}_{self.seed}", family),
            pixels=self.picture,
            strength=self.strength,
            start=self.start,
            end=self.end,
            is_ready=True,
        )

    @property
    def picture(self) -> np.ndarray:
        """Larger than what is drawn, so that it must be made smaller."""
        return photograph(self.seed, width=SIDE + 40, height=SIDE + 40)


def _case(
    family: str,
    sampler: str,
    title: str,
    pipeline: str,
    *,
    folder: str = "",
    controls: Sequence[_Control] = (),
    style: str | None = None,
    **changes: Any,
) -> Case:
    """`changes` are those of the request."""

    def request(models: Path) -> GenerationRequest:
        steering = tuple(control.of(models, family) for control in controls)
        more: dict[str, Any] = {"controls": steering}
        if style is not None:
            adapter = files(models, f"{family}_style_{style}", family)
            more |= {
                "style_image": photograph(3, width=40),
                "style_strength": 0.7,
                "companions": {"style_adapter": adapter},
            }
        return _request(files(models, family + folder, family), sampler, **{**more, **changes})

    def theirs(models: Path) -> Made:
        asked = request(models)
        opened = open_pipeline(pipeline, models / asked.model.id, sampler, **_networks(asked))
        return run(opened, asked, **_steering(asked), **_add_style(opened, asked))

    return Case(task=title, family=family, sampler=sampler, ours=lambda models: draw(request(models)), theirs=theirs)


def _networks(request: GenerationRequest) -> dict[str, Any]:
    """What a pipeline with controls has beside a plain one."""
    if not request.controls:
        return {}
    if "_adapter_" in request.controls[0].model.id:
        return {"adapter": diffusers.T2IAdapter.from_pretrained(request.controls[0].model.folder)}
    if "_union_" in request.controls[0].model.id:
        return {"controlnet": diffusers.ControlNetUnionModel.from_pretrained(request.controls[0].model.folder)}
    opened = [diffusers.ControlNetModel.from_pretrained(control.model.folder) for control in request.controls]
    return {"controlnet": opened if len(opened) > 1 else opened[0]}


def _steering(request: GenerationRequest) -> dict[str, Any]:
    """What a pipeline with controls is told beside the rest."""
    if not request.controls:
        return {}
    pictures = [Image.fromarray(control.pixels) for control in request.controls]
    if "_adapter_" in request.controls[0].model.id:
        return {"image": pictures[0], "adapter_conditioning_scale": request.controls[0].strength}
    told = {
        "image" if request.source is None else "control_image": pictures,
        "controlnet_conditioning_scale": [control.strength for control in request.controls],
        "control_guidance_start": [control.start for control in request.controls],
        "control_guidance_end": [control.end for control in request.controls],
    }
    if "_union_" in request.controls[0].model.id:
        named = {name: value[0] for name, value in told.items() if "image" not in name}
        return {**named, "control_image": pictures, "control_mode": [3]}
    return told if len(pictures) > 1 else {name: value[0] for name, value in told.items()}


def _add_style(pipeline: Any, request: GenerationRequest) -> dict[str, Any]:
    """Load the style adapter into the pipeline; what it is told beside the rest."""
    if request.style_image is None:
        return {}
    folder = request.companions["style_adapter"].folder
    pipeline.load_ip_adapter(folder, subfolder="", weight_name="adapter.safetensors", local_files_only=True)
    pipeline.set_ip_adapter_scale(request.style_strength)
    return {"ip_adapter_image": Image.fromarray(request.style_image)}


def _request(model: ModelFiles, sampler: str, **changes: Any) -> GenerationRequest:
    usual: dict[str, Any] = {
        "id": "one",
        "task": "text_to_image",
        "model": model,
        "prompt": "a red cat, on a mat",
        "negative_prompt": "",
        "width": SIDE,
        "height": SIDE,
        "seeds": (SEED,),
        "steps": STEPS,
        "guidance_scale": 5.0,
        "sampler": sampler,
    }
    return GenerationRequest(**{**usual, **changes})


def open_pipeline(name: str, folder: Path, sampler: str, **components: Any) -> Any:
    """A plain pipeline over a model's folder, with a sampler."""
    kind: Any = getattr(diffusers, f"{name}Pipeline")
    more = {"add_watermarker": False} if "XL" in name else {"safety_checker": None, "feature_extractor": None}
    pipeline = kind.from_pretrained(folder, **more, **components)
    pipeline.scheduler = SCHEDULERS[sampler](pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run(pipeline: Any, request: GenerationRequest, **more: Any) -> Made:
    """What the pipeline makes of the request; what a mask keeps gets the source's pixels, as in the engine."""
    arguments: dict[str, Any] = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt or None,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "generator": torch.Generator("cpu").manual_seed(request.seeds[0]),
        "output_type": "latent",
    }
    if request.source is not None:
        arguments |= {"image": Image.fromarray(request.source), "strength": request.strength}
    if request.mask is not None:
        arguments |= {"mask_image": Image.fromarray(request.mask)}
    if request.task != "image_to_image" or request.controls:
        arguments |= {"width": request.width, "height": request.height}
    latents = pipeline(**{**arguments, **more}).images
    pixels = decode(pipeline, latents)
    if request.mask is not None:
        pixels = np.where(request.mask[..., None] == 255, pixels, request.source)
    return Made(latents=latents, pixels=pixels)


def decode(pipeline: Any, latents: torch.Tensor) -> np.ndarray:
    """The picture of latents, as the pipelines make it."""
    with torch.no_grad():
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    (picture,) = pipeline.image_processor.postprocess(decoded, output_type="pil")
    return np.asarray(picture)


def files(folder: Path, name: str, family: str) -> ModelFiles:
    """A tiny model as the engine is told of it."""
    return ModelFiles(id=name, family=family, folder=str(folder / name))


def photograph(seed: int = 0, *, width: int = SIDE, height: int = SIDE) -> np.ndarray:
    """Something smooth with edges, uint8 RGB."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (5 + seed + k)) + np.cos(columns / (7 + seed - k)) for k in range(3)]
    pixels = np.stack(waves, axis=-1) * 60 + 128
    pixels[height // 4 : height // 2, width // 3 : width // 2] = (200, 40, 90 + seed)
    return pixels.clip(0, 255).astype(np.uint8)


def mask() -> np.ndarray:
    """A disc that no grid of latents fits, to be drawn anew."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    return ((rows - 30) ** 2 + (columns - 37) ** 2 < 19**2).astype(np.uint8) * 255
