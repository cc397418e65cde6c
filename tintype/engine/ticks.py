"""One tick: one evaluation of a network over several pictures, and one step of each picture's own sampler."""

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
    lines = [line for drawing in drawings for line in _lines(drawing)]
    filled = [*lines, *[lines[-1]] * (padded_lines - len(lines))]
    predictions = model.predict(filled)
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
    rows.advance([drawing.sampled for drawing in drawings], torch.cat(guided))
    for drawing in drawings:
        _blend(drawing)


def _lines(drawing: Drawing) -> list[Line]:
    sampled = drawing.sampled
    done = sampled.evaluation / sampled.plan.evaluations
    shared = {
        "sample": sampled.latents * sampled.plan.input_scales[sampled.evaluation],
        "timestep": sampled.plan.timesteps[sampled.evaluation],
        "guidance_scale": drawing.guidance_scale,
        "beside": drawing.beside,
        "style": drawing.style,
        "steering": tuple(each for each in drawing.steering if each.start <= done < each.end),
        "adapters": drawing.adapters,
    }
    readings = [drawing.words] if drawing.without_words is None else [drawing.without_words, drawing.words]
    return [Line(words=words, **shared) for words in readings]


def _blend(drawing: Drawing) -> None:
    """Put back what an inpainted picture keeps, under the noise of the level its sample has now."""
    blend, sampled = drawing.blend, drawing.sampled
    if blend is None:
        return
    at = sampled.evaluation
    kept = blend.clean * sampled.plan.signal[at] + blend.noise * sampled.plan.noise[at]
    sampled.latents = blend.mask * sampled.latents + (1 - blend.mask) * kept
