"""One evaluation's worth of sampling for many pictures at once, each with its own sampler, step and noise.

All arithmetic is a product and a sum per element, each rounded on its own and in one order. So a row comes out equal,
to the last bit, whatever it shares the call with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from tintype.engine.samplers.course import INPUTS
from tintype.engine.samplers.plan import Plan

LARGEST = len(INPUTS) - 2
"""Rows of the largest update: the sample and as many remembered tensors as `INPUTS` has."""


@dataclass
class Sampled:
    """A picture in the making: its `latents` in float32 before evaluation `evaluation`.

    They may have any shape [1, ...], packed or with frames, and may be replaced between two evaluations. `generator`
    draws on the CPU, as it would for this row alone.
    """

    plan: Plan
    latents: torch.Tensor
    generator: torch.Generator | None
    remembered: tuple[torch.Tensor, ...] = ()
    evaluation: int = 0
    table: torch.Tensor = field(init=False, repr=False)
    """The plan's updates [evaluations, LARGEST, INPUTS], and ..."""
    views: torch.Tensor = field(init=False, repr=False)
    """... its input scales and timesteps [evaluations, 2], both where the latents are."""

    def __post_init__(self) -> None:
        table = torch.zeros(self.plan.evaluations, LARGEST, len(INPUTS))
        table[:, : 1 + self.plan.remembered] = torch.tensor(self.plan.updates)
        self.table = table.to(self.latents.device)
        views = torch.tensor((self.plan.input_scales, self.plan.timesteps))
        self.views = views.T.contiguous().to(self.latents.device)

    @property
    def is_done(self) -> bool:
        """Whether only decoding is left."""
        return self.evaluation >= self.plan.evaluations

    @property
    def steps_done(self) -> int:
        """Visible steps that are complete."""
        return self.plan.steps_done[self.evaluation - 1] if self.evaluation else 0


def begin(
    plan: Plan, noise: torch.Tensor, *, clean: torch.Tensor | None = None, generator: torch.Generator | None
) -> Sampled:
    """A row at its start: from `noise` alone (standard normal), or from the latents of a picture, `clean`.

    All are float32 of one shape [1, ...]. The noise of later steps comes from `generator`; it must be there if
    the plan has `fresh_noise`.
    """
    if any(plan.fresh_noise) and generator is None:
        raise ValueError("this sampler draws noise at its steps: give it a generator")
    latents = plan.initial_noise * noise if clean is None else level(plan, 0, clean=clean, noise=noise)
    return Sampled(
        plan=plan,
        latents=latents,
        generator=generator,
        remembered=tuple(torch.zeros_like(latents) for _ in range(plan.remembered)),
    )


def level(plan: Plan, evaluation: int, *, clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """`clean` as noisy as the sample is before that evaluation: what stands where a mask lets nothing be drawn.

    After the last evaluation (`plan.evaluations`) some schedules leave a little noise; a mask then takes `clean` as
    it is.
    """
    return plan.signal[evaluation] * clean + plan.noise[evaluation] * noise


def look(rows: Sequence[Sampled]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network sees next: scaled latents [rows, ...] and timesteps [rows], float32."""
    latents = torch.cat([row.latents for row in rows])
    scales, timesteps = torch.stack([row.views[row.evaluation] for row in rows], dim=1)
    return latents * _spread(scales, latents), timesteps


def foresee(rows: Sequence[Sampled], predictions: torch.Tensor) -> torch.Tensor:
    """The clean latents [rows, ...] that `predictions` stand for, asked before `advance`: for previews."""
    latents = torch.cat([row.latents for row in rows])
    weights = torch.tensor([row.plan.clean[row.evaluation] for row in rows], device=latents.device)
    of_sample, of_prediction = _spread(weights.T, latents)
    return of_sample * latents + of_prediction * predictions.float()


def advance(rows: Sequence[Sampled], predictions: torch.Tensor) -> None:
    """Move every row by one evaluation; `predictions` [rows, ...] are the network's answers.

    The rows share the shape of their latents and a device, nothing else; none may be done.
    """
    slots = 1 + max(row.plan.remembered for row in rows)
    weights = torch.stack([row.table[row.evaluation] for row in rows])
    columns = _spread(weights.permute(2, 1, 0)[:, :slots], predictions)
    moved: torch.Tensor | None = None
    for weight, values in zip(columns, _inputs(rows, predictions, slots), strict=False):
        if values is None:
            continue
        term = weight * values
        moved = term if moved is None else moved.add_(term)
    assert moved is not None
    for index, row in enumerate(rows):
        row.latents = moved[0, index : index + 1]
        row.remembered = tuple(moved[slot, index : index + 1] for slot in range(1, 1 + row.plan.remembered))
        row.evaluation += 1


def take(row: Sampled, prediction: torch.Tensor) -> None:
    """Move a row by an evaluation whose answer is the sample, and copy nothing."""
    row.latents = prediction
    row.evaluation += 1


def _spread(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """`weights` [..., rows] so that they multiply `values` [rows, ...]."""
    return weights.reshape(*weights.shape, *(1,) * (values.dim() - 1))


def _inputs(rows: Sequence[Sampled], predictions: torch.Tensor, slots: int) -> list[torch.Tensor | None]:
    """The tensors of `INPUTS`, as far as any row has them; zero, or None altogether, where a row has none."""
    nothing = torch.zeros_like(rows[0].latents)
    kept = [
        torch.cat([row.remembered[slot] if slot < row.plan.remembered else nothing for row in rows])
        for slot in range(slots - 1)
    ]
    return [torch.cat([row.latents for row in rows]), predictions.float(), _fresh(rows), *kept]


def _fresh(rows: Sequence[Sampled]) -> torch.Tensor | None:
    """New noise for the rows that take some, each from its own generator, as if it were alone."""
    drawing = [row.plan.fresh_noise[row.evaluation] != 0 for row in rows]
    if not any(drawing):
        return None
    noise = torch.zeros(len(rows), *rows[0].latents.shape[1:])
    for index, row in enumerate(rows):
        if drawing[index]:
            noise[index : index + 1].normal_(generator=row.generator)
    return noise.to(rows[0].latents.device, non_blocking=True)
