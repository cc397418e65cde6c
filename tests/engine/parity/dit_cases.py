"""What the families over diffusion transformers are compared in, each with the pipeline it must not differ from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import torch
from diffusers.pipelines.flux2 import pipeline_flux2_klein
from numpy.typing import NDArray
from torch.nn import functional

from tests.engine.parity import dit_models, harness
from tests.engine.parity.harness import Case, Made
from tintype.engine import latents
from tintype.providers.contract import Control, GenerationRequest, Hires, ModelFiles

WIDTH, HEIGHT = 96, 64
SEED = 5
STEPS = 4
PROMPT = "a red fox in the snow"
LONG_PROMPT = "a fox, a hen and a hare in deep snow at dusk, seen from above, with long blue shadows. " * 3
NEGATIVE = "blurry"
STRENGTH = 0.6
LARGER = Hires(scale=1.5, steps=4, strength=0.5)
LARGER_SIZE = (HEIGHT * 3 // 2, WIDTH * 3 // 2)


def source() -> NDArray[np.uint8]:
    """A picture with slopes and an edge."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    picture = np.stack([rows * 3, columns * 2, np.where(columns > WIDTH // 2, 200, 40)], axis=2)
    return picture.astype(np.uint8)


def mask() -> NDArray[np.uint8]:
    """A part is drawn anew; its edges lie across tokens."""
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    drawn[13:51, 7:70] = 255
    return drawn


def reference(height: int, width: int) -> NDArray[np.uint8]:
    """Another picture, of any size."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([columns % 256, rows * 2 % 256, (rows + columns) % 200], axis=2).astype(np.uint8)


def depths() -> NDArray[np.uint8]:
    """What a control shows; it has another size than the picture."""
    rows, columns = np.mgrid[0:40, 0:50]
    return np.stack([(rows * columns) % 256] * 3, axis=2).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A request, as changes to `request`, and the pipeline that is to draw the same, with its arguments."""

    family: str
    task: str
    pipeline: str
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    control: Mapping[str, Any] | None = None
    variant: str = ""
    sampler: str = "euler"

    def case(self) -> Case:
        """The comparison."""
        changes = {**OURS[self.family], **self.changes, "sampler": self.sampler, "task": self.task}
        return Case(
            task=", ".join(filter(None, [self.task.replace("_", " "), self.variant])),
            family=self.family,
            sampler=self.sampler,
            ours=lambda folder: harness.draw(
                request(self.family, folder, settings=self.settings, **changes, controls=controls(self, folder))
            ),
            theirs=lambda folder: _draw_plainly(self, folder),
        )


def controls(pair: Pair, folder: Path) -> tuple[Control, ...]:
    """The control that steers our picture, where one does."""
    if pair.control is None:
        return ()
    made = dit_models.build_control(folder, pair.family, **pair.control)
    files = ModelFiles(id=made.name, family="control", folder=str(made))
    return (Control(type="depth", model=files, pixels=depths(), is_ready=True, **ACTING[pair.family]),)


def cases() -> Sequence[Case]:
    """All of them."""
    return [pair.case() for pair in PAIRS]


def request(
    family: str, folder: Path, *, settings: Mapping[str, Any] | None = None, **changes: Any
) -> GenerationRequest:
    """A request to the family's tiny model, built with `settings`."""
    made = dit_models.build(folder, family, **(settings or {}))
    values: dict[str, Any] = {
        "id": "one",
        "task": "text_to_image",
        "model": ModelFiles(id=f"tiny-{family}", family=family, folder=str(made)),
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "width": WIDTH,
        "height": HEIGHT,
        "seeds": (SEED,),
        "steps": STEPS,
        "guidance_scale": 3.0,
        "sampler": "euler",
        **changes,
    }
    return GenerationRequest(**values)


