"""The engine and the detectors share one process, and libraries that load one model at a time."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.detectors import folders
from tests.engine.parity import dit_models
from tintype.detectors import loading as detectors
from tintype.engine import loading as engine
from tintype.inference import turns

ROUNDS = 12
"""Without turns one of so many fails nearly always: one thread makes modules while the other has weights put off."""


@pytest.fixture(scope="module")
def loads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[], object]]:
    """Loads a model for the engine, and a detector."""
    folder = tmp_path_factory.mktemp("models")
    model = dit_models.build(folder, "z_image")
    manifest = folders.classifier(folder / "detector")
    return {
        "engine": lambda: engine.components(model, dtype=torch.float32, device="cpu"),
        "detectors": lambda: detectors.load(folder / "detector", manifest, "cpu"),
    }


def test_both_load_at_once_and_every_model_has_its_weights(loads: dict[str, Callable[[], object]]):
    with ThreadPoolExecutor(4) as threads:
        loading = [threads.submit(load) for _ in range(ROUNDS) for load in loads.values()]
        loaded = [each.result() for each in loading]
    for components in loaded[::2]:
        weights = [*components["transformer"].parameters(), *components["text_encoder"].parameters()]
        assert {weight.device.type for weight in weights} == {"cpu"}
    red = folders.plain(32, 32, folders.RED)
    assert len({tuple(detector.score_image(red).values()) for detector in loaded[1::2]}) == 1


@pytest.mark.parametrize("who", ["engine", "detectors"])
def test_who_loads_waits_for_the_other(loads: dict[str, Callable[[], object]], who: str):
    done = threading.Event()
    with turns.ONE_MODEL_AT_A_TIME:
        waiting = threading.Thread(target=lambda: (loads[who](), done.set()))
        waiting.start()
        assert not done.wait(1.0)
    waiting.join(60)
    assert done.is_set()
