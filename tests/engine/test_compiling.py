"""Networks are compiled beside the steps: nobody waits, nothing changes but the time."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.engine import engines, lora_files
from tests.engine.engines import Engine, request
from tests.engine.test_streaming import flux, run_flux
from tintype import settings
from tintype.engine import compiling, devices, loras, streaming
from tintype.engine.compiling import CompiledModel
from tintype.engine.family import Line

CPU = devices.choose("cpu")


def line(value: float, side: int = 4) -> Line:
    return Line(sample=torch.full((1, 16, side * side), value), timestep=0.5, words={})


@dataclass
class Flux:
    """As much of a loaded model as is compiled: a tiny real network, its lines' samples as tokens."""

    network: nn.Module = field(default_factory=lambda: flux().eval().requires_grad_(requires_grad=False))
    built_in: object = None
    moved_to: str = ""

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"transformer": self.network}

    def form(self, lines: Sequence[Line]) -> object:
        return self.built_in

    def predict(self, lines: Sequence[Line]) -> Tensor:
        return torch.cat([run_flux(self.network, "cpu") * each.sample.mean() for each in lines[:1]])

    def move(self, device_name: str) -> None:
        self.moved_to = device_name


@pytest.fixture
def model() -> Flux:
    torch.manual_seed(1)
    return Flux()


def until(is_so: Callable[[], bool], longest_s: float = 40) -> None:
    deadline = time.monotonic() + longest_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@torch.inference_mode()
def meet(compiled: CompiledModel, lines: Sequence[Line], times: int = compiling.MET_BEFORE) -> list[Tensor]:
    return [compiled.predict(lines) for _ in range(times)]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.back = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.back(nn.functional.gelu(self.wide(hidden)))


class Stack(nn.Sequential):
    """As little as the real compiler can be shown in a short time."""

    _repeated_blocks = ("Block",)


class Stacked(Flux):
    def predict(self, lines: Sequence[Line]) -> Tensor:
        return self.network(torch.cat([each.sample[:, 0] for each in lines]))


def test_compiled_blocks_say_what_written_ones_say_and_are_compiled_once():
    torch.manual_seed(1)
    model = Stacked(Stack(nn.Linear(16, 16), Block(), Block(), Block()).requires_grad_(requires_grad=False))
    lines = [line(1.0), line(0.5)]
    with torch.inference_mode():
        written = model.predict(lines)
    compiled = CompiledModel(model, model.network, CPU)
    assert len(compiled._blocks) == 3
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert all(torch.equal(said, written) for said in meet(compiled, lines))
    until(lambda: compiled._work is None, 300)
    assert len(compiled._ready) == 1
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs + 1
    other = [line(0.7), line(0.1)]
    with torch.inference_mode():
        written_of_other = model.predict(other)
    with torch._dynamo.config.patch(error_on_recompile=True):
        assert all((said - written).abs().max() <= 1e-5 for said in meet(compiled, lines))
        assert all((said - written_of_other).abs().max() <= 1e-5 for said in meet(compiled, other))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs + 1


