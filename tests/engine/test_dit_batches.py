"""Many pictures share the forwards of a diffusion transformer, and none of them shows it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from tests.engine.parity import dit_cases, dit_models, harness
from tintype.engine import devices, families, ticks
from tintype.engine.family import Drawing, Loaded
from tintype.engine.loading import ModelBrokenError
from tintype.providers.contract import Control, GenerationRequest, Lora, ModelFiles, ProviderError

FAMILIES = ("flux", "flux2_klein", "qwen_image", "z_image")
pytestmark = pytest.mark.filterwarnings("ignore:.*FluxPosEmbed:FutureWarning")
CPU = devices.Device(name="cpu", dtype=torch.float32, label="cpu")
GUIDED = {"flux": {"options": {"true_cfg_scale": 2.0}}}
INPAINTED = {"source": dit_cases.source(), "mask": dit_cases.mask(), "strength": 0.7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(family: str, folder: Path) -> Loaded:
    return families.outline(dit_cases.request(family, folder).model).load(CPU)


def requests(family: str, folder: Path) -> list[GenerationRequest]:
    """As different as pictures that share a step can be."""
    beside = {} if family == "flux2_klein" else INPAINTED
    return [
        dit_cases.request(family, folder, **each)
        for each in (
            {"steps": 6, **GUIDED.get(family, {})},
            {"steps": 4, "prompt": "a hen", "seeds": (9,), "guidance_scale": 1.5, "sampler": "heun"},
            {"steps": 5, "prompt": "two blue hares", "seeds": (11,), **beside},
            {"steps": 7, "prompt": "one green eel", "seeds": (12,), "guidance_scale": 5.0, **GUIDED.get(family, {})},
        )
    ]


def alone(model: Loaded, request: GenerationRequest, padded_lines: int = 1) -> torch.Tensor:
    drawing = model.begin(request, request.seeds[0])
    finish(model, [drawing], padded_lines)
    return drawing.sampled.latents


def finish(model: Loaded, drawings: Sequence[Drawing], padded_lines: int) -> None:
    while unfinished := [drawing for drawing in drawings if not drawing.sampled.is_done]:
        ticks.run(model, unfinished, padded_lines=padded_lines)


def together(model: Loaded, wanted: Sequence[GenerationRequest], padded_lines: int) -> list[torch.Tensor]:
    """One more joins at each tick, so that every one is at another step."""
    drawings: list[Drawing] = []
    for request in wanted:
        drawings.append(model.begin(request, request.seeds[0]))
        ticks.run(model, [drawing for drawing in drawings if not drawing.sampled.is_done], padded_lines=padded_lines)
    finish(model, drawings, padded_lines)
    return [drawing.sampled.latents for drawing in drawings]


def test_pictures_that_share_their_steps_come_out_as_they_do_alone(family: str, model: Loaded, folder: Path):
    wanted = requests(family, folder)
    assert len({families.outline(each.model).phases(each)[0].key for each in wanted}) == 1
    shared = together(model, wanted, padded_lines=1)
    apart = [(each - alone(model, request)).abs().max().item() for each, request in zip(shared, wanted, strict=True)]
    assert max(apart) <= harness.MOST_LATENTS


def test_pictures_with_references_share_their_steps_and_each_sees_its_own(folder: Path):
    model = families.outline(dit_cases.request("flux2_klein", folder).model).load(CPU)
    wanted = [
        dit_cases.request("flux2_klein", folder, source=dit_cases.source(), references=seen, seeds=(3,))
        for seen in (dit_cases.SEEN, tuple(255 - pixels for pixels in dit_cases.SEEN))
    ]
    assert len({families.outline(each.model).phases(each)[0].key for each in wanted}) == 1
    shared, apart = together(model, wanted, padded_lines=1), [alone(model, each) for each in wanted]
    for one, other in zip(shared, apart, strict=True):
        assert (one - other).abs().max() <= harness.MOST_LATENTS
    assert (apart[0] - apart[1]).abs().max() > 5 * harness.MOST_LATENTS


def test_in_a_batch_of_one_size_companions_change_nothing_to_the_last_bit(family: str, model: Loaded, folder: Path):
    wanted = requests(family, folder)
    lines = 2 * len(wanted)
    for order in (wanted, wanted[::-1]):
        for shared, request in zip(together(model, order, padded_lines=lines), order, strict=True):
            assert torch.equal(shared, alone(model, request, padded_lines=lines))


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a hen"},
        {"guidance_scale": 6.0},
        {"seeds": (6,)},
        {"steps": 5},
        {"source": dit_cases.source(), "strength": 0.6},
        INPAINTED,
    ],
    ids="-".join,
)
def test_everything_that_is_asked_for_shows(family: str, model: Loaded, folder: Path, change: dict[str, object]):
    plain = alone(model, dit_cases.request(family, folder))
    changed = alone(model, dit_cases.request(family, folder, **change))
    assert (plain - changed).abs().max() > 20 * harness.MOST_LATENTS


def test_loras_differ_within_a_batch_and_act_as_if_merged(family: str, model: Loaded, folder: Path, tmp_path: Path):
    files = [write_lora(tmp_path / f"{name}.safetensors", model, seed) for seed, name in enumerate(("one", "other"))]
    wanted = [
        dit_cases.request(family, folder, loras=chosen)
        for chosen in ((), (Lora(model=files[0], weight=0.7),), tuple(Lora(model=each) for each in files))
    ]
    shared = together(model, wanted, padded_lines=1)
    assert (shared[0] - alone(model, wanted[0])).abs().max() <= harness.MOST_LATENTS
    for drawn, request in zip(shared, wanted, strict=True):
        assert (drawn - alone(merged(model, request), request_without(request))).abs().max() <= harness.MOST_LATENTS
    assert (shared[0] - shared[1]).abs().max() > 20 * harness.MOST_LATENTS
    assert (shared[1] - shared[2]).abs().max() > 20 * harness.MOST_LATENTS


def write_lora(path: Path, model: Loaded, seed: int) -> ModelFiles:
    """A LoRA for what all blocks ask for and answer with."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, (rows, columns) in adapted(model).items():
        tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(2, columns, generator=generator)
        tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(rows, 2, generator=generator) / 4
    safetensors.torch.save_file(tensors, path)
    return ModelFiles(id=path.stem, family="lora", folder=str(path))


