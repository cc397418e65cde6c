"""What is shown of a picture while it is drawn: like what it becomes, small, seldom, and never after the end."""

import asyncio
import time

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.engine import engines
from tests.engine.engines import SKETCH, Engine, request
from tintype import settings
from tintype.engine import devices, families, pictures, previews, ticks
from tintype.engine.job import Ended
from tintype.engine.provider import EngineProvider
from tintype.engine.samplers import rows
from tintype.providers.contract import Output, Preview

WORDS = "a red circle on a blue background"


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are shown as often as can be."""
    monkeypatch.setattr(previews, "INTERVAL_S", 0.0)


def likeness(small: np.ndarray, picture: np.ndarray) -> float:
    """The correlation of a preview with the picture made as small."""
    whole = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    shrunk = functional.adaptive_avg_pool2d(whole, small.shape[:2])[0].permute(1, 2, 0).numpy()
    return float(np.corrcoef(small.ravel().astype(float), shrunk.ravel())[0, 1])


def test_a_preview_of_half_the_way_resembles_the_picture(engine: Engine, eager: None):
    engine.draw(request(steps=40))
    asked = engine.ask(request(prompt=WORDS, width=128, height=96, steps=40))
    picture = asked.outputs()[0].pixels
    shown = [item.pixels for item in asked.seen if isinstance(item, Preview)]
    assert len(shown) > 5
    assert {small.shape for small in shown} == {(12, 16, 3)}
    assert all(small.dtype == np.uint8 for small in shown)
    assert likeness(shown[len(shown) // 2], picture) > 0.85
    assert likeness(shown[-1], picture) > 0.9
    assert likeness(255 - shown[-1], picture) < 0


def test_a_request_is_shown_no_more_often_than_stated_and_a_quick_one_not_at_all(engine: Engine, monkeypatch):
    monkeypatch.setattr(previews, "INTERVAL_S", 0.2)
    engine.draw(request(steps=60, seeds=(1, 2)))
    began = time.monotonic()
    asked = engine.ask(request(steps=60, seeds=(1, 2, 3)))
    asked.end()
    took_s = time.monotonic() - began
    shown = [item for item in asked.seen if isinstance(item, Preview)]
    assert len(shown) <= took_s / 0.2
    monkeypatch.setattr(previews, "INTERVAL_S", 100.0)
    asked = engine.ask(request())
    asked.end()
    assert not any(isinstance(item, Preview) for item in asked.seen)


def test_every_picture_of_a_request_is_shown_and_none_after_it_is_done(engine: Engine, eager: None):
    engine.draw(request(steps=20))
    asked = engine.ask(request(steps=30, seeds=(1, 2)))
    asked.end()
    assert {item.index for item in asked.seen if isinstance(item, Preview)} == {0, 1}
    for index in (0, 1):
        of_it = [item for item in asked.seen if isinstance(item, Preview | Output) and item.index == index]
        assert isinstance(of_it[-1], Output)


def test_nothing_is_shown_of_a_request_that_was_withdrawn(engine: Engine, eager: None):
    engine.draw(request(steps=20))
    asked = engine.ask(request(steps=200))
    asked.until_step(5)
    engine.runner.withdraw(asked.job)
    asked.end()
    engine.draw(request(steps=5))
    assert asked.arrived.empty()


def test_what_is_watched_comes_out_as_if_it_were_not(engine: Engine, monkeypatch):
    monkeypatch.setattr(previews, "INTERVAL_S", 100.0)
    unwatched = engine.draw(request(seed_mode="strict", steps=12))[0].pixels
    monkeypatch.setattr(previews, "INTERVAL_S", 0.0)
    engine.draw(request(steps=12))
    asked = engine.ask(request(seed_mode="strict", steps=12))
    assert np.array_equal(asked.outputs()[0].pixels, unwatched)
    assert any(isinstance(item, Preview) for item in asked.seen)


def test_looking_costs_far_less_than_a_step():
    device = devices.choose("cpu")
    with torch.inference_mode():
        model = families.outline(SKETCH).load(device)
        lens = previews.fit(model, torch.device("cpu"))
        drawing = model.begin(request(width=256, height=256), 7)
        latents = drawing.sampled.latents

        def look() -> None:
            rows.foresee([drawing.sampled], latents)
            previews.look(lens, latents).numpy()

        seconds = min(took_s(look) for _ in range(10))
        step_s = min(took_s(lambda: model.predict(ticks.lines([drawing]))) for _ in range(3))
    assert seconds < 0.03 * step_s


def took_s(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def test_a_lens_shows_the_colours_of_a_real_picture(engine: Engine):
    picture = engine.draw(request(prompt=WORDS, width=128, height=128, steps=12))[0].pixels
    with torch.inference_mode():
        model = families.outline(SKETCH).load(devices.choose("cpu"))
        lens = previews.fit(model, torch.device("cpu"))
        latents = model.encode(pictures.to_tensor(picture, "cpu"), torch.Generator("cpu"))
        assert likeness(previews.look(lens, latents).numpy(), picture) > 0.9


def test_a_large_picture_is_shown_small_and_in_its_proportions():
    lens = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    latents = torch.stack([torch.full((160, 320), 0.5), torch.full((160, 320), -2.0)])[None]
    small = previews.look(lens, latents)
    assert small.shape == (64, 128, 3)
    assert small[7, 9].tolist() == [191, 0, 191]


def test_the_provider_passes_previews_on(tmp_path, monkeypatch, eager: None):
    monkeypatch.setenv("TINTYPE_HOME", str(tmp_path))
    provider = EngineProvider(settings.Engine(device="cpu", threads=1))

    async def draw() -> list[object]:
        return [item async for item in provider.generate(request(steps=60))]

    seen = asyncio.run(draw())
    asyncio.run(provider.close())
    provider._thread.join(timeout=engines.LONGEST_S)
    assert any(isinstance(item, Preview) for item in seen)
    assert isinstance(seen[-1], Output)
    assert not any(isinstance(item, Ended) for item in seen)
