"""Upscalers in the engine: every way of naming their weights, tiles without seams, sizes between their factors."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from tests.engine import upscalers
from tests.engine.engines import Asked, Engine, request
from tintype.engine import pictures
from tintype.engine.enlarging import files as weights_files
from tintype.engine.enlarging.foreign import ArchitectureUnknownError
from tintype.engine.families import rrdb
from tintype.engine.family import RequestUnsuitableError
from tintype.engine.loading import ModelBrokenError
from tintype.providers.contract import GenerationRequest, ModelFiles, Progress


def enlarging(model: ModelFiles, source: np.ndarray, scale: int, **changes: object) -> GenerationRequest:
    """As the API asks: nothing is said of words, steps or a sampler."""
    height, width = (side * scale for side in source.shape[:2])
    values = {"prompt": "", "steps": 1, "guidance_scale": 0.0, "sampler": "", "seeds": (0,)}
    size = {"width": width, "height": height, "scale": scale}
    return request(task="upscale", model=model, source=source, **{**values, **size, **changes})


def worst(ours: np.ndarray, theirs: np.ndarray) -> int:
    assert ours.shape == theirs.shape
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())


def steps(asked: Asked) -> list[int]:
    return [item.step for item in asked.seen if isinstance(item, Progress)]


@pytest.mark.parametrize("way", ["first", "second", "real"])
@pytest.mark.parametrize(("doublings", "folding", "colours"), [(1, 1, 3), (2, 1, 3), (2, 2, 3), (1, 1, 1), (1, 1, 4)])
def test_a_network_computes_the_same_however_its_weights_are_named(
    tmp_path: Path, engine: Engine, way: str, doublings: int, folding: int, colours: int
):
    weights = upscalers.dense(doublings=doublings, folding=folding, colours=colours)
    named = weights if way == "first" else upscalers.renamed(weights, way)
    identity = f"{way}-{doublings}-{folding}-{colours}"
    model = upscalers.install(tmp_path, named, identity)
    source, factor = upscalers.landscape(20, 26), 2**doublings // folding
    ours = engine.draw(enlarging(model, source, factor))[0].pixels
    picture = upscalers.to_tensor(source)
    if colours == 1:
        made = torch.cat([upscalers.compute(weights, picture[:, [channel]]) for channel in range(3)], dim=1)
    else:
        opaque = torch.ones(1, colours - 3, 20, 26)
        made = upscalers.compute(weights, torch.cat((picture, opaque), dim=1))[:, :3]
    assert worst(ours, upscalers.to_pixels(made)) <= 1
    assert ours.std() > 5


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_compact_network_is_read_too(tmp_path: Path, engine: Engine, factor: int):
    weights, source = upscalers.compact(factor=factor), upscalers.landscape(20, 26)
    model = upscalers.install(tmp_path, weights, f"compact-{factor}")
    made = upscalers.compute_compact(weights, upscalers.to_tensor(source), factor)
    assert worst(engine.draw(enlarging(model, source, factor))[0].pixels, upscalers.to_pixels(made)) <= 1


@pytest.mark.parametrize(("folding", "height", "width"), [(1, 130, 301), (2, 131, 203), (1, 61, 150)])
def test_tiles_leave_no_seams_and_each_is_a_step(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, folding: int, height: int, width: int
):
    monkeypatch.setattr(rrdb, "SIDE", 96)
    weights = upscalers.dense(doublings=2, folding=folding)
    model = upscalers.install(tmp_path, weights, f"tiled-{folding}-{height}")
    source, factor = upscalers.landscape(height, width), 4 // folding
    asked = engine.ask(enlarging(model, source, factor))
    ours = asked.outputs()[0].pixels
    picture = functional.pad(upscalers.to_tensor(source), (0, width % folding, 0, height % folding), mode="replicate")
    whole = upscalers.compute(weights, picture)[..., : height * factor, : width * factor]
    assert worst(ours, upscalers.to_pixels(whole)) <= 1
    count = len(rrdb.Outline(model, weights_files.find(Path(model.folder))).grid((height, width)))
    assert count >= 3
    assert steps(asked) == list(range(count + 1))


def test_tiles_without_overlap_would_show(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch):
    """What the two tests above would find if tiles were only put side by side."""
    monkeypatch.setattr(rrdb, "SIDE", 64)
    monkeypatch.setattr(rrdb, "OVERLAP", 1)
    monkeypatch.setattr(rrdb, "MARGIN", 0)
    weights, source = upscalers.dense(), upscalers.landscape(64, 180)
    model = upscalers.install(tmp_path, weights, "seams")
    ours = engine.draw(enlarging(model, source, 2))[0].pixels
    assert worst(ours, upscalers.to_pixels(upscalers.compute(weights, upscalers.to_tensor(source)))) > 8


def test_tiles_of_several_people_share_evaluations_and_leave_no_trace(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rrdb, "SIDE", 64)
    model = upscalers.install(tmp_path, upscalers.dense(), "shared")
    sources = [upscalers.landscape(64, 200, seed) for seed in range(5)]
    alone = [engine.draw(enlarging(model, source, 2))[0].pixels for source in sources]
    counts: list[int] = []
    predict = rrdb.Upscaler.predict
    monkeypatch.setattr(rrdb.Upscaler, "predict", lambda self, lines: counts.append(len(lines)) or predict(self, lines))
    asked = [
        engine.ask(enlarging(model, source, 2, id=f"{seed}", on_behalf_of=f"{seed}"))
        for seed, source in enumerate(sources)
    ]
    together = [each.outputs()[0].pixels for each in asked]
    assert max(counts) > 1
    assert max(worst(ours, theirs) for ours, theirs in zip(together, alone, strict=True)) <= 1


@pytest.mark.parametrize(("factor", "scale", "times"), [(2, 4, 2), (2, 3, 2), (4, 2, 1), (2, 8, 3), (4, 8, 2)])
def test_a_scale_that_is_not_the_networks_is_reached_exactly(
    tmp_path: Path, engine: Engine, factor: int, scale: int, times: int
):
    weights = upscalers.compact(factor=factor, layers=0)
    weights = {name: tensor * 0 for name, tensor in weights.items()}
    model = upscalers.install(tmp_path, weights, f"by-{factor}-{scale}")
    source = upscalers.landscape(24, 31)
    asked = engine.ask(enlarging(model, source, scale))
    ours = asked.outputs()[0].pixels
    assert ours.shape == (24 * scale, 31 * scale, 3)
    assert len(steps(asked)) == 1 + times
    expected = pictures.resize(source, (24 * scale, 31 * scale)).astype(int)
    assert np.abs(ours - expected).mean() < 8


def test_a_network_that_only_cleans_keeps_the_size_or_is_resampled(tmp_path: Path, engine: Engine):
    weights = {name: tensor * 0 for name, tensor in upscalers.compact(factor=1).items()}
    model = upscalers.install(tmp_path, weights, "cleaner")
    source = upscalers.landscape(24, 31)
    assert np.array_equal(engine.draw(enlarging(model, source, 1))[0].pixels, source)
    doubled = engine.draw(enlarging(model, source, 2))[0].pixels
    assert np.array_equal(doubled, pictures.resize(source, (48, 62)))


def test_an_upscaler_draws_nothing_from_words(tmp_path: Path, engine: Engine):
    model = upscalers.install(tmp_path, upscalers.dense(), "words")
    with pytest.raises(RequestUnsuitableError, match="only enlarges pictures"):
        engine.draw(request(model=model))


def test_an_architecture_of_another_kind_names_the_way_out(tmp_path: Path, engine: Engine):
    model = upscalers.install(tmp_path, {"layers.0.attention.qkv.weight": torch.zeros(4, 4)}, "other")
    with pytest.raises(ArchitectureUnknownError, match="pip install spandrel torchvision"):
        engine.draw(enlarging(model, upscalers.landscape(20, 20), 2))


def test_an_architecture_that_spandrel_knows_is_used_as_it_says(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """The library is acted here: it needs torchvision, which is not installed."""
    module = torch.nn.Conv2d(3, 3, 1)

    class Described:
        purpose, scale, input_channels, model = "SR", 2, 3, module

        def to(self, place: object) -> "Described":
            return self

        def eval(self) -> "Described":
            return self

        def __call__(self, picture: torch.Tensor) -> torch.Tensor:
            assert picture.shape[0] == 1
            return functional.interpolate(1 - picture, scale_factor=2.0)

    acted = SimpleNamespace(
        ModelLoader=lambda: SimpleNamespace(load_from_state_dict=lambda weights: Described()),
        UnsupportedModelError=KeyError,
    )
    monkeypatch.setitem(sys.modules, "spandrel", acted)
    model = upscalers.install(tmp_path, {"layers.0.weight": torch.zeros(4, 4)}, "acted")
    source = upscalers.landscape(20, 26)
    ours = engine.draw(enlarging(model, source, 2))[0].pixels
    assert np.array_equal(ours, 255 - source.repeat(2, axis=0).repeat(2, axis=1))


def test_damaged_and_ambiguous_files_are_named(tmp_path: Path, engine: Engine):
    weights, source = upscalers.dense(), upscalers.landscape(20, 20)
    missing = {name: tensor for name, tensor in weights.items() if "RDB2.conv3" not in name}
    with pytest.raises(ModelBrokenError, match="cannot be loaded"):
        engine.draw(enlarging(upscalers.install(tmp_path / "missing", missing, "missing"), source, 2))
    two = upscalers.install(tmp_path / "two", weights, "two")
    save_file(weights, tmp_path / "two" / "more.safetensors")
    with pytest.raises(ModelBrokenError, match="holds 2 files"):
        engine.draw(enlarging(two, source, 2))
    cut = upscalers.install(tmp_path / "cut", weights, "cut")
    file = tmp_path / "cut" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelBrokenError, match="cannot be loaded"):
        engine.draw(enlarging(cut, source, 2))
