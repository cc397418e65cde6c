"""What is known of a model around a UNet without its weights: which stretches of work a request takes, and how long."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tintype.engine import clip_prompts, control_networks, families, learned_words, streaming, style_adapter
from tintype.engine.checkpoint import Checkpoint
from tintype.engine.devices import Device
from tintype.engine.family import RequestUnsuitableError
from tintype.engine.samplers import plan as plans
from tintype.engine.samplers.plan import Plan
from tintype.engine.scheduling.values import Phase
from tintype.providers.contract import GenerationRequest, ModelFiles

if TYPE_CHECKING:
    from tintype.engine.family import Loaded

TASKS = ("text_to_image", "image_to_image", "inpaint")
CHANNELS_BESIDE = 5
"""A UNet that was trained with masks takes the mask and the masked picture's four channels beside the sample."""

BYTES_PER_NUMBER = 4
HELD_AT_ONCE = 40
"""Tensors of the first block's size that one evaluation holds at its peak, about: skip connections and attention."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One phase of a picture, in pixels; `part` is the share of the run that it makes."""

    kind: Literal["first", "refiner", "hires"]
    width: int
    height: int
    part: tuple[float, float] = (0.0, 1.0)


class UNetOutline:
    """A model around a UNet; `make` loads it.

    Pictures share a step when they have the same size and as many tokens of text and style; their step, seed, sampler,
    guidance, mask, source and controls may differ.
    """

    def __init__(
        self, files: ModelFiles, checkpoint: Checkpoint, make: "Callable[[UNetOutline, Device], Loaded]"
    ) -> None:
        self.files = files
        self.checkpoint = checkpoint
        self._make = make

    @cached_property
    def weight_bytes(self) -> int:
        """What the catalogue says its weights take, else what they take in half precision, as GPUs keep them."""
        return self.files.memory_bytes or 2 * self.checkpoint.count_weights()

    @cached_property
    def block_bytes(self) -> int:
        """As it is streamed, in half precision; 0 for a single file, whose blocks go by other names."""
        return streaming.block_bytes(streaming.sizes(Path(self.files.folder), bytes_per_number=2))

    @cached_property
    def factor(self) -> int:
        """Pixels of a side for each latent."""
        return 2 ** (len(self.checkpoint.vae["block_out_channels"]) - 1)

    @property
    def native_side(self) -> int:
        """The side in pixels it was trained with."""
        return self.checkpoint.unet["sample_size"] * self.factor

    @property
    def takes_masks(self) -> bool:
        """Whether the UNet was trained to inpaint."""
        return self.checkpoint.unet["in_channels"] == self.checkpoint.vae["latent_channels"] + CHANNELS_BESIDE

    def is_guided(self, request: GenerationRequest) -> bool:
        """Whether a step looks without words too; a UNet that was distilled with guidance is told of it instead."""
        return request.guidance_scale > 1 and self.checkpoint.unet.get("time_cond_proj_dim") is None

    def chunks(self, request: GenerationRequest) -> int:
        """How many chunks the prompts of the request are read in: as many as the longer one takes."""
        learned = learned_words.of(request)
        prompts = [request.prompt, *([request.negative_prompt] if self.is_guided(request) else [])]
        tokenizers = list(self.checkpoint.tokenizers.values())
        return max(clip_prompts.count_chunks(prompt, tokenizers, learned) for prompt in prompts)

    def stretches(self, request: GenerationRequest) -> tuple[Stretch, ...]:
        """The phases of a picture: by this model, then where asked for by a refiner, then by this model, enlarged.

        Raises:
            RequestUnsuitableError: the model cannot do what is asked for.
        """
        self._check(request)
        width, height = request.width, request.height
        switch_at = 1.0 if request.refiner is None else request.refiner.switch_at
        found = [Stretch(kind="first", width=width, height=height, part=(0.0, switch_at))]
        if request.refiner is not None:
            found.append(Stretch(kind="refiner", width=width, height=height, part=(switch_at, 1.0)))
        if request.hires is not None:
            wide, high = (round(side * request.hires.scale / self.factor) * self.factor for side in (width, height))
            found.append(Stretch(kind="hires", width=wide, height=high))
        return tuple(found)

    def plan(self, request: GenerationRequest, stretch: Stretch) -> Plan:
        """What the sampler does in one phase."""
        steps, strength = request.steps, request.strength if request.source is not None else 1.0
        if stretch.kind == "hires" and request.hires is not None:
            steps, strength = request.hires.steps, request.hires.strength
        return plans.plan(request.sampler, self.checkpoint.scheduler, steps, strength=strength, part=stretch.part)

    def phases(self, request: GenerationRequest) -> tuple[Phase, ...]:
        """The stretches of work as the schedule knows them."""
        return tuple(
            self._refining(request).phase(request, stretch)
            if stretch.kind == "refiner"
            else self.phase(request, stretch)
            for stretch in self.stretches(request)
        )

    def phase(self, request: GenerationRequest, stretch: Stretch) -> Phase:
        """One phase on this model. Networks that steer it are counted with the picture that brings them."""
        lines = 2 if self.is_guided(request) else 1
        brought = () if stretch.kind == "refiner" else _brought(request)
        weight_bytes = control_networks.weight_bytes(brought)
        return Phase(
            model=self.files.id,
            key=self._key(request, stretch),
            shape=f"{stretch.width}x{stretch.height}",
            evaluations=self.plan(request, stretch).evaluations,
            lines=lines,
            activation_bytes=self._held_bytes(stretch.width, stretch.height) + weight_bytes // lines,
            brings=tuple(files.folder for files in brought),
        )

    def load(self, device: Device) -> "Loaded":
        """The model with its weights on the device."""
        return self._make(self, device)

    def _key(self, request: GenerationRequest, stretch: Stretch) -> Hashable:
        style_tokens = 0 if stretch.kind == "refiner" else style_adapter.count_tokens(request)
        return stretch.width, stretch.height, self.chunks(request), style_tokens

    def _held_bytes(self, width: int, height: int) -> int:
        latents = (width // self.factor) * (height // self.factor)
        return HELD_AT_ONCE * latents * self.checkpoint.unet["block_out_channels"][0] * BYTES_PER_NUMBER

    def _refining(self, request: GenerationRequest) -> "UNetOutline":
        assert request.refiner is not None
        refining = families.outline(request.refiner.model)
        if not isinstance(refining, UNetOutline):
            raise RequestUnsuitableError(
                f"{request.refiner.model.id} cannot refine what {self.files.id} draws; choose a refiner of its family"
            )
        return refining

    def _check(self, request: GenerationRequest) -> None:
        if request.task not in TASKS:
            raise RequestUnsuitableError(f"{self.files.id} cannot do {request.task}; choose a model that can")
        if self.takes_masks and request.task != "inpaint":
            raise RequestUnsuitableError(
                f"{self.files.id} only fills in what a mask marks; give a picture and a mask, or choose another model"
            )
        if request.references:
            raise RequestUnsuitableError(f"{self.files.id} takes no references; leave them out")
        if request.hires is not None and request.task == "inpaint":
            raise RequestUnsuitableError("a second pass does not go with a mask; leave out `hires`")


def _brought(request: GenerationRequest) -> tuple[ModelFiles, ...]:
    """The networks that a request brings: of its controls, a style adapter, an autoencoder."""
    roles = ("vae", *((style_adapter.ROLE,) if request.style_image is not None else ()))
    of_roles = [request.companions[role] for role in roles if role in request.companions]
    return (*(control.model for control in request.controls), *of_roles)
