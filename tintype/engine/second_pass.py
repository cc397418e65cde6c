"""A second pass over what an upscaler made: the picture is decoded, enlarged, and drawn again as any picture is.

Its phases: those of the picture without a second pass; one of the same model that decodes; the upscaler's; and one of
the model again. Without an upscaler the latents are enlarged, which is each family's own matter.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from tintype.engine.family import NOTHING, Drawing
from tintype.engine.samplers import rows
from tintype.engine.samplers.plan import ONCE
from tintype.engine.scheduling.values import Phase
from tintype.providers.contract import GenerationRequest

UPSCALER = "upscaler"
"""The companion that enlarges a picture before it is drawn over."""
MULTIPLE = 16
"""Of pixels that pictures are large: as every family can take."""


def is_over_pixels(request: GenerationRequest) -> bool:
    """Whether the request has a second pass, over what an upscaler makes."""
    return request.task != "upscale" and request.hires is not None and UPSCALER in request.companions


def first(request: GenerationRequest) -> GenerationRequest:
    """The picture that is enlarged, as a request of its own."""
    return replace(request, hires=None)


def size(request: GenerationRequest) -> tuple[int, int]:
    """Height and width of the second pass in pixels."""
    assert request.hires is not None
    height, width = (round(side * request.hires.scale / MULTIPLE) for side in (request.height, request.width))
    return height * MULTIPLE, width * MULTIPLE


def second(request: GenerationRequest, enlarged: NDArray[np.uint8]) -> GenerationRequest:
    """The second pass as a request of its own, over `enlarged`."""
    assert request.hires is not None
    return replace(
        request,
        task="image_to_image",
        source=enlarged,
        height=enlarged.shape[0],
        width=enlarged.shape[1],
        steps=request.hires.steps,
        strength=request.hires.strength,
        hires=None,
        refiner=None,
    )


def decoding_at(request: GenerationRequest) -> int:
    """Which phase decodes; the upscaler's follow."""
    return 1 if request.refiner is None else 2


def decoding(drawn: Phase) -> Phase:
    """The phase that decodes, on the model and in the size of the one that drew."""
    return replace(drawn, key=("decoding", drawn.key), shape=f"{drawn.shape} decoded", evaluations=1, lines=1)


def of_pixels(pixels: NDArray[np.uint8], drawing: Drawing) -> Drawing:
    """A drawing that is decoded, uint8 RGB [height, width, 3]: what an upscaler goes on from, and nothing computes."""
    device = drawing.sampled.latents.device
    seen = torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1)[None].float() / 255
    return Drawing(
        sampled=rows.Sampled(plan=ONCE, latents=seen, generator=drawing.sampled.generator),
        words=NOTHING,
        without_words=None,
        guidance_scale=1.0,
        is_apart=True,
    )
