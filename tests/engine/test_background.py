"""Backgrounds are removed by networks in ONNX, beside the ticks: colours stay, alpha says what is foreground."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.engine.engines import Asked, Engine, request
from tintype.engine import loading
from tintype.engine.families import background
from tintype.engine.family import Drawing, RequestUnsuitableError
from tintype.engine.onnx_network import NetworkFailedError, OnnxNetwork
from tintype.providers.contract import GenerationRequest, ModelFiles, Output, Progress

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PLAIN = {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}


def install(
    folder: Path, *, side: int | str = 32, config: dict[str, Any] | None = None, gain: float = 1.0, name: str = ""
) -> ModelFiles:
    """A remover whose foreground is what is redder than it is blue, `gain` times as sure."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.array([gain, 0, -gain], np.float32).reshape(1, 3, 1, 1)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["picture", "weights"], ["map"])],
        "remover",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 1, side, side])],
        [numpy_helper.from_array(weights, "weights")],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (folder / "model.onnx").write_bytes(built.SerializeToString())
    values = {"size": {"height": 32, "width": 32}, **PLAIN} if config is None else config
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    return ModelFiles(id=name or str(folder), family="background", folder=str(folder))


def removing(model: ModelFiles, source: np.ndarray, **changes: object) -> GenerationRequest:
    """As the API asks."""
    height, width = source.shape[:2]
    values = {"prompt": "", "steps": 1, "guidance_scale": 0.0, "sampler": "", "seeds": (0,)}
    size = {"width": width, "height": height}
    return request(task="remove_background", model=model, source=source, **{**values, **size, **changes})


def red_on_blue(height: int = 60, width: int = 90) -> np.ndarray:
    picture = np.full((height, width, 3), (10, 20, 250), np.uint8)
    picture[height // 4 : -height // 4, width // 3 : -width // 3] = (250, 30, 10)
    return picture


@pytest.mark.parametrize("side", [32, "side"])
@pytest.mark.parametrize(
    ("answers", "gain"), [("shares", 1.0), ("logits", 30.0), ("stretched", 0.3)], ids=["shares", "logits", "stretched"]
)
def test_foreground_becomes_opaque_and_colours_stay(
    tmp_path: Path, engine: Engine, side: int | str, answers: str, gain: float
):
    config = {"size": {"height": 32, "width": 32}, "answers": answers, **PLAIN}
    model = install(tmp_path, side=side, config=config, gain=gain)
    source = red_on_blue()
    asked = engine.ask(removing(model, source))
    output = asked.outputs()[0]
    assert np.array_equal(output.pixels, source)
    assert output.alpha is not None
    assert output.alpha.shape == source.shape[:2]
    assert output.alpha.dtype == np.uint8
    assert output.alpha[22:38, 38:52].min() > 230
    assert max(output.alpha[:8].max(), output.alpha[:, :20].max(), output.alpha[-8:].max()) < 20
    assert [item.step for item in asked.seen if isinstance(item, Progress)] == [0, 1]


def test_pixels_are_read_as_the_file_beside_the_network_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[np.ndarray] = []
    run = OnnxNetwork.run
    monkeypatch.setattr(OnnxNetwork, "run", lambda self, picture: seen.append(picture) or run(self, picture))
    model = install(tmp_path, side="side", config={"size": 16, **IMAGENET})
    loaded = background.outline(model).load(None)  # pyright: ignore[reportArgumentType]
    source = np.full((40, 50, 3), (255, 0, 102), np.uint8)
    wanted = removing(model, source)
    loaded.finish(loaded.begin(wanted, 0), wanted)
    assert seen[0].shape == (1, 3, 16, 16)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.4 - 0.406) / 0.225]
    assert np.allclose(seen[0][0, :, 5, 5], expected, atol=1e-5)


def test_a_picture_without_foreground_is_not_stretched_into_one(tmp_path: Path, engine: Engine):
    model = install(tmp_path, config={"size": 32, "answers": "stretched", **PLAIN})
    noise = np.random.default_rng(1).integers(0, 4, (40, 40, 1), dtype=np.uint8)
    output = engine.draw(removing(model, np.repeat(noise, 3, axis=2)))[0]
    assert output.alpha is not None
    assert output.alpha.max() < 20


def test_a_network_that_thinks_long_keeps_no_picture_waiting(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """It is held back here until a drawing that was asked for later is complete."""
    go_on, running, most = threading.Event(), [], []
    finish = background.Remover.finish

    def wait(remover: background.Remover, drawing: Drawing, wanted: GenerationRequest) -> np.ndarray:
        running.append(wanted.id)
        most.append(len(running))
        assert go_on.wait(60)
        running.remove(wanted.id)
        return finish(remover, drawing, wanted)

    monkeypatch.setattr(background.Remover, "finish", wait)
    model = install(tmp_path)
    removals: list[Asked] = [engine.ask(removing(model, red_on_blue(), id=f"{n}")) for n in range(3)]
    assert len(engine.draw(request(steps=6))) == 1
    assert not any(isinstance(item, Output) for asked in removals for item in asked.seen)
    go_on.set()
    assert all(len(asked.outputs()) == 1 for asked in removals)
    assert max(most) == 1


def test_a_remover_draws_nothing(tmp_path: Path, engine: Engine):
    with pytest.raises(RequestUnsuitableError, match="only removes backgrounds"):
        engine.draw(request(model=install(tmp_path)))


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"size": 32, "image_std": [0, 1, 1]}, "deviations above 0"),
        ({"size": 32, "answers": "maybe"}, "shares, logits, stretched"),
        ({"size": {"height": "tall"}}, "does not say how pictures are read"),
        ({"size": 64}, r"not one float picture \[1, 3, 64, 64\]"),
    ],
)
def test_a_description_that_cannot_be_is_named(tmp_path: Path, engine: Engine, config: dict[str, Any], what: str):
    with pytest.raises(loading.ModelBrokenError, match=what):
        engine.draw(removing(install(tmp_path, config=config), red_on_blue()))


def test_damaged_missing_and_unfit_networks_are_named(tmp_path: Path, engine: Engine):
    model = install(tmp_path / "damaged")
    (tmp_path / "damaged" / "model.onnx").write_bytes(b"no network")
    with pytest.raises(loading.ModelBrokenError, match="cannot be opened"):
        engine.draw(removing(model, red_on_blue()))
    model = install(tmp_path / "missing")
    (tmp_path / "missing" / "model.onnx").unlink()
    with pytest.raises(loading.ModelBrokenError, match="holds 0 files"):
        engine.draw(removing(model, red_on_blue()))
    model = install(tmp_path / "wild", gain=float("inf"))
    with pytest.raises(NetworkFailedError, match="not one finite map"):
        engine.draw(removing(model, red_on_blue()))


def test_the_stand_in_is_a_network_that_onnx_itself_accepts(tmp_path: Path):
    install(tmp_path)
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)
