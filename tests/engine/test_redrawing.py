"""Models that draw enlarge too: over a resampled picture or an upscaler's, in tiles that no seam shows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine import upscalers
from tests.engine.engines import SKETCH, Engine, request
from tests.engine.test_runner import Fault
from tests.engine.test_upscaling import enlarging, steps, worst
from tintype.engine import pictures, redrawing, ticks, tiles
from tintype.engine.families import sketch
from tintype.engine.family import Drawing, Line, RequestUnsuitableError, Tiling
from tintype.engine.samplers import rows
from tintype.engine.samplers.plan import ONCE
from tintype.providers.contract import GenerationRequest, Hires, Progress

DRAWN = {"prompt": "a red circle on a blue background", "sampler": "euler", "steps": 10, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def circle(engine: Engine) -> np.ndarray:
    return engine.draw(request(width=112, height=80, steps=12))[0].pixels


def test_a_picture_of_one_tile_is_the_enlarged_one_drawn_over(engine: Engine, circle: np.ndarray):
    source = circle[:64, :64]
    ours = engine.draw(enlarging(SKETCH, source, 2, seeds=(5,), strength=0.4, **DRAWN))[0].pixels
    over = request(task="image_to_image", source=pictures.resize(source, (128, 128)), width=128, height=128, seeds=(5,))
    plain = engine.draw(GenerationRequest(**{**vars(over), **DRAWN, "strength": 0.4}))[0].pixels
    assert np.array_equal(ours, plain)


@pytest.mark.parametrize(("sampler", "evaluations"), [("euler", 3), ("heun", 5)])
def test_a_picture_of_many_tiles_keeps_what_it_shows(
    engine: Engine, circle: np.ndarray, sampler: str, evaluations: int
):
    source = circle[:75]
    asked = engine.ask(enlarging(SKETCH, source, 2, strength=0.3, **{**DRAWN, "sampler": sampler}))
    ours = asked.outputs()[0].pixels
    assert ours.shape == (150, 224, 3)
    assert steps(asked)[-1] == evaluations * 4
    plain = pictures.resize(source, (150, 224)).astype(int)
    assert 0.5 < np.abs(ours - plain).mean() < 6


class Contradicting:
    """Says something else of every tile."""

    def __init__(self) -> None:
        self.said = 0

    def predict(self, lines: list[Line]) -> torch.Tensor:
        self.said += len(lines)
        return torch.full_like(lines[0].sample, 10.0 * (self.said % 2))


def test_what_is_said_of_places_that_tiles_share_changes_evenly_from_one_to_the_next():
    grid = tiles.cover(160, 352, side=128, overlap=32, multiple=16)
    drawing = Drawing(
        sampled=rows.Sampled(plan=ONCE, latents=torch.zeros(1, 1, 160, 352), generator=None),
        words={},
        without_words=None,
        guidance_scale=1.0,
        tiling=Tiling(grid=grid, made_grid=grid),
    )
    model = Contradicting()
    for done in range(len(grid)):
        assert not drawing.sampled.is_done, done
        ticks.run(model, [drawing], padded_lines=1)  # pyright: ignore[reportArgumentType]
    assert drawing.sampled.is_done
    found = drawing.sampled.latents[0, 0]
    assert found.max() - found.min() > 9
    assert max(found.diff(dim=0).abs().max(), found.diff(dim=1).abs().max()) <= 10 / 32 + 1e-4


@pytest.mark.parametrize("at", [1, 3, 6])
def test_running_out_of_memory_once_costs_no_tile(
    engine: Engine, circle: np.ndarray, monkeypatch: pytest.MonkeyPatch, at: int
):
    wanted = enlarging(SKETCH, circle, 2, strength=0.3, **DRAWN)
    alone = engine.draw(wanted)[0].pixels
    monkeypatch.setattr(sketch.Sketch, "predict", Fault(sketch.Sketch.predict, torch.OutOfMemoryError(), {at}))
    assert np.array_equal(engine.draw(wanted)[0].pixels, alone)


def test_an_enlargement_that_is_withdrawn_ends_between_two_tiles(engine: Engine, circle: np.ndarray):
    asked = engine.ask(enlarging(SKETCH, circle, 2, strength=0.9, **{**DRAWN, "steps": 100}))
    asked.until_step(2)
    engine.runner.withdraw(asked.job)
    assert asked.end().error is None
    assert steps(asked)[-1] < 90


def test_a_tile_shares_evaluations_with_other_peoples_pictures(
    engine: Engine, circle: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    wanted = enlarging(SKETCH, circle, 2, strength=0.9, id="tiles", on_behalf_of="tiles", **DRAWN)
    alone = engine.draw(wanted)[0].pixels
    together: list[int] = []
    predict = sketch.Sketch.predict

    def count(model: sketch.Sketch, lines: list[Line]) -> torch.Tensor:
        together.append(len({line.guidance_scale for line in lines}))
        return predict(model, lines)

    monkeypatch.setattr(sketch.Sketch, "predict", count)
    enlarged = engine.ask(wanted)
    others = [
        engine.ask(request(width=128, height=128, steps=40, guidance_scale=4.0, id=f"{n}", on_behalf_of=f"{n}"))
        for n in range(3)
    ]
    ours = enlarged.outputs()[0].pixels
    for other in others:
        other.outputs()
    assert max(together) == 2
    assert worst(ours, alone) <= 2


def test_a_strict_enlargement_has_the_same_bits_every_time(engine: Engine, circle: np.ndarray):
    wanted = enlarging(SKETCH, circle, 2, seed_mode="strict", seeds=(3, 4), strength=0.6, **DRAWN)
    first, second = engine.draw(wanted)
    again = engine.draw(wanted)
    assert np.array_equal(first.pixels, again[0].pixels)
    assert np.array_equal(second.pixels, again[1].pixels)
    assert not np.array_equal(first.pixels, second.pixels)


def test_an_upscaler_goes_first_where_one_is_given(tmp_path: Path, engine: Engine, circle: np.ndarray):
    weights = {name: tensor * 0 for name, tensor in upscalers.compact(factor=2).items()}
    weights[f"body.{6}.bias"][0:4] = -0.2
    upscaler = upscalers.install(tmp_path, weights, "first")
    source = circle[:64, :64]
    wanted = enlarging(SKETCH, source, 2, strength=0.1, companions={"upscaler": upscaler}, seeds=(1, 2), **DRAWN)
    asked = engine.ask(wanted)
    ours = asked.outputs()
    assert next(item.steps for item in asked.seen if isinstance(item, Progress)) == 2 * (1 + 1)
    enlarged = engine.draw(enlarging(upscaler, source, 2))[0].pixels
    assert worst(enlarged, pictures.resize(source, (128, 128))) > 40
    over = request(task="image_to_image", source=enlarged, width=128, height=128, seeds=(1, 2), strength=0.1)
    plain = engine.draw(GenerationRequest(**{**vars(over), **DRAWN}))
    assert max(worst(one.pixels, other.pixels) for one, other in zip(ours, plain, strict=True)) <= 2
    assert not np.array_equal(ours[0].pixels, ours[1].pixels)


def test_a_request_that_says_nothing_of_drawing_is_drawn_over_a_little(engine: Engine, circle: np.ndarray):
    asked = engine.ask(enlarging(SKETCH, circle[:64, :64], 2))
    ours = asked.outputs()[0].pixels
    assert steps(asked)[-1] == int(redrawing.STEPS * redrawing.STRENGTH)
    assert np.abs(ours - pictures.resize(circle[:64, :64], (128, 128)).astype(int)).mean() < 15


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"mask": np.zeros((80, 112), np.uint8)}, "a mask"), ({"source": None}, "no picture to enlarge")],
)
def test_what_does_not_go_with_enlarging_is_refused(engine: Engine, circle: np.ndarray, changes: dict, what: str):
    wanted = enlarging(SKETCH, circle, 2, **DRAWN)
    with pytest.raises(RequestUnsuitableError, match=what):
        engine.draw(GenerationRequest(**{**vars(wanted), **changes}))


@pytest.mark.parametrize(("factor", "scale"), [(2, 2.0), (2, 1.5), (2, 3.0)])
def test_a_second_pass_draws_over_what_an_upscaler_made_of_the_first(
    tmp_path: Path, engine: Engine, factor: int, scale: float
):
    upscaler = upscalers.install(tmp_path, upscalers.compact(factor=factor), f"second-{scale}")
    plain = request(width=64, height=80, steps=6, seeds=(3, 8))
    larger = Hires(scale=scale, steps=5, strength=0.6)
    asked = engine.ask(replace(plain, hires=larger, companions={"upscaler": upscaler}))
    ours = [output.pixels for output in asked.outputs()]
    height, width = (round(side * scale / 16) * 16 for side in (80, 64))
    assert ours[0].shape == (height, width, 3)
    for seed, made in zip(plain.seeds, ours, strict=True):
        first = engine.draw(replace(plain, seeds=(seed,)))[0].pixels
        enlarged = engine.draw(enlarging(upscaler, first, int(np.ceil(scale))))[0].pixels
        over = replace(
            plain,
            task="image_to_image",
            source=pictures.resize(enlarged, (height, width)),
            width=width,
            height=height,
            steps=5,
            strength=0.6,
            seeds=(seed,),
        )
        assert worst(made, engine.draw(over)[0].pixels) <= 2
    asked_for = next(item.steps for item in asked.seen if isinstance(item, Progress))
    assert steps(asked)[-1] == asked_for == 2 * (6 + 1 + (1 if scale <= factor else 2) + 3)


def test_a_second_pass_over_a_part_is_refused(tmp_path: Path, engine: Engine, circle: np.ndarray):
    upscaler = upscalers.install(tmp_path, upscalers.compact(factor=2), "refused")
    wanted = request(
        task="inpaint",
        source=circle[:64, :64],
        mask=np.full((64, 64), 255, np.uint8),
        companions={"upscaler": upscaler},
    )
    with pytest.raises(RequestUnsuitableError, match="does not go with a mask"):
        engine.draw(replace(wanted, hires=Hires(scale=2.0, steps=4, strength=0.5)))
