"""The engine draws with diffusion transformers as with any family: many requests at once, several models."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.engine.engines import Engine
from tests.engine.parity import dit_cases, harness

FAMILIES = ("flux", "flux2_klein", "qwen_image", "z_image")
INPAINTED = {"task": "inpaint", "source": dit_cases.source(), "mask": dit_cases.mask(), "strength": 0.7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def test_requests_to_several_models_are_all_drawn_as_alone(engine: Engine, folder: Path):
    wanted = [
        dit_cases.request(family, folder, id=f"{family}-{index}", **each)
        for family in FAMILIES
        for index, each in enumerate(({}, {"steps": 6, "seeds": (8,)}, INPAINTED, {"hires": dit_cases.LARGER}))
    ]
    asked = [engine.ask(request) for request in wanted]
    drawn = [one.outputs()[0].pixels for one in asked]
    for pixels, request in zip(drawn, wanted, strict=True):
        assert np.abs(pixels.astype(int) - harness.draw(request).pixels.astype(int)).max() <= harness.MOST_PIXELS


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_keeps_its_bits_under_any_load(engine: Engine, folder: Path, family: str):
    wanted = dit_cases.request(family, folder, seed_mode="bucket")
    alone = engine.draw(wanted)[0].pixels
    others = [engine.ask(dataclasses.replace(wanted, id=str(seed), seeds=(seed,), steps=seed)) for seed in (3, 5, 7)]
    among = engine.draw(wanted)[0].pixels
    for one in others:
        assert len(one.outputs()) == 1
    assert np.array_equal(among, alone)
