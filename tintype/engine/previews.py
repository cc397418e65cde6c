"""What a picture looks like so far: the latents it is heading for, seen through a linear lens instead of a decoder.

A lens gives each latent one colour, c = L x + b. It is fitted by least squares to what the model's own autoencoder
makes of a few synthetic pictures, once for each model. Fitting and looking happen in the finishing thread.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import torch
from torch import Tensor
from torch.nn import functional

from tintype import logs
from tintype.engine import pictures
from tintype.engine.family import Loaded
from tintype.engine.finishing import Done, Finisher
from tintype.engine.job import Job, Picture
from tintype.engine.scheduling.residency import Residency
from tintype.providers.contract import Preview

INTERVAL_S = 0.5
"""A request is shown at most this often."""

LARGEST_SIDE = 128
PATTERN_SIDE = 128
PATTERN_CELLS = (2, 4, 8, 16)
"""Synthetic pictures have so many random colours along each side, as squares and as slopes between them."""

RIDGE = 1e-4
"""Of the latents' mean square: keeps channels that say the same from cancelling each other."""

log = logs.get("engine")


class Previews:
    """Who is shown when. Used by the engine's thread; `note` has it call something later."""

    def __init__(self, finisher: Finisher, residency: Residency, note: Callable[[Callable[[], None]], None]) -> None:
        self._finisher = finisher
        self._residency = residency
        self._note = note
        self._lenses: dict[str, Tensor | None] = {}
        self._under_way: set[Job] = set()

    def choose(self, pictures: Sequence[Picture]) -> list[int]:
        """Which of the pictures are to be seen at the next evaluation: of each request that is due, one in turn."""
        now_s = time.monotonic()
        chosen: dict[Job, int] = {}
        for place, picture in enumerate(pictures):
            job, sampled = picture.job, picture.ready.sampled
            is_due = now_s - max(job.seen_s.values(), default=now_s) >= INTERVAL_S
            if not job.seen_s:
                job.seen_s[picture.index] = now_s  # one that is done sooner is not shown at all
            is_last = sampled.evaluation + 1 >= sampled.plan.evaluations
            is_whole = picture.ready.tiling is None and not picture.ready.is_apart
            if not is_due or job in self._under_way or is_last or not is_whole:
                continue
            if job not in chosen or _seen_s(picture) < _seen_s(pictures[chosen[job]]):
                chosen[job] = place
        return list(chosen.values())

    def show(self, model_id: str, model: Loaded, seen: Sequence[tuple[Picture, Tensor]]) -> None:
        """Give small pictures of these clean latents to those who asked, soon; where a lens is missing, fit one."""
        if not seen:
            return
        if model_id not in self._lenses:
            self._lenses[model_id] = None
            self._fit(model_id, model, like=seen[0][1])
        if (lens := self._lenses[model_id]) is None:
            return
        for picture, latents in seen:
            picture.job.seen_s[picture.index] = time.monotonic()
            self._under_way.add(picture.job)
            later = self._finisher.compute(latents, lambda latents=latents: pictures.to_host(look(lens, latents)))
            later.add_done_callback(lambda done, picture=picture: self._note(lambda: self._looked(picture, done)))

    def _looked(self, picture: Picture, done: Done) -> None:
        job = picture.job
        self._under_way.discard(job)
        if (error := done.exception()) is not None:
            log.warning("a preview could not be made", error=str(error))
        elif not job.has_ended and picture.index in job.unfinished:
            job.give(Preview(index=picture.index, pixels=done.result()))

    def _fit(self, model_id: str, model: Loaded, *, like: Tensor) -> None:
        """Have a lens fitted; the model stays where it is until that is done."""
        self._residency.pin(model_id)
        later = self._finisher.compute(like, lambda: fit(model, like.device))
        later.add_done_callback(lambda done: self._note(lambda: self._fitted(model_id, done)))

    def _fitted(self, model_id: str, done: "Future[Tensor]") -> None:
        self._residency.unpin(model_id)
        if (error := done.exception()) is not None:
            log.warning("there will be no previews", model=model_id, error=str(error))
        else:
            self._lenses[model_id] = done.result()


def fit(model: Loaded, device: torch.device) -> Tensor:
    """The lens [channels + 1, 3] of a model: colours from -1 to 1 of latents and a one."""
    generator = torch.Generator("cpu").manual_seed(0)
    latents: list[Tensor] = []
    colours: list[Tensor] = []
    for pattern in patterns(generator):
        found = model.encode(pattern.to(device), generator).double().cpu()
        latents.append(_extended(found))
        colours.append(
            functional.adaptive_avg_pool2d(pattern.double(), (found.shape[2], found.shape[3])).flatten(2)[0].T
        )
    seen, wanted = torch.cat(latents), torch.cat(colours)
    products = seen.T @ seen
    products += RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=products.dtype)
    return torch.linalg.solve(products, seen.T @ wanted).float().to(device)


def look(lens: Tensor, latents: Tensor) -> Tensor:
    """The small picture of latents [1, channels, height, width]: uint8 RGB [height, width, 3], where they are."""
    height, width = latents.shape[2:]
    colours = (_extended(latents.float()) @ lens).T.reshape(1, 3, height, width)
    shrink = max(height, width) / LARGEST_SIDE
    if shrink > 1:
        colours = functional.adaptive_avg_pool2d(colours, (max(1, int(height / shrink)), max(1, int(width / shrink))))
    return ((colours[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).contiguous()


def patterns(generator: torch.Generator) -> list[Tensor]:
    """Synthetic pictures [1, 3, side, side] from -1 to 1."""
    found: list[Tensor] = []
    for cells in PATTERN_CELLS:
        for mode in ("nearest", "bilinear", "bilinear"):
            coarse = 2 * torch.rand(1, 3, cells, cells, generator=generator) - 1
            found.append(functional.interpolate(coarse, size=(PATTERN_SIDE, PATTERN_SIDE), mode=mode))
    return found


def _extended(latents: Tensor) -> Tensor:
    """Latents [1, channels, height, width] as rows [height * width, channels + 1], each with a one at its end."""
    rows = latents.flatten(2)[0].T
    return torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)


def _seen_s(picture: Picture) -> float:
    return picture.job.seen_s.get(picture.index, 0.0)
