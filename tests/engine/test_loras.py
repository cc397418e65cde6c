"""LoRAs at work in a batch give what merged weights give, and no line feels what the others use."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from tests.engine import lora_files as files
from tintype.engine import loras

CLOSE = 2e-5
LINEAR = ["down_blocks.0.attentions.0.transformer_blocks.0." + rest for rest in files.ATTENTION]
POINTS = ["down_blocks.0.attentions.0.proj_in", "up_blocks.1.attentions.1.proj_out"]
KERNELS = ["conv_in", "down_blocks.0.downsamplers.0.conv", "up_blocks.0.resnets.1.conv1", "mid_block.resnets.0.conv2"]
EVERYWHERE = [*LINEAR, *POINTS, *KERNELS, "time_embedding.linear_1", "up_blocks.1.resnets.0.time_emb_proj"]
SEEDS = range(8)


@pytest.fixture(scope="module")
def plain() -> UNet2DConditionModel:
    return files.unet()


def bank_with(
    folder: Path, changes: dict[str, files.Changes], *, slots: int = 8, rank: int = 8
) -> tuple[loras.Bank, nn.Module]:
    network = files.unet()
    bank = loras.Bank(network=network, slots=slots, rank=rank)
    for name, change in changes.items():
        bank.add(name, files.save(folder, name, files.kohya(change)))
    return bank, network


def eight(network: nn.Module, **options: int) -> dict[str, files.Changes]:
    return {f"lora-{seed}": files.changes_for(network, EVERYWHERE, seed=seed, **options) for seed in SEEDS}


def apart(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().max().item()


@pytest.mark.parametrize("paths", [LINEAR, POINTS, KERNELS, EVERYWHERE], ids=["linear", "1x1", "3x3", "all"])
@pytest.mark.parametrize("weights", [(1.0,), (0.7, -1.3), (0.5, 1.0, -0.4)], ids=["one", "two", "three"])
def test_loras_give_what_weights_they_are_merged_into_give(
    plain: UNet2DConditionModel, tmp_path: Path, paths: list[str], weights: tuple[float, ...]
):
    changes = [files.changes_for(plain, paths, seed=seed, rank=4 + seed, alpha=2.5) for seed in range(len(weights))]
    expected = files.draw_unet(files.merged(plain, *zip(changes, weights, strict=True)), 2)
    bank, network = bank_with(tmp_path, {str(seed): change for seed, change in enumerate(changes)})
    bank.use([files.line(*((str(seed), weight) for seed, weight in enumerate(weights)))] * 2)
    drawn = files.draw_unet(network, 2)
    assert apart(drawn, expected) <= CLOSE
    assert apart(drawn, files.draw_unet(plain, 2)) > 1000 * CLOSE


def test_eight_loras_side_by_side_give_what_each_gives_alone(plain: UNet2DConditionModel, tmp_path: Path):
    changes = eight(plain)
    bank, network = bank_with(tmp_path, changes)
    bank.use([files.line((name, 1.0)) for name in changes])
    mixed = files.draw_unet(network, 8)
    for at, (name, change) in enumerate(changes.items()):
        bank.use([files.line((name, 1.0))] * (at + 1))
        assert apart(mixed[at], files.draw_unet(network, at + 1)[at]) <= CLOSE
        assert apart(mixed[at], files.draw_unet(files.merged(plain, (change, 1.0)), at + 1)[at]) <= CLOSE


def test_what_companions_use_changes_no_bit_of_a_line(plain: UNet2DConditionModel, tmp_path: Path):
    """Neither which LoRAs, nor how many, nor of what rank, nor in what page they happen to lie."""
    own = files.changes_for(plain, EVERYWHERE, seed=1, rank=6)
    bank, network = bank_with(tmp_path, {"own": own})
    bank.use([files.line(("own", 0.8)), *[files.line()] * 7])
    alone = files.draw_unet(network, 8)[0]
    for name, change in eight(plain, rank=40).items():
        bank.add(name, files.save(tmp_path, name, files.kohya(change)))
    crowd = [files.line(("lora-1", 1.0), ("lora-2", -0.5), ("lora-3", 2.0)), files.line(("own", 0.1))]
    depth = bank.use([files.line(("own", 0.8)), *crowd, *[files.line(("lora-4", 1.0))] * 5])
    assert depth == 15
    assert torch.equal(files.draw_unet(network, 8)[0], alone)


def test_a_line_without_a_lora_is_drawn_as_by_the_bare_network_bit_by_bit(plain: UNet2DConditionModel, tmp_path: Path):
    changes = eight(plain)
    bank, network = bank_with(tmp_path, changes)
    bank.use([files.line(), *(files.line((name, 1.0)) for name in list(changes)[:7])])
    assert torch.equal(files.draw_unet(network, 8)[0], files.draw_unet(plain, 8)[0])
    assert bank.use([files.line()] * 8) == 0
    assert torch.equal(files.draw_unet(network, 8), files.draw_unet(plain, 8))


def test_a_lora_of_weight_nothing_takes_no_part(plain: UNet2DConditionModel, tmp_path: Path):
    bank, network = bank_with(tmp_path, {"own": files.changes_for(plain, EVERYWHERE, seed=1)})
    assert bank.use([files.line(("own", 0.0))]) == 0
    assert torch.equal(files.draw_unet(network, 1), files.draw_unet(plain, 1))


def test_the_weights_and_their_names_stay_as_they_were(plain: UNet2DConditionModel, tmp_path: Path):
    _, network = bank_with(tmp_path, eight(plain))
    before, after = plain.state_dict(), network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_flux_transformer_mixes_loras_too(tmp_path: Path):
    plain, network = files.flux(), files.flux()
    paths = [
        "x_embedder",
        "norm_out.linear",
        "transformer_blocks.0.norm1.linear",
        "transformer_blocks.0.attn.to_q",
        "transformer_blocks.0.attn.add_k_proj",
        "transformer_blocks.0.ff_context.net.2",
        "single_transformer_blocks.1.attn.to_v",
        "single_transformer_blocks.1.proj_out",
    ]
    bank = loras.Bank(network=network, rank=8)
    changes = {f"lora-{seed}": files.changes_for(plain, paths, seed=seed, alpha=4.0) for seed in SEEDS}
    for name, change in changes.items():
        bank.add(name, files.save(tmp_path, name, files.peft(change, "transformer.")))
    bank.use([files.line((name, -0.9)) for name in changes])
    mixed = files.draw_flux(network, 8)
    for at, change in enumerate(changes.values()):
        assert apart(mixed[at], files.draw_flux(files.merged(plain, (change, -0.9)), 8)[at]) <= CLOSE
    bank.use([files.line(), files.line(("lora-1", 1.0))])
    assert torch.equal(files.draw_flux(network, 2)[0], files.draw_flux(plain, 2)[0])


def test_several_frames_of_a_line_get_its_loras(plain: UNet2DConditionModel, tmp_path: Path):
    """Networks that draw videos fold the frames into the first dimension, line by line."""
    changes = eight(plain)
    bank, network = bank_with(tmp_path, changes)
    bank.use([files.line((name, 1.0)) for name in ("lora-0", "lora-1")])
    drawn = files.draw_unet(network, 6)
    for at, name in enumerate(["lora-0"] * 3 + ["lora-1"] * 3):
        assert apart(drawn[at], files.draw_unet(files.merged(plain, (changes[name], 1.0)), 6)[at]) <= CLOSE


def test_a_network_moved_to_half_precision_takes_its_loras_along(plain: UNet2DConditionModel, tmp_path: Path):
    own = files.changes_for(plain, EVERYWHERE, seed=1)
    bank, network = bank_with(tmp_path, {"own": own})
    network.bfloat16()
    whole = [files.unet().bfloat16(), files.merged(plain, (own, 1.0)).bfloat16()]
    bank.use([files.line(), files.line(("own", 1.0))])
    drawn = files.draw_unet(network, 2)
    expected = [files.draw_unet(each, 2)[at] for at, each in enumerate(whole)]
    assert drawn.dtype == torch.bfloat16
    assert torch.equal(drawn[0], expected[0])
    assert apart(drawn[1], expected[1]) <= 0.05 < 0.2 < apart(drawn[1], files.draw_unet(whole[0], 2)[1])


def test_one_graph_serves_every_choice_of_loras_of_one_depth(plain: UNet2DConditionModel, tmp_path: Path):
    changes = eight(plain)
    bank, network = bank_with(tmp_path, changes)
    block = network.down_blocks[0].attentions[0].transformer_blocks[0]
    block.compile(backend="eager", fullgraph=True)
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for name, change in changes.items():
        bank.use([files.line((name, 1.0)), files.line(("lora-0", 1.0))])
        expected = files.draw_unet(files.merged(plain, (change, 1.0)), 2)
        assert apart(files.draw_unet(network, 2)[0], expected[0]) <= CLOSE
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 1
    bank.use([files.line()] * 2)
    assert torch.equal(files.draw_unet(network, 2), files.draw_unet(plain, 2))
