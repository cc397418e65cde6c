"""A model larger than its device passes through it group by group, and draws what it draws when it is there whole."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers
from torch import nn

from tests.engine import engines, lora_files
from tests.engine.engines import BUILTIN, SKETCH, request
from tintype import settings
from tintype.engine import devices, families, loading, loras, residents, streaming, ticks
from tintype.engine.residents import Residents
from tintype.engine.scheduling.residency import Eviction, Place, Placement, Residency, Swap
from tintype.providers.contract import ProviderError

MIB = 1 << 20


def unet() -> nn.Module:
    return diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=16, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip


def flux() -> nn.Module:
    return diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip


def run_unet(network: nn.Module, device: str) -> torch.Tensor:
    sample, words = torch.ones(2, 4, 8, 8, device=device), torch.ones(2, 7, 16, device=device)
    return network(sample, torch.tensor([3.0, 9.0], device=device), words, return_dict=False)[0]


def run_flux(network: nn.Module, device: str) -> torch.Tensor:
    def ones(*shape: int) -> torch.Tensor:
        return torch.ones(shape, device=device)

    return network(
        hidden_states=ones(2, 16, 16), timestep=ones(2), guidance=ones(2), img_ids=ones(16, 3), txt_ids=ones(5, 3),
        encoder_hidden_states=ones(2, 5, 32), pooled_projections=ones(2, 16), return_dict=False,
    )[0]  # fmt: skip


def t5() -> nn.Module:
    return transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=3, num_heads=4)
    )


def run_t5(network: nn.Module, device: str) -> torch.Tensor:
    return network(torch.ones(1, 6, dtype=torch.long, device=device))[0]


def clip() -> nn.Module:
    return loading.components(BUILTIN, dtype=torch.float32, device="cpu")["text_encoder"]


def run_clip(network: nn.Module, device: str) -> torch.Tensor:
    return network(input_ids=torch.ones(1, 6, dtype=torch.long, device=device)).pooler_output


NETWORKS = {"unet": (unet, run_unet), "flux": (flux, run_flux), "t5": (t5, run_t5), "clip": (clip, run_clip)}


@pytest.mark.parametrize("name", NETWORKS)
def test_everything_that_computes_is_on_the_device_when_it_does(name: str):
    """The device is `meta`, which computes shapes only, and refuses tensors that are elsewhere."""
    make, run = NETWORKS[name]
    network = make().eval().requires_grad_(requires_grad=False)
    streaming.Streamed(network, "meta")
    network.to("meta")
    with torch.inference_mode():
        assert run(network, "meta").device.type == "meta"
    places = {tensor.device.type for group in network.modules() for tensor in group.parameters(recurse=False)}
    assert places == {"cpu"}
    assert streaming.device_of(network).type == "meta"


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_computed_is_the_same_to_the_bit(name: str):
    make, run = NETWORKS[name]
    torch.manual_seed(1)
    network = make().eval().requires_grad_(requires_grad=False)
    with torch.inference_mode():
        whole = run(network, "cpu")
        streamed = streaming.Streamed(network, "cpu")
        assert torch.equal(run(network, "cpu"), whole)
        streamed.end()
        assert torch.equal(run(network, "cpu"), whole)
    assert streaming.device_of(network).type == "cpu"
    network.to("meta")
    assert {tensor.device.type for tensor in network.parameters()} == {"meta"}


def test_a_streamed_network_stays_in_host_memory_wherever_it_is_moved():
    network = unet()
    streaming.Streamed(network, "meta")
    network.to("meta")
    network.to("cpu")
    network.to("meta")
    assert {tensor.device.type for tensor in network.parameters()} == {"cpu"}


def test_large_blocks_are_cut_into_their_own(monkeypatch: pytest.MonkeyPatch):
    sizes = {
        "conv_in.weight": 7, "down_blocks.0.resnets.0.weight": 60, "down_blocks.0.resnets.1.weight": 50,
        "down_blocks.0.gate": 5, "down_blocks.1.resnets.0.weight": 40, "time.linear_1.weight": 3, "table": 2,
        "embeddings.position_ids": 1, "embeddings.token.weight": 9,
    }  # fmt: skip
    small = {"": 3, "conv_in": 7, "down_blocks.1": 40, "time.linear_1": 3, "embeddings.token": 9}
    assert streaming.groups(sizes) == {**small, "down_blocks.0": 115}
    monkeypatch.setattr(streaming, "LARGEST_GROUP_BYTES", 100)
    cut = {"down_blocks.0.resnets.0": 60, "down_blocks.0.resnets.1": 50}
    assert streaming.groups(sizes) == {**small, **cut, "": 8}
    assert streaming.block_bytes({"unet": sizes, "vae": {"decoder.weight": 13}}) == 60 + (8 + 13 + 1) // 2


def test_an_outline_knows_the_groups_before_anything_is_loaded():
    outline = families.outline(SKETCH)
    parts = outline.load(devices.choose("cpu")).parts
    weights = {
        name: {key: tensor.nbytes for key, tensor in part.state_dict().items()}
        for name, part in parts.items()
        if isinstance(part, nn.Module)
    }
    assert outline.block_bytes == streaming.block_bytes(weights)
    assert 2 * outline.block_bytes < outline.weight_bytes / 2


def test_loras_that_come_later_travel_with_their_layers(tmp_path: Path):
    plain, network = lora_files.unet(), lora_files.unet()
    paths = ["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "conv_in"]
    changes = lora_files.changes_for(plain, paths, seed=3)
    streaming.Streamed(network, "cpu")
    bank = loras.Bank(network=network)
    bank.add("one", lora_files.save(tmp_path, "one", lora_files.kohya(changes)))
    bank.use([lora_files.line(("one", 1.0))])
    drawn = lora_files.draw_unet(network, 1)
    expected = lora_files.draw_unet(lora_files.merged(plain, (changes, 1.0)), 1)
    assert (drawn - expected).abs().max() <= 2e-5
    assert (drawn - lora_files.draw_unet(plain, 1)).abs().max() > 1e-3


def test_what_loras_add_is_computed_on_the_device(tmp_path: Path):
    network = lora_files.unet()
    paths = ["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "conv_in"]
    changes = lora_files.changes_for(network, paths, seed=3)
    streaming.Streamed(network, "meta")
    network.to("meta")
    bank = loras.Bank(network=network)
    bank.add("one", lora_files.save(tmp_path, "one", lora_files.kohya(changes)))
    assert bank.use([lora_files.line(("one", 1.0))]) == 1
    with torch.inference_mode():
        sample = torch.ones(1, 4, lora_files.SIDE, lora_files.SIDE, device="meta")
        words = torch.ones(1, 5, lora_files.WIDTH, device="meta")
        assert network(sample, torch.tensor([3.0], device="meta"), words).sample.device.type == "meta"


@pytest.fixture
def small_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Engines whose device is too small for the model, beside a large host; how small it is."""
    limit_bytes = 16 * MIB
    assert families.outline(SKETCH).weight_bytes > limit_bytes
    monkeypatch.setattr(
        residents,
        "measure",
        lambda device, configured: Residency(device_limit_bytes=configured or limit_bytes, host_limit_bytes=1 << 40),
    )
    return limit_bytes


