"""The engine's thread under use and under faults: nobody's request takes another's along."""

import functools
import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine import engines
from tests.engine.engines import SKETCH, Engine, request
from tintype import settings
from tintype.engine.families.sketch import Outline, Sketch
from tintype.engine.faults import DeviceBrokenError
from tintype.engine.job import Ended, Job
from tintype.engine.runner import Runner, StoppedError
from tintype.providers.contract import ModelFiles, Output, Progress, ProviderError


def test_progress_counts_every_evaluation_of_every_picture(engine: Engine):
    asked = engine.ask(request(seeds=(1, 2), steps=3))
    asked.outputs()
    seen = [item for item in asked.seen if isinstance(item, Progress)]
    assert [item.step for item in seen] == [0, 1, 2, 3, 4, 5, 6]
    assert {item.steps for item in seen} == {6}


def test_a_withdrawn_request_ends_at_the_next_tick_and_the_others_go_on(engine: Engine):
    long = engine.ask(request(steps=100, seeds=(1, 2)))
    other = engine.ask(request(steps=20, id="other", on_behalf_of="other"))
    long.until_step(3)
    engine.runner.withdraw(long.job)
    assert long.end().error is None
    steps = [item.step for item in long.seen if isinstance(item, Progress)]
    assert steps[-1] < 150
    assert not any(isinstance(item, Output) for item in long.seen)
    assert len(other.outputs()) == 1


class Fault:
    """Raises `error` at the call numbers `at` of a function, counted from 1."""

    def __init__(self, function: object, error: BaseException, at: set[int]) -> None:
        self.function, self.error, self.at, self.calls = function, error, at, 0
        self.refuses = lambda *args: False

    def __get__(self, holder: object, kind: type) -> object:
        return functools.partial(self, holder)

    def __call__(self, *args: object) -> object:
        self.calls += 1
        if self.calls in self.at or self.refuses(*args):
            raise self.error
        return self.function(*args)


@pytest.mark.parametrize("stage", ["load", "predict", "finish"])
@pytest.mark.parametrize("at", [{1}, {2}], ids=["at once", "later"])
def test_running_out_of_memory_once_costs_no_picture(fresh_engine, monkeypatch, stage: str, at: set[int]):
    expected = fresh_engine.draw(request(seed_mode="strict"))[0].pixels
    fresh_engine.draw(request(seeds=(8,)))
    holder = Outline if stage == "load" else Sketch
    fault = Fault(getattr(holder, stage), torch.OutOfMemoryError(), at)
    monkeypatch.setattr(holder, stage, fault)
    if stage == "load":
        fresh_engine.runner._inbox.put(lambda: drop_model(fresh_engine.runner))
    others = [fresh_engine.ask(request(id=f"{seed}", seeds=(seed,), on_behalf_of=f"{seed}")) for seed in range(3)]
    ours = fresh_engine.draw(request(seed_mode="strict"))[0].pixels
    assert np.array_equal(ours, expected)
    assert [len(other.outputs()) for other in others] == [1, 1, 1]
    assert fault.calls > max(at) or stage == "load"


def drop_model(runner: Runner) -> None:
    runner._schedule.residency.release("sketch")
    runner._residents.forget("sketch")


@pytest.mark.parametrize("stage", ["load", "predict", "finish"])
def test_running_out_of_memory_again_and_again_fails_with_a_code_and_the_engine_goes_on(
    fresh_engine, monkeypatch, stage: str
):
    holder = Outline if stage == "load" else Sketch
    fault = Fault(getattr(holder, stage), torch.OutOfMemoryError(), set(range(1, 50)))
    monkeypatch.setattr(holder, stage, fault)
    with pytest.raises(ProviderError) as caught:
        fresh_engine.draw(request())
    assert caught.value.code == "out_of_memory"
    assert fault.calls == 2
    monkeypatch.undo()
    assert fresh_engine.draw(request())


