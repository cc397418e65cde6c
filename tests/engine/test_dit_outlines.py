"""What is known of a diffusion transformer before its weights are loaded."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor

from tests.engine.parity import dit_cases, dit_models
from tintype.engine import devices, families, weights
from tintype.engine.families import flux2_klein
from tintype.engine.family import RequestUnsuitableError
from tintype.engine.loading import ModelBrokenError
from tintype.engine.scheduling.values import Phase
from tintype.providers.contract import Control, ModelFiles

pytestmark = pytest.mark.filterwarnings("ignore:.*FluxPosEmbed:FutureWarning")
FAMILIES = ("flux", "flux2_klein", "qwen_image", "z_image")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def phase(family: str, folder: Path, **changes: object):
    request = dit_cases.request(family, folder, **changes)
    return families.outline(request.model).phases(request)[0]


def saved(network: torch.nn.Module) -> list[torch.Tensor]:
    """What a file holds of it: tensors that are tied are in it once."""
    own = {tensor.data_ptr(): tensor for tensor in network.state_dict().values()}
    return list(own.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_counted_from_their_headers(family: str, folder: Path):
    request = dit_cases.request(family, folder)
    outline = families.outline(request.model)
    model = outline.load(devices.Device(name="cpu", dtype=torch.float32, label="cpu"))
    networks = [part for part in model._parts.values() if isinstance(part, torch.nn.Module)]
    assert outline.weight_bytes == 2 * sum(number.numel() for network in networks for number in saved(network))


@pytest.mark.parametrize("family", FAMILIES)
def test_work_is_known_without_weights(family: str, tmp_path: Path):
    made = dit_models.build(tmp_path, family)
    for file in made.glob("*/*.safetensors"):
        file.unlink()
    found = phase(family, tmp_path, steps=6, source=dit_cases.source(), strength=0.5)
    assert found.evaluations == 3
    assert found.model == f"tiny-{family}"
    assert found.activation_bytes > 0
    with pytest.raises(ModelBrokenError, match="no weights"):
        weights.count(made)


@pytest.mark.parametrize(
    ("family", "scale", "options", "lines"),
    [
        ("flux", 3.5, {}, 1),
        ("flux", 3.5, {"true_cfg_scale": 3.0}, 2),
        ("flux2_klein", 4.0, {}, 2),
        ("flux2_klein", 1.0, {}, 1),
        ("qwen_image", 4.0, {}, 2),
        ("qwen_image", 1.0, {}, 1),
        ("z_image", 5.0, {}, 2),
        ("z_image", 0.0, {}, 1),
    ],
)
def test_a_step_takes_a_second_line_where_words_guide(
    family: str, scale: float, options: dict[str, object], lines: int, folder: Path
):
    assert phase(family, folder, guidance_scale=scale, options=options).lines == lines


@pytest.mark.parametrize("family", FAMILIES)
def test_what_cannot_differ_within_a_forward_is_in_the_key(family: str, folder: Path):
    plain = phase(family, folder)
    alike = [{"seeds": (8,)}, {"steps": 9}, {"sampler": "heun"}, {"guidance_scale": 2.0}]
    assert {phase(family, folder, **change).key for change in alike} == {plain.key}
    assert phase(family, folder, width=64).key != plain.key
    assert phase(family, folder, width=64, height=96).key != plain.key


@pytest.mark.parametrize("family", ["qwen_image", "z_image"])
def test_texts_of_other_lengths_share_a_step_up_to_a_limit(family: str, folder: Path):
    plain = phase(family, folder)
    assert phase(family, folder, prompt="a fox in snow").key == plain.key
    assert phase(family, folder, prompt=dit_cases.LONG_PROMPT).key != plain.key


def test_a_source_seen_beside_the_picture_is_in_the_key(folder: Path):
    plain, sourced = phase("flux2_klein", folder), phase("flux2_klein", folder, source=dit_cases.source())
    assert plain.key != sourced.key
    assert plain.activation_bytes < sourced.activation_bytes
    assert phase("flux", folder).key == phase("flux", folder, source=dit_cases.source()).key


@pytest.mark.parametrize("size", [(75, 121), (64, 96), (1100, 1300), (3000, 700)], ids=str)
def test_a_reference_is_cut_and_made_smaller_as_diffusers_does_it(size: tuple[int, int]):
    reference = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    theirs, processor = PIL.Image.fromarray(reference), Flux2ImageProcessor(vae_scale_factor=16)
    if theirs.width * theirs.height > flux2_klein.MOST_REFERENCE_PIXELS:
        theirs = processor._resize_to_target_area(theirs, flux2_klein.MOST_REFERENCE_PIXELS)
    height, width = (along // 16 * 16 for along in (theirs.height, theirs.width))
    seen = processor.preprocess(theirs, height=height, width=width, resize_mode="crop")
    ours = flux2_klein.fit(reference, 16)
    assert np.array_equal(ours, ((seen[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8))


def test_references_are_in_the_key_with_their_sizes_and_in_the_memory(folder: Path):
    def seeing(*sizes: tuple[int, int]) -> Phase:
        references = tuple(np.zeros((*size, 3), np.uint8) for size in sizes)
        return phase("flux2_klein", folder, source=dit_cases.source(), references=references)

    assert seeing((64, 96)).key == seeing((64, 96)).key == seeing((65, 103)).key, "as much as whole tokens hold"
    assert len({seeing().key, seeing((64, 96)).key, seeing((96, 64)).key, seeing((64, 96), (64, 96)).key}) == 4
    assert seeing().activation_bytes < seeing((64, 96)).activation_bytes < seeing((64, 96), (8, 8)).activation_bytes
    limited, larger = seeing((1024, 1024)), seeing((4096, 4096))
    assert larger.activation_bytes == limited.activation_bytes, "a large one is made smaller"
    assert seeing((3, 5)).key == seeing((8, 8)).key, "a tiny one is made as large as a token"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"references": (np.zeros((8, 8, 3), np.uint8),)}, "references"),
        ({"width": 90}, "multiples of 8"),
        ({"task": "upscale"}, "cannot do upscale"),
        ({"style_image": np.zeros((8, 8, 3), np.uint8)}, "a style picture"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_way_out(changes: dict[str, object], said: str, folder: Path):
    with pytest.raises(RequestUnsuitableError, match=said) as caught:
        phase("flux", folder, **changes)
    assert caught.value.code == "request_unsuitable"


def test_controls_count_among_the_memory_of_what_takes_them(folder: Path):
    made = dit_models.build_control(folder, "flux")
    size = sum(file.stat().st_size for file in made.glob("*.safetensors"))
    files = ModelFiles(id="c", family="control", folder=str(made))
    control = Control(type="depth", model=files, pixels=dit_cases.depths())
    with pytest.raises(RequestUnsuitableError, match="controls"):
        phase("flux2_klein", folder, controls=(control,))
    steered, plain = phase("flux", folder, controls=(control,)), phase("flux", folder)
    assert steered.key == plain.key
    assert steered.activation_bytes == plain.activation_bytes + size


def test_damaged_weights_are_named(tmp_path: Path):
    made = dit_models.build(tmp_path, "z_image")
    (made / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelBrokenError, match=r"vae.*damaged"):
        weights.count(made)


def test_a_missing_tokenizer_is_named(tmp_path: Path):
    made = dit_models.build(tmp_path, "qwen_image")
    for file in (made / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(ModelBrokenError, match="tokenizer"):
        families.outline(ModelFiles(id="x", family="qwen_image", folder=str(made))).phases(
            dit_cases.request("qwen_image", tmp_path)
        )
