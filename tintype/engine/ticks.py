"""One tick: one evaluation of a network over several pictures, and one move of each picture's own sampler."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tintype.engine.family import Drawing, Line, Loaded, Tiling
from tintype.engine.samplers import rows


@torch.inference_mode()
def run(model: Loaded, drawings: Sequence[Drawing], *, padded_lines: int, watched: Sequence[int] = ()) -> list[Tensor]:
    """Take one evaluation of every drawing's sampler; all share the model and the shape of their lines' samples.

    The batch is filled up to `padded_lines` with copies of its last line, so that a network that computes a little
    differently for every batch size always meets the same one. Gives the clean latents that the drawings at the places
    `watched` are heading for.
    """
    made = lines(drawings)
    if not made:
        return []
    predictions = model.predict([*made, *[made[-1]] * (padded_lines - len(made))])
    guided = _guided(model, drawings, predictions)
    foreseen = [rows.foresee([drawings[place].sampled], guided[place]) for place in watched]
    whole = [drawing for drawing in drawings if drawing.tiling is None]
    _make_room(drawings, guided)  # all of it at once: a tick that fails for want of memory has changed nothing
    if whole:
        together = [each for drawing, each in zip(drawings, guided, strict=True) if drawing.tiling is None]
        rows.advance([drawing.sampled for drawing in whole], torch.cat(together))
    for drawing, prediction in zip(drawings, guided, strict=True):
        if drawing.tiling is not None:
            _lay(drawing, drawing.tiling, prediction)
        _blend(drawing)
    return foreseen


def lines(drawings: Sequence[Drawing]) -> list[Line]:
    """The lines of one evaluation: of each drawing, without words where it is guided, and with them."""
    wanting = [drawing for drawing in drawings if not drawing.is_apart]
    return [
        line for drawing, sample in zip(wanting, _samples(wanting), strict=True) for line in _lines(drawing, sample)
    ]


def _samples(drawings: Sequence[Drawing]) -> list[Tensor]:
    """What the network sees of each drawing next: [1, ...]."""
    whole = [drawing.sampled for drawing in drawings if drawing.tiling is None]
    seen = iter(rows.look(whole)[0].split(1) if whole else ())
    return [next(seen) if drawing.tiling is None else _cut(drawing, drawing.tiling) for drawing in drawings]


def _cut(drawing: Drawing, tiling: Tiling) -> Tensor:
    seen = rows.look([drawing.sampled])[0] if tiling.seen is None else tiling.seen
    return tiling.grid.cut(seen, tiling.at)


def _make_room(drawings: Sequence[Drawing], predictions: Sequence[Tensor]) -> None:
    for drawing, prediction in zip(drawings, predictions, strict=True):
        if (tiling := drawing.tiling) is not None and tiling.made is None:
            grid = tiling.made_grid
            tiling.made = prediction.new_zeros(*prediction.shape[:-2], grid.down.whole, grid.across.whole)


def _lay(drawing: Drawing, tiling: Tiling, prediction: Tensor) -> None:
    """Lay a tile's prediction to the others, and with the last one, take the whole."""
    assert tiling.made is not None
    tiling.made_grid.lay(tiling.made, tiling.at, prediction)
    tiling.at += 1
    if tiling.at < len(tiling.grid):
        return
    height, width = drawing.sampled.latents.shape[-2:]
    made, tiling.made, tiling.at = tiling.made[..., :height, :width], None, 0
    if tiling.seen is None:
        rows.advance([drawing.sampled], made)
    else:
        rows.take(drawing.sampled, made)


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
            beside=_beside(drawing),
            steering=steering,
            adapters=drawing.adapters,
        )
        for words in readings
    ]


def _beside(drawing: Drawing) -> tuple[Tensor, ...]:
    tiling = drawing.tiling
    return drawing.beside if tiling is None or not tiling.besides else tiling.besides[tiling.at]


def _guided(model: Loaded, drawings: Sequence[Drawing], predictions: Tensor) -> list[Tensor]:
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
    return guided


def _blend(drawing: Drawing) -> None:
    """Put back what an inpainted picture keeps, as noisy as its sample is now; after the last step, as it is."""
    blend, sampled = drawing.blend, drawing.sampled
    if blend is None:
        return
    kept = blend.clean
    if not sampled.is_done:
        kept = rows.level(sampled.plan, sampled.evaluation, clean=blend.clean, noise=blend.noise)
    sampled.latents = blend.mask * sampled.latents + (1 - blend.mask) * kept