def _draw_plainly(pair: Pair, folder: Path) -> Made:
    """What the pipeline makes of the same folder and seed; enlarged and drawn again where that is asked for."""
    made = dit_models.build(folder, pair.family, **pair.settings)
    generator = torch.Generator("cpu").manual_seed(SEED)
    values = {"prompt": PROMPT, "num_inference_steps": STEPS, **THEIRS[pair.family], **pair.given}
    parts: dict[str, Any] = {}
    if pair.control is not None:
        kind, _ = dit_models.CONTROLS[pair.family]
        parts["controlnet"] = kind.from_pretrained(dit_models.build_control(folder, pair.family, **pair.control))
    drawn = _run(made, pair.pipeline, pair.sampler, generator, {"width": WIDTH, "height": HEIGHT, **values}, parts)
    if "hires" in pair.changes:
        small = UNPACK[pair.family](drawn.latents, (HEIGHT, WIDTH))
        size = {"width": LARGER_SIZE[1], "height": LARGER_SIZE[0]}
        if pair.family == "flux2_klein":  # no pipeline of its changes a picture without seeing it, too
            pipeline, again = pair.pipeline, _begun_again(made, small, generator)
        else:
            pipeline = IMAGE_TO_IMAGE[pair.family]
            enlarged = functional.interpolate(small, scale_factor=LARGER.scale, mode="bilinear")
            again = {"image": enlarged, "strength": LARGER.strength}
        more = {**values, **size, "num_inference_steps": LARGER.steps, **again}
        drawn = _run(made, pipeline, pair.sampler, generator, more, {})
    size = LARGER_SIZE if "hires" in pair.changes else (HEIGHT, WIDTH)
    kept = latents.keep(drawn.pixels, source(), mask()) if pair.task == "inpaint" else drawn.pixels
    return Made(latents=UNPACK[pair.family](drawn.latents, size), pixels=kept)


def _begun_again(made: Path, small: torch.Tensor, generator: torch.Generator) -> dict[str, Any]:
    """FLUX.2's latents, enlarged and noisy, and the levels of noise that are left, as its pipeline takes them."""
    unfolded = functional.pixel_shuffle(small, 2)
    enlarged = functional.interpolate(unfolded, scale_factor=LARGER.scale, mode="bilinear")
    clean = functional.pixel_unshuffle(enlarged, 2)
    levels = np.linspace(1.0, 1 / LARGER.steps, LARGER.steps)[round(LARGER.steps * (1 - LARGER.strength)) :]
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(made / "scheduler")
    mu = pipeline_flux2_klein.compute_empirical_mu(clean.shape[2] * clean.shape[3], LARGER.steps)
    scheduler.set_timesteps(sigmas=levels, mu=mu)
    level = scheduler.sigmas[0]
    noise = torch.randn(clean.shape, generator=generator)
    return {"latents": level * noise + (1 - level) * clean, "sigmas": levels}


