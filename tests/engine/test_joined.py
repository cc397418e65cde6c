"""Joined projections: the same results from the same memory, and LoRAs that act as on layers that are apart."""

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from tests.engine.parity import dit_cases
from tests.engine.parity.unet_cases import SD, XL
from tests.engine.test_unet_requests import request as unet_request
from tintype.engine import devices, families, joined, ticks
from tintype.engine.family import Loaded
from tintype.engine.streaming import Streamed
from tintype.providers.contract import GenerationRequest, Lora, ModelFiles

APART = devices.Device(name="cpu", dtype=torch.float32, label="cpu")
JOINED = replace(APART, joins_projections=True)
pytestmark = pytest.mark.filterwarnings("ignore:.*FluxPosEmbed:FutureWarning")


@pytest.fixture(scope="module", params=[SD, XL, "flux", "flux2_klein"])
def wanted(request: pytest.FixtureRequest, unets: Path, tmp_path_factory: pytest.TempPathFactory) -> GenerationRequest:
    """A request to a tiny model, without a LoRA."""
    if request.param in (SD, XL):
        return unet_request(unets, request.param)
    return dit_cases.request(request.param, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def models(wanted: GenerationRequest) -> dict[str, Loaded]:
    outline = families.outline(wanted.model)
    return {"apart": outline.load(APART), "joined": outline.load(JOINED)}


def denoiser(model: Loaded) -> nn.Module:
    return model.parts.get("unet") or model.parts["transformer"]


def draw(model: Loaded, *wanted: GenerationRequest) -> list[torch.Tensor]:
    """The last latents of requests that share every step."""
    drawings = [model.begin(each, each.seeds[0]) for each in wanted]
    while not drawings[0].sampled.is_done:
        ticks.run(model, drawings, padded_lines=1)
    return [drawing.sampled.latents for drawing in drawings]


def write_lora(path: Path, network: nn.Module) -> Lora:
    """A LoRA for every projection of the network's attentions."""
    torch.manual_seed(3)
    part = "unet" if hasattr(network, "down_blocks") else "transformer"
    ends = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear) and name.endswith(ends):
            tensors[f"{part}.{name}.lora_A.weight"] = torch.randn(4, layer.in_features) / 4
            tensors[f"{part}.{name}.lora_B.weight"] = torch.randn(layer.out_features, 4) / 4
    path.mkdir(exist_ok=True)
    safetensors.torch.save_file(tensors, path / "lora.safetensors")
    return Lora(model=ModelFiles(id="lora", family="", folder=str(path)), weight=0.8)


def test_what_is_drawn_is_the_same_but_for_rounding(models: dict[str, Loaded], wanted: GenerationRequest):
    count = sum(isinstance(module, joined.Joined) for module in denoiser(models["joined"]).modules())
    assert count >= 2
    (apart,), (together,) = draw(models["apart"], wanted), draw(models["joined"], wanted)
    assert (apart - together).abs().max() < 1e-4


def test_loras_act_on_their_own_lines_alone(models: dict[str, Loaded], wanted: GenerationRequest, tmp_path: Path):
    worn = replace(wanted, loras=(write_lora(tmp_path / "lora", denoiser(models["apart"])),))
    (apart,), (alone,) = draw(models["apart"], worn), draw(models["joined"], worn)
    assert (apart - alone).abs().max() < 1e-4
    (plain,) = draw(models["joined"], wanted)
    assert (plain - alone).abs().max() > 1e-2
    with_lora, without = draw(models["joined"], worn, wanted)
    assert (with_lora - alone).abs().max() < 1e-4
    assert (without - plain).abs().max() < 1e-4


def test_nothing_is_in_memory_twice_and_everything_moves(wanted: GenerationRequest):
    outline = families.outline(wanted.model)
    apart, together = denoiser(outline.load(APART)), denoiser(outline.load(JOINED))
    held = [sum(parameter.numel() for parameter in network.parameters()) for network in (apart, together)]
    assert held[0] == held[1]
    together.to(torch.bfloat16)
    parts = [module for module in together.modules() if isinstance(module, joined.Part)]
    assert parts
    assert {part.weight.dtype for part in parts} == {torch.bfloat16}
    whole = parts[0].whole[0]
    assert parts[0].weight.untyped_storage().data_ptr() == whole.weight.untyped_storage().data_ptr()


def test_a_streamed_network_may_have_them(wanted: GenerationRequest):
    model = families.outline(wanted.model).load(JOINED)
    (before,) = draw(model, wanted)
    streamed = Streamed(denoiser(model), "cpu")
    (during,) = draw(model, wanted)
    streamed.end()
    assert torch.equal(before, during)