def test_a_model_larger_than_the_device_draws_the_same_pictures(engine: engines.Engine, tmp_path: Path, small_device):
    wanted = request(seed_mode="strict", steps=3)
    expected = engine.draw(wanted)[0].pixels
    with engines.running(tmp_path) as small:
        drawn = small.draw(wanted)[0].pixels
        assert small.runner._residents._streamed.keys() == {"sketch"}
        assert small.runner._schedule.residency.device_bytes <= small_device
        assert small.runner._schedule.residency.place("sketch") is Place.DEVICE
    assert np.array_equal(drawn, expected)


def test_a_device_too_small_for_two_groups_is_refused_with_what_to_do(tmp_path: Path, small_device):
    with engines.running(tmp_path, memory_bytes=4 * MIB) as small:
        with pytest.raises(ProviderError, match="run a worker on a larger device") as caught:
            small.draw(request())
    assert caught.value.code == "out_of_memory"


def test_never_more_than_the_stated_bytes_are_on_the_device():
    outline = families.outline(SKETCH)
    loaded = outline.load(devices.choose("cpu"))
    streamed = dict.fromkeys(streaming.begin(loaded.parts, "cpu"), 0)
    staying = sum(tensor.nbytes for tensor in loaded.parts["vae"].parameters())
    for network in streamed:
        inside = {id(tensor) for group in network.groups.values() for tensor in group.module.parameters()}
        staying += sum(each.nbytes for each in network._network.parameters() if id(each) not in inside)
        for group in network.groups.values():
            group.module.register_forward_pre_hook(lambda *_, network=network: note(network))

    def note(network: streaming.Streamed) -> None:
        now = sum(group.bytes_there for group in network.groups.values())
        streamed[network] = max(streamed[network], now)

    with torch.inference_mode():
        drawing = loaded.begin(request(), 7)
        ticks.run(loaded, [drawing], padded_lines=2)
    assert all(most > 0 for most in streamed.values())
    assert staying + 2 * max(streamed.values()) <= 2 * outline.block_bytes