def adapted(model: Loaded) -> dict[str, tuple[int, ...]]:
    """Layers by name, with the shape of their weights."""
    layers = model._transformer.state_dict().items()
    return {
        name.removesuffix(".weight"): tuple(weight.shape)
        for name, weight in layers
        if name.endswith(("to_q.weight", "to_v.weight"))
    }


def merged(model: Loaded, request: GenerationRequest) -> Loaded:
    """A model whose weights are changed by the request's LoRAs."""
    changed = families.outline(request.model).load(CPU)
    for lora in request.loras:
        tensors = safetensors.torch.load_file(lora.model.folder)
        for name in adapted(changed):
            up, down = (tensors[f"transformer.{name}.lora_{side}.weight"] for side in "BA")
            changed._transformer.get_parameter(f"{name}.weight").add_(lora.weight * up @ down)
    return changed


def request_without(request: GenerationRequest) -> GenerationRequest:
    """The same without LoRAs."""
    return dataclasses.replace(request, loras=())


def test_controls_act_on_their_own_lines_of_a_batch(family: str, model: Loaded, folder: Path, tmp_path: Path):
    if family == "flux2_klein":
        assert not families.outline(dit_cases.request(family, folder).model).takes_controls
        return
    kinds = [dit_models.build_control(folder, family), dit_models.build_control(tmp_path, family)]
    first, second = (
        Control(
            type="depth",
            model=ModelFiles(id=str(index), family="control", folder=str(kind)),
            pixels=dit_cases.depths(),
            strength=0.7,
            is_ready=True,
        )
        for index, kind in enumerate(kinds)
    )
    lora = Lora(model=write_lora(tmp_path / "lora.safetensors", model, 3))
    beside = GUIDED.get(family, {})
    wanted = [
        dit_cases.request(family, folder, **each, **beside)
        for each in (
            {"seeds": (3,)},
            {"controls": (first,)},
            {"controls": (second, dataclasses.replace(first, strength=0.4, end=0.5)), "loras": (lora,)},
            {"prompt": "a hen", "controls": (dataclasses.replace(second, start=0.4),), "seeds": (4,)},
        )
    ]
    for shared, request in zip(together(model, wanted, padded_lines=1), wanted, strict=True):
        assert (shared - alone(model, request)).abs().max() <= harness.MOST_LATENTS
    plain = alone(model, dataclasses.replace(wanted[1], controls=()))
    assert (plain - alone(model, wanted[1])).abs().max() > 20 * harness.MOST_LATENTS