def _run(
    made: Path,
    name: str,
    sampler: str,
    generator: torch.Generator,
    given: Mapping[str, Any],
    parts: Mapping[str, Any],
) -> Made:
    pipe = getattr(diffusers, name).from_pretrained(made, local_files_only=True, **parts)
    if sampler in SCHEDULERS:
        kind, settings = SCHEDULERS[sampler]
        pipe.scheduler = kind.from_config(pipe.scheduler.config, **settings)
    pipe.set_progress_bar_config(disable=True)
    last: dict[str, torch.Tensor] = {}

    def keep(_: Any, __: int, ___: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        last.update(tensors)
        return {}

    pixels = pipe(**given, generator=generator, callback_on_step_end=keep, output_type="np").images[0]
    return Made(latents=last["latents"], pixels=(pixels * 255).round().astype(np.uint8))


def _grid(tokens: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Tokens [1, rows * columns, channels] as [1, channels, rows, columns]."""
    rows = round((tokens.shape[1] * size[0] / size[1]) ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (rows, -1))


def _unpacked(tokens: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return functional.pixel_shuffle(_grid(tokens, size), 2)


FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
SCHEDULERS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, FLOW),
    "unipc": (diffusers.UniPCMultistepScheduler, FLOW),
}
THEIRS: Mapping[str, Mapping[str, Any]] = {
    "flux": {"guidance_scale": 3.0, "max_sequence_length": dit_models.LONGEST_TEXT["flux"]},
    "flux2_klein": {"guidance_scale": 3.0, "max_sequence_length": dit_models.LONGEST_TEXT["flux2_klein"]},
    "qwen_image": {"negative_prompt": NEGATIVE, "true_cfg_scale": 3.0},
    "z_image": {"negative_prompt": NEGATIVE, "guidance_scale": 3.0},
}
OURS: Mapping[str, Mapping[str, Any]] = {
    "flux": {},
    "flux2_klein": {"negative_prompt": ""},
    "qwen_image": {},
    "z_image": {},
}
UNPACK: Mapping[str, Callable[[torch.Tensor, tuple[int, int]], torch.Tensor]] = {
    "flux": _unpacked,
    "flux2_klein": _grid,
    "qwen_image": _unpacked,
    "z_image": lambda found, _: found,
}
TEXT_TO_IMAGE = {
    "flux": "FluxPipeline",
    "flux2_klein": "Flux2KleinPipeline",
    "qwen_image": "QwenImagePipeline",
    "z_image": "ZImagePipeline",
}
IMAGE_TO_IMAGE = {
    "flux": "FluxImg2ImgPipeline",
    "qwen_image": "QwenImageImg2ImgPipeline",
    "z_image": "ZImageImg2ImgPipeline",
}
INPAINT = {
    "flux": "FluxInpaintPipeline",
    "flux2_klein": "Flux2KleinInpaintPipeline",
    "qwen_image": "QwenImageInpaintPipeline",
    "z_image": "ZImageInpaintPipeline",
}

PICTURE = PIL.Image.fromarray(source())
SEEN = (reference(75, 120), reference(64, 72))
"""References whose sides are, and are not, multiples of a token's."""
PART, WHOLE = PIL.Image.fromarray(mask()), PIL.Image.new("L", (WIDTH, HEIGHT), 255)
FROM_SOURCE = {"source": source(), "strength": STRENGTH}
TRUE_CFG = {"options": {"true_cfg_scale": 2.0}}
ACTING: Mapping[str, Mapping[str, Any]] = {
    "flux": {"strength": 0.8, "start": 0.0, "end": 0.8},
    "qwen_image": {"strength": 0.8, "start": 0.0, "end": 0.8},
    "z_image": {"strength": 0.8},
}
STEERED = {"control_image": PIL.Image.fromarray(depths()), "controlnet_conditioning_scale": 0.8}
STEERED_FIRST = {**STEERED, "control_guidance_end": 0.8}
PAIRS = (
    *(Pair(family=family, task="text_to_image", pipeline=name) for family, name in TEXT_TO_IMAGE.items()),
    *(
        Pair(
            family=family,
            task="image_to_image",
            pipeline=name,
            given={"image": PICTURE, "strength": STRENGTH},
            changes=FROM_SOURCE,
        )
        for family, name in IMAGE_TO_IMAGE.items()
    ),
    *(
        Pair(
            family=family,
            task="inpaint",
            pipeline=name,
            given={"image": PICTURE, "mask_image": PART, "strength": STRENGTH},
            changes={**FROM_SOURCE, "mask": mask()},
        )
        for family, name in INPAINT.items()
    ),
    *(
        Pair(
            family=family,
            task="text_to_image",
            variant="hires",
            pipeline=TEXT_TO_IMAGE[family],
            changes={"hires": LARGER},
        )
        for family in TEXT_TO_IMAGE
    ),
    *(
        Pair(family=family, task="text_to_image", pipeline=TEXT_TO_IMAGE[family], sampler=sampler)
        for family in ("flux", "flux2_klein")
        for sampler in SCHEDULERS
    ),
    Pair(
        family="flux",
        task="text_to_image",
        variant="negative prompt",
        pipeline="FluxPipeline",
        given={"negative_prompt": NEGATIVE, "true_cfg_scale": 2.0},
        changes=TRUE_CFG,
    ),
    Pair(
        family="flux",
        task="text_to_image",
        variant="schnell",
        pipeline="FluxPipeline",
        settings={"guidance_embeds": False},
    ),
    Pair(
        family="flux2_klein",
        task="image_to_image",
        variant="all anew",
        pipeline="Flux2KleinPipeline",
        given={"image": PICTURE},
        changes={"source": source()},
    ),
    Pair(
        family="flux2_klein",
        task="image_to_image",
        variant="references",
        pipeline="Flux2KleinPipeline",
        given={"image": [PICTURE, *map(PIL.Image.fromarray, SEEN)]},
        changes={"source": source(), "references": SEEN},
    ),
    Pair(
        family="flux2_klein",
        task="inpaint",
        variant="reference",
        pipeline="Flux2KleinInpaintPipeline",
        given={
            "image": PICTURE,
            "mask_image": PART,
            "strength": STRENGTH,
            "image_reference": PIL.Image.fromarray(SEEN[1]),
        },
        changes={**FROM_SOURCE, "mask": mask(), "references": SEEN[1:]},
    ),
    Pair(
        family="flux2_klein",
        task="image_to_image",
        pipeline="Flux2KleinInpaintPipeline",
        given={"image": PICTURE, "mask_image": WHOLE, "strength": STRENGTH},
        changes=FROM_SOURCE,
    ),
    Pair(
        family="flux2_klein",
        task="text_to_image",
        variant="distilled",
        pipeline="Flux2KleinPipeline",
        settings={"is_distilled": True},
    ),
    Pair(
        family="qwen_image",
        task="text_to_image",
        variant="long prompt",
        pipeline="QwenImagePipeline",
        given={"prompt": LONG_PROMPT},
        changes={"prompt": LONG_PROMPT},
    ),
    Pair(
        family="qwen_image",
        task="text_to_image",
        variant="unguided",
        pipeline="QwenImagePipeline",
        given={"true_cfg_scale": 1.0},
        changes={"guidance_scale": 1.0},
    ),
    Pair(
        family="z_image",
        task="text_to_image",
        variant="long prompt",
        pipeline="ZImagePipeline",
        given={"prompt": LONG_PROMPT},
        changes={"prompt": LONG_PROMPT},
    ),
    Pair(
        family="z_image",
        task="text_to_image",
        variant="unguided",
        pipeline="ZImagePipeline",
        given={"guidance_scale": 0.0},
        changes={"guidance_scale": 0.0},
    ),
    Pair(
        family="flux",
        task="text_to_image",
        variant="ControlNet, negative prompt",
        pipeline="FluxControlNetPipeline",
        control={},
        given={**STEERED_FIRST, "negative_prompt": NEGATIVE, "true_cfg_scale": 2.0},
        changes=TRUE_CFG,
    ),
    Pair(
        family="flux",
        task="image_to_image",
        variant="ControlNet of many types",
        pipeline="FluxControlNetImg2ImgPipeline",
        control={"num_mode": 7},
        given={**STEERED_FIRST, "control_mode": 2, "image": PICTURE, "strength": STRENGTH},
        changes=FROM_SOURCE,
    ),
    Pair(
        family="qwen_image",
        task="text_to_image",
        variant="ControlNet",
        pipeline="QwenImageControlNetPipeline",
        control={},
        given=STEERED_FIRST,
    ),
    Pair(
        family="z_image",
        task="text_to_image",
        variant="ControlNet",
        pipeline="ZImageControlNetPipeline",
        control={},
        given=STEERED,
    ),
)