def test_a_second_shortage_while_room_is_made_for_decoding_ends_that_picture_only(fresh_engine, monkeypatch):
    fault = Fault(Sketch.finish, torch.OutOfMemoryError(), {1})
    monkeypatch.setattr(Sketch, "finish", fault)
    residents = fresh_engine.runner._residents
    monkeypatch.setattr(residents, "relieve", Fault(residents.relieve, torch.OutOfMemoryError(), {1}))
    with pytest.raises(ProviderError) as caught:
        fresh_engine.draw(request())
    assert caught.value.code == "out_of_memory"
    assert fresh_engine.draw(request()), "the engine goes on"


def test_a_model_that_is_broken_is_no_shortage(fresh_engine, monkeypatch):
    fresh_engine.runner._inbox.put(lambda: None)
    fault = Fault(Outline.load, RuntimeError("a tensor is missing"), {1})
    monkeypatch.setattr(Outline, "load", fault)
    with pytest.raises(RuntimeError, match="a tensor is missing"):
        fresh_engine.draw(request())
    assert not fresh_engine.runner._schedule._shortages.is_alone("sketch")
    assert fresh_engine.draw(request())


def test_a_model_that_is_replaced_in_place_is_known_by_its_new_files(fresh_engine, monkeypatch, tmp_path: Path):
    files = request().model
    copy = replace(files, id="copy", folder=str(shutil.copytree(files.folder, tmp_path / "copy")))
    residents, loads = fresh_engine.runner._residents, Fault(Outline.load, RuntimeError(), set())
    monkeypatch.setattr(Outline, "load", loads)
    for _ in range(2):
        fresh_engine.draw(request(model=copy))
    first = residents.outline(copy)
    os.utime(next((tmp_path / "copy").glob("*/config.json")), (1, 1))
    fresh_engine.draw(request(model=copy))
    assert loads.calls == 2
    assert residents.outline(copy) is not first


def test_a_picture_that_breaks_its_batch_ends_alone(fresh_engine, monkeypatch):
    fault = Fault(Sketch.predict, RuntimeError("mat1 and mat2 shapes cannot be multiplied"), set())
    fault.refuses = lambda model, lines: any(line.guidance_scale == 6.66 for line in lines)
    monkeypatch.setattr(Sketch, "predict", fault)
    others = [fresh_engine.ask(request(id=f"{seed}", seeds=(seed,), steps=30)) for seed in range(4)]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fresh_engine.draw(request(guidance_scale=6.66))
    assert [len(other.outputs()) for other in others] == [1, 1, 1, 1]


def test_a_picture_that_cannot_begin_ends_alone(fresh_engine):
    others = [fresh_engine.ask(request(id=f"{seed}", seeds=(seed,), steps=20)) for seed in range(3)]
    wrong = np.zeros((64, 64, 4), np.uint8)
    with pytest.raises(RuntimeError):
        fresh_engine.draw(request(task="image_to_image", source=wrong, strength=0.5))
    assert [len(other.outputs()) for other in others] == [1, 1, 1]


def test_a_broken_device_ends_everything_and_is_named_from_then_on(fresh_engine, monkeypatch):
    fault = Fault(Sketch.predict, torch.AcceleratorError("CUDA error: device-side assert triggered"), {3})
    monkeypatch.setattr(Sketch, "predict", fault)
    asked = [fresh_engine.ask(request(id=f"{seed}", seeds=(seed,), steps=30)) for seed in range(2)]
    for one in asked:
        with pytest.raises(DeviceBrokenError):
            one.outputs()
    assert "device-side assert" in fresh_engine.runner.breakdown


def test_a_model_with_broken_files_ends_its_own_requests_only(fresh_engine, tmp_path: Path):
    other = fresh_engine.ask(request(steps=20))
    broken = ModelFiles(id="broken", family="sketch", folder=str(tmp_path / "nothing"))
    with pytest.raises(ProviderError) as caught:
        fresh_engine.draw(request(model=broken))
    assert caught.value.code == "model_broken"
    assert len(other.outputs()) == 1


