"""The kernel of attention and whether projections are joined: measured, kept and told; results are the same."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend

from tests.engine import engines
from tintype.engine import attention, costs_file, devices
from tintype.engine.attention import KernelMissingError, Way
from tintype.engine.devices import Device

CPU = Device(name="cpu", dtype=torch.float32, label="cpu")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    attention.use(Way(kernel=attention.USUAL, is_joined=False, seconds={}))


def measured(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> Way:
    """What is chosen where work takes so long: kernels in their order, then projections apart and joined."""
    took = iter(seconds.values())
    monkeypatch.setattr(attention, "_least_s", lambda work, device: next(took))
    return attention.measure(CPU)


def test_the_usual_way_stays_unless_another_is_a_tenth_faster(monkeypatch: pytest.MonkeyPatch):
    near = measured(monkeypatch, flash=1.0, math=0.95, apart=1.0, joined=0.95)
    assert (near.kernel, near.is_joined) == ("flash", False)
    far = measured(monkeypatch, flash=1.0, math=0.8, apart=1.0, joined=0.8)
    assert (far.kernel, far.is_joined) == ("math", True)
    assert far.label(CPU) == "cpu, math attention, joined projections"
    assert near.label(CPU) == "cpu"


def test_a_kernel_that_the_device_refuses_is_no_candidate(monkeypatch: pytest.MonkeyPatch):
    attend = functional.scaled_dot_product_attention

    def refuse(*heads: torch.Tensor) -> torch.Tensor:
        if torch.backends.cuda.flash_sdp_enabled():
            raise RuntimeError("No available kernel")
        return attend(*heads)

    monkeypatch.setattr(attention.functional, "scaled_dot_product_attention", refuse)
    assert attention.measure(CPU).kernel == "math"
    with pytest.raises(KernelMissingError, match="use auto or math"):
        attention.choose(CPU, "flash", None)


def test_a_kernel_for_other_devices_is_refused_with_those_there_are():
    with pytest.raises(
        KernelMissingError, match=r"TINTYPE_ENGINE_ATTENTION=cudnn: cpu has no such kernel; use auto or flash"
    ):
        attention.choose(CPU, "cudnn", None)


def test_what_is_chosen_computes_in_the_whole_process():
    heads = torch.rand(2, 3, 9, 8)

    def called(kernel: str) -> set[str]:
        attention.use(Way(kernel=kernel, is_joined=False, seconds={}))
        with torch.profiler.profile() as seen:
            functional.scaled_dot_product_attention(heads, heads, heads)
        return {event.name for event in seen.events() or ()}

    assert any("flash" in name for name in called("flash"))
    assert not any("flash" in name for name in called("math"))
    assert any("flash" in name for name in called("flash"))


@pytest.mark.parametrize("kernel", attention.KERNELS)
def test_what_the_chosen_kernel_cannot_do_others_do(kernel: str):
    heads, hidden = torch.rand(1, 2, 5, 8), torch.tensor([[True, True, False, True, True]])
    attention.use(Way(kernel=kernel, is_joined=False, seconds={}))
    found = functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=hidden)
    weights = torch.softmax((heads @ heads.transpose(-1, -2) * 8**-0.5).masked_fill(~hidden, float("-inf")), dim=-1)
    assert torch.allclose(found, weights @ heads, atol=1e-6)
    assert SDPBackend.MATH in attention.KERNELS.values()


def test_the_way_is_kept_with_the_costs_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tintype.engine.runner.KEPT_EVERY_S", 0.0)
    with engines.running(tmp_path) as engine:
        engine.draw(engines.request(steps=2))
        engine.draw(engines.request(steps=2))
        (note,) = [note for note in engine.runner.notes if note.startswith("attention by")]
    path = costs_file.path(tmp_path, devices.choose("cpu").label)
    kept = costs_file.read_way(path)
    assert kept is not None
    assert kept.describe() == note
    forced = json.loads(path.read_text())
    forced["attention"] |= {"kernel": "math", "is_joined": True}
    path.write_text(json.dumps(forced))
    with engines.running(tmp_path) as engine:
        assert engine.runner.device.label.endswith(", math attention, joined projections")
        assert engine.runner.device.joins_projections


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept["attention"].update(library="0.1"),
        lambda kept: kept["attention"].update(kernel="none"),
        lambda kept: kept["attention"].pop("seconds"),
        lambda kept: kept.pop("attention"),
        lambda kept: kept.update(attention=[]),
    ],
)
def test_what_cannot_be_read_or_was_measured_with_another_library_is_measured_anew(
    tmp_path: Path, damage: Callable[[dict], object]
):
    kept = {"attention": Way(kernel="math", is_joined=True, seconds={"flash": 2.0, "math": 1.0}).dump()}
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(kept))
    assert costs_file.read_way(path) == attention.restore(kept["attention"])
    damage(kept)
    path.write_text(json.dumps(kept))
    assert costs_file.read_way(path) is None


def test_a_cpu_stays_with_the_usual_way_unless_it_is_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    measured = Way(kernel="math", is_joined=True, seconds={"flash": 2.0, "math": 1.0})
    monkeypatch.setattr(attention, "measure", lambda _device: measured)
    chosen = attention.choose(CPU, "auto", None)
    assert (chosen.kernel, chosen.is_joined) == ("flash", False)
    assert attention.choose(CPU, "math", None).kernel == "math"
