"""The built-in model in the engine draws what plain diffusers draws, from words, from pictures and under masks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.sketch import sampling
from tests.engine.engines import BUILTIN, Engine, request
from tintype.engine import devices, loading
from tintype.engine.samplers import course
from tintype.providers.contract import ProviderError


def worst(ours: np.ndarray, theirs: np.ndarray) -> int:
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())


@pytest.mark.parametrize(("width", "height", "guidance"), [(128, 128, 3.0), (64, 96, 1.0), (256, 128, 5.0)])
def test_the_engine_draws_what_plain_diffusers_draws(engine: Engine, width: int, height: int, guidance: float):
    ours = engine.draw(request(width=width, height=height, guidance_scale=guidance, steps=6))[0].pixels
    plain = sampling.sample(
        sampling.load(BUILTIN), [request().prompt], [7], steps=6, guidance=guidance, width=width, height=height
    )[0]
    assert ours.shape == (height, width, 3)
    assert worst(ours, plain) <= 1


def test_a_picture_is_drawn_over_as_plain_diffusers_would(engine: Engine):
    source = engine.draw(request(prompt="a green square on a white background", seeds=(1,)))[0].pixels
    ours = engine.draw(request(task="image_to_image", source=source, strength=0.6, steps=10))[0].pixels
    plain = sampling.sample(
        sampling.load(BUILTIN), [request().prompt], [7], steps=10, width=64, height=64, source=source, strength=0.6
    )[0]
    assert worst(ours, plain) <= 1
    assert worst(ours, source) > 50


def test_what_the_mask_keeps_stays_and_the_rest_is_drawn_anew(engine: Engine):
    source = engine.draw(request(prompt="a green square on a white background", seeds=(1,), width=128))[0].pixels
    mask = np.zeros(source.shape[:2], np.uint8)
    mask[:, :64] = 255
    wanted = request(task="inpaint", source=source, mask=mask, strength=1.0, width=128, steps=12)
    ours = engine.draw(wanted)[0].pixels.astype(int)
    assert np.array_equal(ours[:, 64:], source[:, 64:])
    assert np.abs(ours[:, :40] - source[:, :40]).mean() > 40


def test_a_source_with_no_strength_still_takes_one_step(engine: Engine):
    source = engine.draw(request())[0].pixels
    nearly = engine.draw(request(task="image_to_image", source=source, strength=0.01))[0].pixels
    assert np.abs(nearly.astype(int) - source).mean() < 30


def test_a_sampler_that_does_not_suit_the_model_is_named(engine: Engine):
    with pytest.raises(course.SamplerUnsuitableError, match="choose one of"):
        engine.draw(request(sampler="ddim"))


def test_a_folder_cannot_name_classes_of_its_own(tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(BUILTIN, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["transformer"] = ["subprocess", "Popen"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(loading.ModelBrokenError, match="not from diffusers or transformers"):
        loading.components(folder, dtype=torch.float32, device="cpu")


def test_pickled_weights_are_not_loaded(tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(BUILTIN, folder)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(loading.ModelBrokenError):
        loading.components(folder, dtype=torch.float32, device="cpu")


def test_a_device_that_is_not_there_is_named_with_a_way_out():
    with pytest.raises(ProviderError, match=r"TINTYPE_ENGINE_DEVICE=cuda:77.*use auto or cpu"):
        devices.choose("cuda:77")
