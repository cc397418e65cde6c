"""Pictures of UNets that share steps: whatever the others want, each comes out as it does alone."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engine.parity import tiny_unets
from tests.engine.parity.unet_cases import SD, SIDE, XL, files, mask, photograph
from tintype.engine import devices, families, ticks
from tintype.engine.family import Drawing, Loaded
from tintype.providers.contract import Control, GenerationRequest, Lora, ModelFiles

CPU = devices.Device(name="cpu", dtype=torch.float32, label="cpu")
MOST = 2e-4
"""What a batch of another size may change in latents some ten in size: the last bits of float32, over six steps."""


def request(unets: Path, family: str, **changes: object) -> GenerationRequest:
    values: dict[str, object] = {
        "id": "one",
        "task": "text_to_image",
        "model": files(unets, family, family),
        "prompt": "a red cat, on a mat",
        "negative_prompt": "",
        "width": SIDE,
        "height": SIDE,
        "seeds": (7,),
        "steps": 6,
        "guidance_scale": 5.0,
        "sampler": "euler",
    }
    return GenerationRequest(**{**values, **changes})


def companions(unets: Path, family: str) -> list[GenerationRequest]:
    """One of every kind that may share a step."""
    control = Control(
        type="canny",
        model=files(unets, f"{family}_control_4", family),
        pixels=photograph(4),
        strength=0.8,
        is_ready=True,
    )
    other = replace(control, model=files(unets, f"{family}_control_5", family), start=0.3)
    feature = replace(control, model=files(unets, f"{family}_adapter_6", family))
    masked = {"task": "inpaint", "source": photograph(), "mask": mask(), "strength": 0.8}
    return [
        request(unets, family, sampler="euler_a", guidance_scale=1.0),
        request(unets, family, controls=(control,), steps=9, seeds=(8,)),
        request(unets, family, controls=(control, other), sampler="dpmpp_2m", seeds=(9,)),
        request(unets, family, controls=(feature,), prompt="a dog", seeds=(10,)),
        request(unets, family, task="image_to_image", source=photograph(1), strength=0.9, sampler="heun"),
        request(unets, family, **masked, negative_prompt="grey"),
        request(unets, family, **masked, controls=(other,), sampler="lcm", guidance_scale=2.0),
    ]


def load(files_of_model: ModelFiles) -> Loaded:
    return families.outline(files_of_model).load(CPU)


@torch.inference_mode()
def draw_together(model: Loaded, requests: list[GenerationRequest], *, joining: int = 1) -> list[Drawing]:
    """Every picture to its end; one more joins each `joining` ticks, so that their steps differ."""
    drawings: list[Drawing] = []
    waiting = list(requests)
    tick = 0
    while waiting or not all(drawing.sampled.is_done for drawing in drawings):
        if waiting and tick % joining == 0:
            wanted = waiting.pop(0)
            drawings.append(model.begin(wanted, wanted.seeds[0]))
        ticks.run(model, [drawing for drawing in drawings if not drawing.sampled.is_done], padded_lines=1)
        tick += 1
    return drawings


def alone(model: Loaded, wanted: GenerationRequest) -> torch.Tensor:
    return draw_together(model, [wanted])[0].sampled.latents


@pytest.mark.parametrize("family", [SD, XL])
def test_controls_masks_and_samplers_of_others_leave_no_trace(unets: Path, family: str):
    model = load(files(unets, family, family))
    wanted = companions(unets, family)
    together = draw_together(model, wanted)
    phases = {families.outline(each.model).phases(each)[0].key for each in wanted}
    assert len(phases) == 1
    for asked, drawing in zip(wanted, together, strict=True):
        assert (drawing.sampled.latents - alone(model, asked)).abs().max() <= MOST


def test_styles_of_others_leave_no_trace_and_strengths_may_differ(unets: Path):
    model = load(files(unets, SD, SD))
    adapter = {"style_adapter": files(unets, f"{SD}_style_plain", SD)}
    wanted = [
        request(unets, SD, style_image=photograph(seed), style_strength=strength, companions=adapter)
        for seed, strength in ((1, 0.3), (2, 1.0))
    ]
    plain = alone(model, request(unets, SD))
    for asked, drawing in zip(wanted, draw_together(model, wanted), strict=True):
        by_itself = alone(model, asked)
        assert (drawing.sampled.latents - by_itself).abs().max() <= MOST
        assert (by_itself - plain).abs().max() > 0.1
    assert torch.equal(alone(model, request(unets, SD)), plain)
    outline = families.outline(wanted[0].model)
    assert outline.phases(wanted[0])[0].key != outline.phases(request(unets, SD))[0].key


def test_a_style_picture_is_remembered_by_its_hash(unets: Path):
    model = load(files(unets, SD, SD))
    adapter = {"style_adapter": files(unets, f"{SD}_style_plain", SD)}
    large = np.zeros((512, 512, 3), np.uint8)
    alone(model, request(unets, SD, style_image=large, companions=adapter))
    tracemalloc.start()
    seen = [
        alone(model, request(unets, SD, style_image=large + np.uint8(shade), companions=adapter))
        for shade in range(1, 5)
    ]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(seen) == 4
    assert held < large.nbytes


def test_loras_of_others_leave_no_trace(unets: Path):
    model = load(files(unets, SD, SD))
    plain = request(unets, SD)
    adapted = [
        request(unets, SD, loras=(Lora(model=files(unets, f"lora_{seed}", SD), weight=weight),))
        for seed, weight in ((1, 1.0), (2, -0.5))
    ]
    before = alone(model, plain)
    together = draw_together(model, [adapted[0], plain, adapted[1]])
    for asked, drawing in zip([adapted[0], plain, adapted[1]], together, strict=True):
        assert (drawing.sampled.latents - alone(model, asked)).abs().max() <= MOST
    assert (together[1].sampled.latents - before).abs().max() <= MOST
    assert (together[0].sampled.latents - before).abs().max() > 0.1


def test_more_loras_than_are_held_at_once_are_drawn_in_turns(unets: Path, tmp_path: Path):
    model = load(files(unets, SD, SD))
    for seed in range(10):
        tiny_unets.write_lora(tmp_path / f"lora_{seed}", unets / SD, seed=seed)
    wanted = [request(unets, SD, loras=(Lora(model=files(tmp_path, f"lora_{seed}", SD)),)) for seed in range(10)]
    for asked, drawing in zip(wanted, draw_together(model, wanted), strict=True):
        assert (drawing.sampled.latents - alone(model, asked)).abs().max() <= MOST


def test_in_a_full_batch_of_one_size_no_bit_depends_on_the_others(unets: Path):
    model = load(files(unets, SD, SD))

    @torch.inference_mode()
    def first_of(others: list[GenerationRequest]) -> torch.Tensor:
        wanted = [request(unets, SD), *others]
        drawings = [model.begin(each, each.seeds[0]) for each in wanted]
        for _ in range(6):
            ticks.run(model, drawings, padded_lines=8)
        return drawings[0].sampled.latents

    others = [request(unets, SD, seeds=(seed,), prompt="a dog") for seed in (1, 2, 3)]
    assert torch.equal(first_of([]), first_of(others))


def test_what_a_mask_keeps_has_the_pixels_of_the_source(unets: Path):
    model = load(files(unets, SD, SD))
    wanted = request(unets, SD, task="inpaint", source=photograph(), mask=mask(), strength=1.0)
    drawing = draw_together(model, [wanted])[0]
    with torch.inference_mode():
        pixels = model.finish(drawing, wanted)
    kept = mask() == 0
    assert np.array_equal(pixels[kept], photograph()[kept])
    assert not np.array_equal(pixels[~kept], photograph()[~kept])


HALF = devices.Device(name="cpu", dtype=torch.bfloat16, label="cpu in half precision")


@pytest.mark.parametrize("family", [SD, XL])
def test_everything_runs_in_half_precision_with_samplers_in_single(unets: Path, family: str):
    style = {
        "style_image": photograph(1),
        "companions": {"style_adapter": files(unets, f"{family}_style_plus", family)},
    }
    wanted = [*companions(unets, family), request(unets, family, **style)]
    if family == SD:
        wanted.append(request(unets, SD, loras=(Lora(model=files(unets, "lora_1", SD)),), prompt="a (red:1.3) <toy>"))
    half, single = (families.outline(files(unets, family, family)).load(device) for device in (HALF, CPU))
    for asked in wanted:
        with torch.inference_mode():
            rough, exact = (model.begin(asked, 7) for model in (half, single))
            for model, drawing in ((half, rough), (single, exact)):
                ticks.run(model, [drawing], padded_lines=1)
            assert rough.sampled.latents.dtype == torch.float32
            apart = (rough.sampled.latents - exact.sampled.latents).std() / exact.sampled.latents.std()
            assert apart < 0.05
            assert half.finish(rough, asked).std() > 1
