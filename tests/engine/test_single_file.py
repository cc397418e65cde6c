"""A checkpoint in one file draws what the same model in diffusers' layout draws."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.engine import ldm_files
from tests.engine.parity import harness
from tintype.engine import families, layouts, single_file
from tintype.engine.loading import ModelBrokenError
from tintype.providers.contract import GenerationRequest, ModelFiles


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    ldm_files.write(folder / "stable_diffusion", is_xl=False)
    ldm_files.write(folder / "sdxl", is_xl=True)
    ldm_files.write_second(folder / "second")
    return folder


def request(folder: Path, family: str) -> GenerationRequest:
    return GenerationRequest(
        id="one", task="text_to_image", model=ModelFiles(id=folder.name, family=family, folder=str(folder)),
        prompt="a photograph of an astronaut, riding", negative_prompt="", width=64, height=64, seeds=(3,), steps=3,
        guidance_scale=5.0, sampler="euler",
    )  # fmt: skip


@pytest.mark.parametrize("family", ["stable_diffusion", "sdxl"])
def test_one_file_draws_what_the_folder_draws(models: Path, family: str):
    folder, single = (harness.draw(request(models / family / layout, family)) for layout in ("diffusers", "single"))
    assert (folder.latents - single.latents).abs().max() <= harness.MOST_LATENTS
    assert np.abs(folder.pixels.astype(int) - single.pixels).max() <= 1


def test_one_file_of_the_second_version_draws_what_the_folder_draws(models: Path):
    family = "stable_diffusion"
    folder, single = (harness.draw(request(models / "second" / layout, family)) for layout in ("diffusers", "single"))
    assert (folder.latents - single.latents).abs().max() <= harness.MOST_LATENTS
    assert np.abs(folder.pixels.astype(int) - single.pixels).max() <= 1


@pytest.mark.parametrize(("spread", "predicts", "side"), [(0.01, "epsilon", 512), (0.2, "v_prediction", 768)])
def test_the_second_versions_two_kinds_are_told_apart_by_a_layer(
    models: Path, tmp_path: Path, spread: float, predicts: str, side: int
):
    tensors = safetensors.torch.load_file(models / "second" / "single" / "model.safetensors")
    ldm_files.write_merges(tmp_path / single_file.MERGES)
    (last,) = [name for name in tensors if name.endswith("output_blocks.5.1.transformer_blocks.0.norm1.bias")]
    tensors[last] = torch.linspace(-1, 1, 64) * spread * 3**0.5
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    files = ModelFiles(id="x", family="stable_diffusion", folder=str(tmp_path))
    assert layouts.read(files).scheduler["prediction_type"] == predicts
    assert families.outline(files).native_side == side


def test_its_outline_knows_the_size_of_the_weights_without_them(models: Path):
    outlines = [
        families.outline(ModelFiles(id="x", family="sdxl", folder=str(models / "sdxl" / layout)))
        for layout in ("diffusers", "single")
    ]
    sizes = [outline.weight_bytes for outline in outlines]
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-3)


def test_a_file_without_its_vocabulary_is_refused_with_what_to_do(models: Path, tmp_path: Path):
    shutil.copy(models / "sdxl" / "single" / "model.safetensors", tmp_path)
    with pytest.raises(ModelBrokenError, match=r"holds no vocabulary; put CLIP's merges.txt there"):
        layouts.read(ModelFiles(id="x", family="sdxl", folder=str(tmp_path)))


@pytest.mark.parametrize("marker", [None, "v_pred"])
def test_a_file_says_what_its_model_predicts(models: Path, tmp_path: Path, marker: str | None):
    tensors = safetensors.torch.load_file(models / "sdxl" / "single" / "model.safetensors")
    ldm_files.write_merges(tmp_path / single_file.MERGES)
    safetensors.torch.save_file(tensors | ({marker: torch.tensor(0)} if marker else {}), tmp_path / "model.safetensors")
    read = layouts.read(ModelFiles(id="x", family="sdxl", folder=str(tmp_path)))
    assert read.scheduler["prediction_type"] == ("v_prediction" if marker else "epsilon")


def test_a_file_that_is_no_whole_model_is_refused_with_what_to_do(tmp_path: Path):
    safetensors.torch.save_file({"lora_unet.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    files = ModelFiles(id="x", family="sdxl", folder=str(tmp_path))
    with pytest.raises(ModelBrokenError, match=r"no whole Stable Diffusion or SDXL.*choose another file"):
        layouts.read(files)
    (tmp_path / "other.safetensors").write_bytes(b"")
    with pytest.raises(ModelBrokenError, match=r"2 \.safetensors files"):
        layouts.read(files)


def test_a_damaged_file_is_refused_with_what_to_do(models: Path, tmp_path: Path):
    tensors = safetensors.torch.load_file(models / "sdxl" / "single" / "model.safetensors")
    tensors.pop("first_stage_model.decoder.conv_in.weight")
    ldm_files.write_merges(tmp_path / single_file.MERGES)
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelBrokenError, match=r"(?s)cannot be loaded.*install it anew"):
        harness.draw(request(tmp_path, "sdxl"))
