"""One tick: one evaluation of a network over several pictures, and one move of each picture's own sampler."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tintype.engine.family import Drawing, Line, Loaded
from tintype.engine.samplers import rows


@torch.inference_mode()
def run(model: Loaded, drawings: Sequence[Drawing], *, padded_lines: int) -> None:
    """Take one evaluation of every drawing's sampler; all share the model and the shape of their latents.

    The batch is filled up to `padded_lines` with copies of its last line, so that a network that computes a little
    differently for every batch size always meets the same one.
    """
    made = lines(drawings)
    predictions = model.predict([*made, *[made[-1]] * (padded_lines - len(made))])
    rows.advance([drawing.sampled for drawing in drawings], _guided(model, drawings, predictions))
    for drawing in drawings:
        _blend(drawing)


def lines(drawings: Sequence[Drawing]) -> list[Line]:
    """The lines of one evaluation: of each drawing, without words where it is guided, and with them."""
    samples, _ = rows.look([drawing.sampled for drawing in drawings])
    return [line for index, drawing in enumerate(drawings) for line in _lines(drawing, samples[index : index + 1])]


def _lines(drawing: Drawing, sample: Tensor) -> list[Line]:
    sampled = drawing.sampled
    begun, over = (at / sampled.plan.evaluations for at in (sampled.evaluation, sampled.evaluation + 1))
    steering = tuple(each for each in drawing.steering if each.start <= begun and over <= each.end)
    readings = [drawing.words] if drawing.without_words is None else [drawing.without_words, drawing.words]
    return [
        Line(
            sample=sample,
            timestep=sampled.plan.timesteps[sampled.evaluation],
            words=words,
            guidance_scale=drawing.guidance_scale,
            beside=drawing.beside,
            style=drawing.style,
            steering=steering,
            adapters=drawing.adapters,
        )
        for words in readings
    ]


def _guided(model: Loaded, drawings: Sequence[Drawing], predictions: Tensor) -> Tensor:
    guided: list[Tensor] = []
    at = 0
    for drawing in drawings:
        if drawing.without_words is None:
            guided.append(predictions[at : at + 1])
            at += 1
        else:
            without_words, with_words = predictions[at : at + 1], predictions[at + 1 : at + 2]
            guided.append(model.guide(without_words, with_words, drawing.guidance_scale))
            at += 2
    return torch.cat(guided)


def _blend(drawing: Drawing) -> None:
    """Put back what an inpainted picture keeps, as noisy as its sample is now; after the last step, as it is."""
    blend, sampled = drawing.blend, drawing.sampled
    if blend is None:
        return
    kept = blend.clean
    if not sampled.is_done:
        kept = rows.level(sampled.plan, sampled.evaluation, clean=blend.clean, noise=blend.noise)
    sampled.latents = blend.mask * sampled.latents + (1 - blend.mask) * kept
