"""Whole requests for models around UNets, through the engine with its schedule, threads and memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.engine import engines
from tests.engine.parity import harness
from tests.engine.parity.unet_cases import SD, SIDE, XL, files, mask, photograph
from tests.engine.test_preprocessing import install_estimator
from tintype.engine import families, preprocessing, ticks
from tintype.engine.family import RequestUnsuitableError
from tintype.engine.loading import ModelBrokenError
from tintype.engine.preprocessing import ControlNotReadyError
from tintype.engine.style_adapter import StyleAdapterMissingError
from tintype.providers.contract import (
    Control,
    ControlType,
    GenerationRequest,
    Hires,
    ModelFiles,
    Output,
    Progress,
    ProviderError,
    Refiner,
)


def request(unets: Path, family: str, **changes: object) -> GenerationRequest:
    model = files(unets, family, family)
    usual = {"model": model, "width": SIDE, "height": SIDE, "prompt": "a red cat", "guidance_scale": 5.0}
    return engines.request(**{**usual, **changes})


def control(unets: Path, family: str) -> Control:
    network = files(unets, f"{family}_control_4", family)
    return Control(type="depth", model=network, pixels=photograph(4), is_ready=True)


def test_requests_of_every_kind_at_once_come_out_as_alone(unets: Path, engine: engines.Engine):
    refiner = Refiner(model=files(unets, "sdxl_refiner", XL), switch_at=0.6)
    larger = Hires(scale=1.5, steps=4, strength=0.6)
    wanted = [
        request(unets, XL, id="plain"),
        request(unets, XL, id="refined", refiner=refiner, hires=larger, steps=6),
        request(unets, XL, id="controlled", controls=(control(unets, XL),), sampler="euler_a"),
        request(unets, XL, id="masked", task="inpaint", source=photograph(), mask=mask(), strength=0.8),
        request(unets, SD, id="other", hires=larger, sampler="heun"),
    ]
    asked = [engine.ask(each) for each in wanted]
    for each, waiting in zip(wanted, asked, strict=True):
        (output,) = waiting.outputs()
        alone = harness.draw(each).pixels
        assert output.pixels.shape == alone.shape
        assert np.abs(output.pixels.astype(int) - alone).max() <= harness.MOST_PIXELS
        counted = max(item.step for item in waiting.seen if isinstance(item, Progress))
        phases = families.outline(each.model).phases(each)
        assert counted == sum(phase.evaluations for phase in phases)


def test_a_picture_of_two_phases_is_as_large_as_its_second(unets: Path, engine: engines.Engine):
    (output,) = engine.draw(request(unets, SD, hires=Hires(scale=1.3, steps=4, strength=0.5)))
    assert isinstance(output, Output)
    assert output.pixels.shape == (80, 80, 3)


def test_another_autoencoder_decodes_where_the_request_brings_one(unets: Path, engine: engines.Engine):
    files_of_other = ModelFiles(id="other-vae", family="", folder=str(unets / XL / "vae"))
    plain = request(unets, SD)
    brought = replace(plain, companions={"vae": files_of_other})
    (usual,), (other,) = engine.draw(plain), engine.draw(brought)
    assert not np.array_equal(usual.pixels, other.pixels)
    assert np.array_equal(engine.draw(plain)[0].pixels, usual.pixels)


def test_what_requests_brought_is_booked_beside_the_model_and_dropped_on_a_shortage(
    unets: Path, engine: engines.Engine, monkeypatch: pytest.MonkeyPatch
):
    other = ModelFiles(id="other-vae", family="", folder=str(unets / SD / "vae"))
    steered = request(unets, SD, controls=(control(unets, SD),), companions={"vae": other})
    (usual,) = engine.draw(steered)
    runner = engine.runner
    held = runner._schedule.residency._held[steered.model.id]
    weights = {path: _weights_bytes(Path(path)) for path in (steered.controls[0].model.folder, other.folder)}
    assert weights.items() <= held.loose.items(), "the engine has drawn for other tests too"
    seen: list[int] = []
    relieve = runner._residents.relieve
    monkeypatch.setattr(runner._residents, "relieve", lambda: (relieve(), seen.append(held.loose_bytes)))
    run, faults = ticks.run, iter([torch.OutOfMemoryError()])

    def fail_once(*args: object, **named: object) -> object:
        if (error := next(faults, None)) is not None:
            raise error
        return run(*args, **named)

    monkeypatch.setattr(ticks, "run", fail_once)
    (again,) = engine.draw(steered)
    assert seen == [0]
    assert np.array_equal(again.pixels, usual.pixels), "what was dropped is loaded again"
    assert held.loose == weights


def _weights_bytes(folder: Path) -> int:
    tensors = [safetensors.torch.load_file(path) for path in folder.glob("*.safetensors")]
    return sum(tensor.numel() * 4 for each in tensors for tensor in each.values())


def test_what_steers_a_picture_counts_among_the_memory_it_takes(unets: Path):
    plain, steered = request(unets, XL), request(unets, XL, controls=(control(unets, XL),))
    (alone,), (beside,) = (families.outline(each.model).phases(each) for each in (plain, steered))
    weights = (unets / "sdxl_control_4" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert beside.activation_bytes - alone.activation_bytes == weights // 2


@pytest.mark.parametrize("kind", ["canny", "depth"])
def test_a_photograph_steers_as_its_drawing_does(
    unets: Path, engine: engines.Engine, tmp_path: Path, kind: ControlType
):
    brought = {preprocessing.DEPTH_ESTIMATOR: install_estimator(tmp_path / "estimator")}
    photographed = replace(control(unets, SD), type=kind, is_ready=False)
    drawn = replace(photographed, pixels=preprocessing.prepare(photographed, (SIDE, SIDE), brought), is_ready=True)
    one, other, as_it_is = (
        engine.draw(request(unets, SD, controls=(each,), companions=brought))[0].pixels
        for each in (photographed, drawn, replace(photographed, is_ready=True))
    )
    assert np.array_equal(one, other)
    assert not np.array_equal(one, as_it_is)


def refused(engine: engines.Engine, wanted: GenerationRequest) -> BaseException:
    error = engine.ask(wanted).end().error
    assert error is not None
    return error


def test_what_cannot_be_done_is_refused_with_what_to_do(unets: Path, engine: engines.Engine):
    plain = request(unets, SD)
    masks_only = replace(plain, model=files(unets, "stable_diffusion_masks", SD))
    photographed = replace(control(unets, SD), is_ready=False)
    no_control = replace(control(unets, SD), model=files(unets, f"{SD}_style_plain", SD))
    of_other = {"style_adapter": files(unets, f"{XL}_style_plain", SD)}
    of_few = replace(control(unets, XL), model=files(unets, f"{XL}_union_7", XL), type="tile")
    asked: list[tuple[GenerationRequest, type[ProviderError], str]] = [
        (replace(plain, task="remove_background"), RequestUnsuitableError, "choose a model that can"),
        (masks_only, RequestUnsuitableError, "give a picture and a mask"),
        (replace(plain, style_image=photograph()), StyleAdapterMissingError, "install one, or leave out"),
        (replace(plain, style_image=photograph(), companions=of_other), ModelBrokenError, "does not fit this model"),
        (replace(plain, controls=(photographed,)), ControlNotReadyError, "install a depth estimator"),
        (request(unets, XL, controls=(of_few,)), RequestUnsuitableError, "knows no tile controls"),
        (replace(plain, controls=(no_control,)), ModelBrokenError, "cannot be read"),
    ]
    for wanted, kind, what_to_do in asked:
        error = refused(engine, wanted)
        assert type(error) is kind
        assert what_to_do in str(error)
    assert engine.draw(plain)