class Slow:
    """A compiler that waits until it is let go on."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.asked = threading.Event()
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        self.asked.set()
        assert self.may_go_on.wait(60)
        self.graphs += 1
        return graph.forward


def test_steps_do_not_wait_for_the_compiler(model: Flux):
    slow = Slow()
    torch._dynamo.reset()
    compiled = CompiledModel(model, model.network, CPU, backend=slow)
    expected = meet(compiled, [line(1.0)])[0]
    assert slow.asked.wait(60)
    for said in meet(compiled, [line(1.0)], 5):
        assert torch.equal(said, expected)
    assert not compiled._ready
    assert not compiled._switch.is_on
    slow.may_go_on.set()
    until(lambda: bool(compiled._ready))
    assert slow.graphs == 3  # one for each class, and one for a block whose input lies otherwise in memory
    assert torch.allclose(meet(compiled, [line(1.0)])[0], expected)


def test_each_form_is_compiled_for_itself(model: Flux):
    compiled = CompiledModel(model, model.network, CPU, backend="eager")
    meet(compiled, [line(1.0)])
    until(lambda: len(compiled._ready) == 1)
    other = [line(1.0), line(1.0)]
    meet(compiled, other, 1)
    assert len(compiled._ready) == 1
    meet(compiled, other)
    until(lambda: len(compiled._ready) == 2)
    model.built_in = "a LoRA"
    meet(compiled, other)
    until(lambda: len(compiled._ready) == 3)


def test_what_cannot_be_compiled_runs_as_it_is_written_and_is_not_tried_again(model: Flux):
    tries = []

    def refuse(graph: object, inputs: object) -> object:
        tries.append(graph)
        raise RuntimeError("no compiler here")

    torch._dynamo.reset()
    compiled = CompiledModel(model, model.network, CPU, backend=refuse)
    expected = meet(compiled, [line(1.0)])[0]
    until(lambda: compiled._work is None)
    assert all(torch.equal(said, expected) for said in meet(compiled, [line(1.0)], 8))
    assert len(tries) == 1
    assert not compiled._ready


def test_a_model_is_moved_once_the_block_in_work_is_compiled_and_the_rest_is_given_up(model: Flux):
    slow = Slow()
    torch._dynamo.reset()
    compiled = CompiledModel(model, model.network, CPU, backend=slow)
    meet(compiled, [line(1.0)])
    assert slow.asked.wait(60)
    mover = threading.Thread(target=compiled.move, args=("cpu",))
    mover.start()
    time.sleep(0.2)
    assert not model.moved_to
    slow.may_go_on.set()
    mover.join(timeout=60)
    assert model.moved_to == "cpu"
    until(lambda: compiled._work is None)
    assert slow.graphs == 1
    assert not compiled._ready


def test_a_streamed_network_is_not_compiled(model: Flux):
    compiled = CompiledModel(model, model.network, CPU, backend="eager")
    streamed = streaming.Streamed(model.network, "cpu")
    meet(compiled, [line(1.0)], 6)
    assert compiled._work is None
    streamed.end()
    meet(compiled, [line(1.0)])
    until(lambda: len(compiled._ready) == 1)


def test_compiled_blocks_obey_loras_that_come_later(tmp_path: Path):
    network, plain = lora_files.unet(), lora_files.unet()
    changes = lora_files.changes_for(plain, ["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"], seed=3)
    bank = loras.Bank(network=network)

    class Drawn(Flux):
        def form(self, lines: Sequence[Line]) -> object:
            return bank.use(lines), bank.version

        def predict(self, lines: Sequence[Line]) -> Tensor:
            bank.use(lines)
            return lora_files.draw_unet(self.network, len(lines))

    compiled = CompiledModel(Drawn(network), network, CPU, backend="eager")
    without = [lora_files.line()]
    assert torch.equal(meet(compiled, without)[0], lora_files.draw_unet(plain, 1))
    until(lambda: len(compiled._ready) == 1)
    bank.add("one", lora_files.save(tmp_path, "one", lora_files.kohya(changes)))
    with_one = [lora_files.line(("one", 1.0))]
    expected = lora_files.draw_unet(lora_files.merged(plain, (changes, 1.0)), 1)
    for _ in range(2):
        assert (meet(compiled, with_one)[-1] - expected).abs().max() <= 2e-5
        until(lambda: compiled._work is None)
    assert len(compiled._ready) == 2


def test_the_engine_draws_the_same_picture_compiled(engine: Engine, tmp_path: Path, monkeypatch):
    expected = engine.draw(request(steps=12))[0].pixels.astype(int)
    made: list[CompiledModel] = []

    def make(*args: object) -> CompiledModel:
        made.append(CompiledModel(*args, backend="eager"))
        return made[-1]

    monkeypatch.setattr(compiling, "CompiledModel", make)
    with engines.running(tmp_path, compile="on") as compiling_engine:
        compiling_engine.draw(request(steps=12))
        until(lambda: bool(made[0]._ready))
        drawn = compiling_engine.draw(request(steps=12))[0].pixels
    assert np.abs(drawn - expected).max() <= 1


def test_a_promise_of_bits_is_kept_whatever_is_compiled_meanwhile(tmp_path: Path, monkeypatch):
    made: list[CompiledModel] = []

    def off_by_a_little(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        return lambda *given: [said * 1.05 for said in graph.forward(*given)]

    def make(*args: object) -> CompiledModel:
        made.append(CompiledModel(*args, backend=off_by_a_little))
        return made[-1]

    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "CompiledModel", make)
    with engines.running(tmp_path, compile="on") as engine:
        fast, strict = request(steps=12), request(steps=12, seed_mode="strict")
        first = [engine.draw(wanted)[0].pixels for wanted in (fast, strict)]
        until(lambda: bool(made[0]._ready))
        again = [engine.draw(wanted)[0].pixels for wanted in (fast, strict)]
    assert not np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


@pytest.mark.parametrize(
    ("compile_", "name", "is_compiled"),
    [("auto", "cpu", False), ("auto", "cuda:0", True), ("on", "cpu", True), ("off", "cuda:0", False)],
)
def test_networks_are_compiled_on_cuda_or_where_asked_for(model: Flux, compile_: str, name: str, is_compiled: bool):
    device = devices.Device(name=name, dtype=torch.float32, label=name)
    wrapped = compiling.wrap(model, device, settings.Engine(compile=compile_))
    assert isinstance(wrapped, CompiledModel) is is_compiled