def test_a_photograph_is_no_control(folder: Path):
    control = Control(type="depth", model=ModelFiles(id="c", family="control", folder="/"), pixels=dit_cases.depths())
    request = dit_cases.request("flux", folder, controls=(control,))
    model = families.outline(request.model).load(CPU)
    with pytest.raises(ProviderError, match="is_ready"):
        model.begin(request, 1)


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [("flux", {"conditioning_embedding_channels": 3}, "reads pixels"), ("qwen_image", {}, "cannot steer this model")],
    ids=["reads pixels", "of another family"],
)
def test_a_control_of_another_kind_is_named(family: str, changes: dict[str, int], said: str, folder: Path):
    made = dit_models.build_control(folder, family, **changes)
    files = ModelFiles(id="c", family="control", folder=str(made))
    control = Control(type="tile", model=files, pixels=dit_cases.depths())
    request = dit_cases.request("flux", folder, controls=(control,))
    model = families.outline(request.model).load(CPU)
    with pytest.raises(ModelBrokenError, match=said):
        model.begin(request, 1)


def test_a_prompt_is_read_once(model: Loaded, family: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    tokenizer = model._parts["tokenizer"]
    monkeypatch.setitem(model._parts, "tokenizer", Counting(tokenizer, read))
    wanted = dit_cases.request(family, folder, prompt="never read before", **GUIDED.get(family, {}))
    model.begin(wanted, 1)
    before = len(read)
    model.begin(wanted, 2)
    assert before >= 1
    assert len(read) == before


class Counting:
    """A tokenizer that keeps what it was given."""

    def __init__(self, tokenizer: object, read: list[object]) -> None:
        self._tokenizer, self._read = tokenizer, read

    def __call__(self, *given: object, **settings: object) -> object:
        self._read.append(given)
        return self._tokenizer(*given, **settings)

    def __getattr__(self, name: str) -> object:
        return getattr(self._tokenizer, name)


def test_half_precision_draws_nearly_the_same(family: str, model: Loaded, folder: Path):
    half = devices.Device(name="cpu", dtype=torch.bfloat16, label="cpu")
    steered: dict[str, object] = {}
    if family != "flux2_klein":
        files = ModelFiles(id="c", family="control", folder=str(dit_models.build_control(folder, family)))
        steered = {"controls": (Control(type="depth", model=files, pixels=dit_cases.depths(), is_ready=True),)}
    wanted = [
        dit_cases.request(family, folder, **each, **steered) for each in ({}, INPAINTED, {"hires": dit_cases.LARGER})
    ]
    halved = families.outline(wanted[0].model).load(half)
    for request in wanted:
        apart = np.abs(paint(halved, request).astype(int) - paint(model, request).astype(int)).mean()
        assert apart < 6


def paint(model: Loaded, request: GenerationRequest) -> NDArray[np.uint8]:
    drawing = model.begin(request, request.seeds[0])
    finish(model, [drawing], 1)
    if request.hires is not None:
        drawing = model.go_on(drawing, request, 1)
        finish(model, [drawing], 1)
    return model.finish(drawing, request)
