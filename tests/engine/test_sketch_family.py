"""The engine draws what plain diffusers draws, and keeps its word on seeds, memory and files."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.sketch import sampling
from tintype.engine import devices, loading
from tintype.engine.families.sketch import Sketch
from tintype.engine.faults import OutOfMemoryError
from tintype.engine.runner import Runner
from tintype.providers.contract import GenerationRequest, ModelFiles, Output, Progress, ProviderError

BUILTIN = Path(__file__).parents[2] / "tintype" / "catalog" / "builtin" / "sketch"
FILES = ModelFiles(id="sketch", family="sketch", folder=str(BUILTIN))


def request(**changes: object) -> GenerationRequest:
    values: dict[str, object] = {
        "id": "one",
        "task": "text_to_image",
        "model": FILES,
        "prompt": "a red circle on a blue background",
        "negative_prompt": "",
        "width": 128,
        "height": 128,
        "seeds": (7,),
        "steps": 6,
        "guidance_scale": 3.0,
        "sampler": "euler",
    }
    return GenerationRequest(**{**values, **changes})


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(device="cpu", threads=1)


def outputs(runner: Runner, wanted: GenerationRequest) -> list[Output]:
    return [item for item in runner.run(wanted, threading.Event()) if isinstance(item, Output)]


@pytest.mark.parametrize(("width", "height", "guidance"), [(128, 128, 3.0), (64, 96, 1.0), (256, 128, 5.0)])
def test_the_engine_draws_what_plain_diffusers_draws(runner: Runner, width: int, height: int, guidance: float):
    ours = outputs(runner, request(width=width, height=height, guidance_scale=guidance))[0].pixels
    plain = sampling.sample(
        sampling.load(BUILTIN), [request().prompt], [7], steps=6, guidance=guidance, width=width, height=height
    )[0]
    assert ours.shape == (height, width, 3)
    assert np.abs(ours.astype(int) - plain.astype(int)).max() <= 1


def test_a_picture_depends_on_its_own_seed_only(runner: Runner):
    together = outputs(runner, request(seeds=(1, 2, 3)))
    alone = outputs(runner, request(seeds=(2,)))
    assert [item.seed for item in together] == [1, 2, 3]
    assert np.array_equal(together[1].pixels, alone[0].pixels)
    assert not np.array_equal(together[0].pixels, together[1].pixels)


def test_progress_counts_every_evaluation_of_every_picture(runner: Runner):
    seen = [
        item for item in runner.run(request(seeds=(1, 2), steps=3), threading.Event()) if isinstance(item, Progress)
    ]
    assert [item.step for item in seen] == [0, 1, 2, 3, 4, 5, 6]
    assert {item.steps for item in seen} == {6}


def test_a_stop_takes_effect_before_the_next_step(runner: Runner):
    stop = threading.Event()
    seen: list[object] = []
    for item in runner.run(request(steps=50), stop):
        seen.append(item)
        if isinstance(item, Progress) and item.step == 3:
            stop.set()
    assert isinstance(seen[-1], Progress)
    assert seen[-1].step == 3


def test_after_running_out_of_memory_once_each_picture_is_still_made_once(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
):
    expected = outputs(runner, request())[0].pixels
    advance, calls = Sketch.advance, 0

    def scarce(self: Sketch, drawing: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise torch.OutOfMemoryError
        advance(self, drawing)

    monkeypatch.setattr(Sketch, "advance", scarce)
    made = outputs(runner, request(seeds=(6, 7)))
    assert [item.index for item in made] == [0, 1]
    assert np.array_equal(made[1].pixels, expected)


def test_running_out_of_memory_twice_fails_with_a_code(runner: Runner, monkeypatch: pytest.MonkeyPatch):
    def scarce(self: Sketch, drawing: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Sketch, "advance", scarce)
    with pytest.raises(OutOfMemoryError) as caught:
        outputs(runner, request())
    assert caught.value.code == "out_of_memory"
    monkeypatch.undo()
    assert outputs(runner, request())


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