def test_a_model_changes_between_streamed_and_whole_and_is_put_aside_both_ways():
    device = devices.choose("cpu")
    models = Residents(device, Residency(device_limit_bytes=1 << 40, host_limit_bytes=1 << 40), settings.Engine())
    models.outline(SKETCH)
    aside = Swap(evict=(Eviction(model="sketch", to=Place.HOST),), load=None, placement=Placement.ON_DEVICE)
    drawn: list[torch.Tensor] = []
    for placement in (Placement.STREAMED, Placement.ON_DEVICE, Placement.STREAMED, None, Placement.STREAMED):
        if placement is None:
            models.perform(aside)
            continue
        models.perform(Swap(evict=(), load="sketch", placement=placement))
        assert bool(models._streamed) is (placement is Placement.STREAMED)
        with torch.inference_mode():
            drawing = models.get("sketch").begin(request(), 7)
            ticks.run(models.get("sketch"), [drawing], padded_lines=2)
        drawn.append(drawing.sampled.latents)
    assert all(torch.equal(drawn[0], other) for other in drawn)
    models.perform(Swap(evict=(Eviction(model="sketch", to=Place.DISK),), load=None, placement=Placement.ON_DEVICE))
    assert not models._streamed


def test_weights_that_cuda_puts_aside_are_locked_in_host_memory(monkeypatch: pytest.MonkeyPatch):
    locked: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: locked.append(tensor.nbytes) or tensor)
    sizes = Residency(device_limit_bytes=100 * MIB, host_limit_bytes=100 * MIB)
    models = Residents(devices.Device(name="cuda:0", dtype=torch.float32, label="a GPU"), sizes, settings.Engine())
    model = families.outline(SKETCH).load(devices.choose("cpu"))
    models._loaded["sketch"] = model
    models.perform(Swap(evict=(Eviction(model="sketch", to=Place.HOST),), load=None, placement=Placement.ON_DEVICE))
    networks = [part for part in model.parts.values() if isinstance(part, nn.Module)]
    tensors = [tensor for part in networks for tensor in (*part.parameters(), *part.buffers())]
    assert sum(locked) >= sum(tensor.nbytes for tensor in tensors) > 10 * MIB
    assert models.get("sketch") is model


class Clockwork:
    """Stands in for CUDA's streams and events, which are not here: it knows what was ordered, and does it at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits, self.synchronized, self.recorded = 0, 0, 0
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: self)
        monkeypatch.setattr(torch.cuda, "Event", lambda: self)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)

    def wait_stream(self, stream: object) -> None:
        self.waits += 1

    def record(self, stream: object) -> None:
        self.recorded += 1

    def synchronize(self) -> None:
        self.synchronized += 1


def test_the_next_block_of_a_list_arrives_while_one_computes(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(1)
    network = flux().eval().requires_grad_(requires_grad=False)
    with torch.inference_mode():
        expected = run_flux(network, "cpu")
    streamed = streaming.Streamed(network, "cpu")
    clockwork = Clockwork(monkeypatch)
    streamed._line.stream = clockwork
    ahead: set[str] = set()
    most_groups = 0

    def note(*_: object) -> None:
        nonlocal most_groups
        there = [path for path, group in streamed.groups.items() if group.bytes_there]
        most_groups = max(most_groups, len(there))
        ahead.update(path for path in there if streamed.groups[path]._arriving)

    for group in streamed.groups.values():
        group.module.register_forward_hook(note)
    with torch.inference_mode():
        assert torch.equal(run_flux(network, "cpu"), expected)
    assert ahead == {"transformer_blocks.1", "single_transformer_blocks.1"}
    assert most_groups <= 2
    assert clockwork.waits == clockwork.recorded
    assert clockwork.synchronized == clockwork.recorded - 1
    assert not any(group.bytes_there for group in streamed.groups.values())


def test_what_was_sent_for_and_is_not_wanted_is_let_go_of(monkeypatch: pytest.MonkeyPatch):
    network = flux().eval().requires_grad_(requires_grad=False)
    streamed = streaming.Streamed(network, "cpu")
    streamed._line.stream = Clockwork(monkeypatch)
    network.transformer_blocks[1].register_forward_pre_hook(fail, prepend=True)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="interrupted"):
        run_flux(network, "cpu")
    assert streamed.groups["transformer_blocks.1"].bytes_there
    with torch.inference_mode():
        network.x_embedder(torch.ones(1, 16))
    assert not any(group.bytes_there for group in streamed.groups.values())


def fail(*_: object) -> None:
    raise RuntimeError("interrupted")