def test_a_model_of_a_class_nobody_has_ends_its_own_requests_only(fresh_engine, tmp_path: Path):
    other = fresh_engine.ask(request(steps=20))
    shutil.copytree(SKETCH.folder, tmp_path / "newer")
    index = tmp_path / "newer" / "model_index.json"
    index.write_text(index.read_text().replace("SD3Transformer2DModel", "SD9Transformer2DModel"))
    newer = ModelFiles(id="newer", family="sketch", folder=str(tmp_path / "newer"))
    with pytest.raises(ProviderError, match="SD9Transformer2DModel") as caught:
        fresh_engine.draw(request(model=newer))
    assert caught.value.code == "model_broken"
    assert len(other.outputs()) == 1


@pytest.mark.parametrize("is_prepared", [False, True], ids=["asked for", "prepared"])
def test_whatever_a_load_raises_leaves_the_engine_at_work(fresh_engine, monkeypatch, *, is_prepared: bool):
    monkeypatch.setattr(Outline, "load", Fault(Outline.load, ZeroDivisionError("odd"), {1}))
    if is_prepared:
        fresh_engine.runner.prepare(SKETCH)
    else:
        with pytest.raises(ZeroDivisionError):
            fresh_engine.draw(request())
    assert fresh_engine.draw(request())
    assert fresh_engine.runner.breakdown is None


def test_a_model_larger_than_the_device_is_refused_with_what_to_do(tmp_path: Path):
    with engines.running(tmp_path, memory_bytes=1 << 20) as engine:
        with pytest.raises(ProviderError, match="run a worker on a larger device"):
            engine.draw(request())


def test_a_prepared_model_is_loaded_before_it_is_asked_for(fresh_engine):
    fresh_engine.runner.prepare(SKETCH)
    deadline = time.monotonic() + 60
    while not fresh_engine.runner._residents._loaded:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert fresh_engine.draw(request())


def test_measured_costs_are_kept_for_the_next_start(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tintype.engine.runner.KEPT_EVERY_S", 0.0)
    with engines.running(tmp_path) as engine:
        engine.draw(request(steps=8))
        deadline = time.monotonic() + 60
        while not (files := list((tmp_path / "engine").glob("costs-*.json"))):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    kept = json.loads(files[0].read_text())
    assert {row["shape"] for row in kept["evaluations"]} == {"64x64"}
    again = Runner(settings.Engine(device="cpu", threads=1), tmp_path)
    assert again._costs.is_known("sketch", "64x64", 2)


def test_costs_that_cannot_be_read_are_measured_anew(tmp_path: Path):
    with engines.running(tmp_path) as engine:
        engine.draw(request())
    path = next(iter((tmp_path / "engine").glob("*")), tmp_path / "engine" / "costs-cpu-2-cores.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"evaluations": 7}')
    with engines.running(tmp_path) as engine:
        assert engine.draw(request())


def test_an_engine_that_is_closed_tells_those_who_wait(tmp_path: Path):
    with engines.running(tmp_path) as engine:
        asked = engine.ask(request(steps=100, seeds=(1, 2, 3)))
        asked.until_step(2)
    with pytest.raises(StoppedError):
        asked.outputs()


def test_a_loop_that_breaks_says_so_to_everybody(tmp_path: Path, monkeypatch):
    runner = Runner(settings.Engine(device="cpu", threads=1), tmp_path)
    given: list[object] = []
    monkeypatch.setattr(runner._schedule, "next", lambda: 1 / 0)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    thread = threading.Thread(target=runner.serve)
    thread.start()
    runner.submit(Job(request=request(), give=given.append))
    thread.join(timeout=30)
    assert isinstance(given[-1], Ended)
    assert given[-1].error.code == "engine_stopped"
    assert "ZeroDivisionError" in runner.breakdown
