"""A transformer that comes as a single file, in its authors' way of writing, draws as the one in a folder does."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.engine.parity import dit_cases, dit_models, harness
from tintype.engine import devices, dit_files, families
from tintype.engine.loading import ModelBrokenError
from tintype.providers.contract import GenerationRequest, ModelFiles

CPU = devices.Device(name="cpu", dtype=torch.float32, label="cpu")
NAMES = {
    ".attention.to_out.0.": ".attention.out.",
    ".attention.norm_k.": ".attention.k_norm.",
    ".attention.norm_q.": ".attention.q_norm.",
    "all_final_layer.2-1.": "final_layer.",
    "all_x_embedder.2-1.": "x_embedder.",
}


def as_single_file(tmp_path: Path, family: str, tensors: dict[str, torch.Tensor]) -> GenerationRequest:
    """A request to a model whose transformer is in one file, beside the folder of what it was made from."""
    request = dit_cases.request(family, tmp_path)
    folder = tmp_path / "single"
    base = shutil.copytree(request.model.folder, folder / "base")
    for file in (base / "transformer").glob("*.safetensors"):
        file.unlink()
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "my.safetensors"
    )
    files = ModelFiles(id=f"tiny-{family}", family=family, folder=str(folder))
    return dit_cases.request(family, tmp_path, model=files)


def weights_of(tmp_path: Path, family: str) -> dict[str, torch.Tensor]:
    made = dit_models.build(tmp_path, family) / "transformer" / "diffusion_pytorch_model.safetensors"
    return safetensors.torch.load_file(made)


def written_by_z_images_authors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Queries, keys and values as one, other names, and something else in the same file."""
    written = {"vae.decoder.conv_in.weight": torch.zeros(3)}
    for name, tensor in tensors.items():
        if ".attention.to_q." in name:
            parts = [tensors[name.replace("to_q", part)] for part in ("to_q", "to_k", "to_v")]
            written[f"model.diffusion_model.{name.replace('to_q', 'qkv')}"] = torch.cat(parts)
        elif ".attention.to_k." not in name and ".attention.to_v." not in name:
            written[f"model.diffusion_model.{renamed(name)}"] = tensor
    return written


def renamed(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def test_a_z_image_in_its_authors_writing_draws_the_same(tmp_path: Path):
    single = as_single_file(tmp_path, "z_image", written_by_z_images_authors(weights_of(tmp_path, "z_image")))
    ours = harness.draw(single)
    assert torch.equal(ours.latents, harness.draw(dit_cases.request("z_image", tmp_path)).latents)


@pytest.mark.parametrize("family", ["flux", "flux2_klein", "qwen_image"])
def test_a_single_file_in_diffusers_writing_draws_the_same(family: str, tmp_path: Path):
    whole = dit_cases.request(family, tmp_path)
    expected = harness.draw(whole).latents
    size = families.outline(whole.model).weight_bytes
    single = as_single_file(tmp_path, family, weights_of(tmp_path, family))
    assert torch.equal(harness.draw(single).latents, expected)
    assert families.outline(single.model).weight_bytes == size


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: {**tensors, "layers.0.scale_weight": torch.ones(1)}, "scaled 8-bit"),
        (lambda tensors: dict(list(tensors.items())[:5]), "no transformer like"),
    ],
    ids=["scaled", "incomplete"],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, change, said: str):
    single = as_single_file(tmp_path, "z_image", change(weights_of(tmp_path, "z_image")))
    with pytest.raises(ModelBrokenError, match=said):
        families.outline(single.model).load(CPU)


def test_a_file_without_its_base_is_named(tmp_path: Path):
    (tmp_path / "my.safetensors").write_bytes(b"")
    with pytest.raises(ModelBrokenError, match="made from"):
        dit_files.find(tmp_path)


def test_models_can_be_loaded_from_several_threads(tmp_path: Path):
    wanted = [dit_cases.request(family, tmp_path) for family in ("flux", "qwen_image", "z_image")] * 3
    with ThreadPoolExecutor(3) as threads:
        loaded = list(threads.map(lambda request: families.outline(request.model).load(CPU), wanted))
    for model, request in zip(loaded, wanted, strict=True):
        assert model.begin(request, 1).sampled.latents.isfinite().all()
