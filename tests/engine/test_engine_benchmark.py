"""The benchmark of the engine lets its contestants draw the same pictures, and counts rightly."""

import json
import threading
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import engine_comfy, engine_duels, engine_models, engine_report, engine_traces, engine_utilisation
from benchmarks.engine_contestants import Diffusers, FirstComeFirstServed, OneAtATime, Ours
from benchmarks.engine_duels import Duel
from benchmarks.engine_models import XlSize

SMALL = XlSize(
    channels=(64, 128),
    transformers=(1, 2),
    clip=(64, 2),
    open_clip=(64, 2),
    autoencoder=(32, 32, 32, 32),
    dtype=torch.float32,
)
MOST_PIXELS = 2


@pytest.fixture
def ours(tmp_path: Path) -> Generator[Ours]:
    contestant = Ours(tmp_path / "home", threads=1)
    yield contestant
    contestant.runner.close()


def test_a_duel_on_the_real_architecture_made_small_draws_equal_pictures(ours: Ours, tmp_path: Path):
    folder = engine_models.write_sdxl(tmp_path / "sdxl", size=SMALL)
    model = engine_traces.model(folder, family=engine_models.FAMILIES["sdxl"])
    asked = engine_traces.uniform(model, count=2, side=64, steps=2)
    theirs = Diffusers("cpu", torch.float32, threads=1)
    figure = engine_duels.fight(Duel(name="small", asked=asked, clients=2, first=ours, second=theirs), 1)
    figure = engine_utilisation.add(figure, asked[0], ours.runner.device, peak_flops=1e15)
    assert figure["pixels_apart"] <= MOST_PIXELS
    assert len(figure["ratios"]) == 2
    assert set(figure["contestants"]) == set(figure["utilisation"]) == {"tintype", "diffusers"}
    assert all(0 < share < 1 for share in figure["utilisation"].values())
    assert "pixels" in engine_report.line(json.loads(json.dumps(figure)), goals={"small": 1.0})


def test_the_real_architecture_takes_the_operations_that_are_known_of_it(tmp_path: Path):
    with torch.device("meta"):
        engine_models.xl_unet(engine_models.PUBLISHED).save_config(tmp_path / "unet")
    assert 2 * engine_utilisation.denoiser_flops(tmp_path, 1024) == pytest.approx(13.5e12, rel=0.01)


def test_the_engine_one_at_a_time_draws_what_it_draws_in_company(ours: Ours, tmp_path: Path):
    model = engine_traces.model(engine_models.write_tiny(tmp_path / "tiny"))
    trace = engine_traces.uniform(model, count=4, side=64, steps=3)
    crowd = Duel(name="crowd", asked=trace, clients=4, first=ours, second=OneAtATime(ours))
    alone, together = (contestant.draw(trace[0].request) for contestant in (crowd.second, crowd.first))
    assert np.array_equal(alone, together)
    assert engine_duels.fight(crowd, 1)["pixels_apart"] == 0


def test_a_line_keeps_the_order_in_which_people_came():
    line, served, is_free = FirstComeFirstServed(), list[int](), threading.Event()

    def work(index: int) -> np.ndarray:
        is_free.wait(10)
        served.append(index)
        return np.zeros(1)

    threads = [threading.Thread(target=line.run, args=(partial(work, index),)) for index in range(5)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    is_free.set()
    for thread in threads:
        thread.join()
    assert served == list(range(5))


@pytest.mark.parametrize(("share", "value"), [(50, 10), (95, 19), (99, 20), (100, 20)])
def test_percentiles_are_values_that_were_seen(share: int, value: int):
    assert engine_report.percentile(list(range(1, 21)), share) == value


def test_chance_arrivals_keep_their_mean_rate():
    trace = engine_traces.uniform(engine_traces.model(Path("a/b")), count=400, side=64, steps=1)
    at_s = [one.at_s for one in engine_traces.as_poisson(trace, per_s=2.0, seed=1)]
    assert at_s == sorted(at_s)
    assert at_s[-1] == pytest.approx(200, rel=0.2)


def test_a_workflow_names_every_value_of_the_request():
    request = engine_traces.request(engine_traces.model(Path("a/b")), 3, side=64, steps=8)
    nodes = engine_comfy.workflow(request, "some.safetensors")
    inputs = {name: value for node in nodes.values() for name, value in node["inputs"].items()}
    assert (inputs["seed"], inputs["steps"], inputs["cfg"]) == (3, 8, 5.0)
    links = [value for value in inputs.values() if isinstance(value, list)]
    assert all(link[0] in nodes for link in links)
    texts = [node["inputs"]["text"] for node in nodes.values() if node["class_type"] == "CLIPTextEncode"]
    assert texts == [request.prompt, request.negative_prompt]
