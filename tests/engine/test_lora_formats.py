"""LoRA files of every kind people have are read into the same pairs; what is no LoRA for this model is refused."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from diffusers.loaders import lora_conversion_utils as theirs
from diffusers.utils import state_dict_utils
from torch import Tensor, nn

from tests.engine import lora_files as files
from tintype.engine import loras
from tintype.engine.loras import formats

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0."
PATHS = [BLOCK + rest for rest in files.ATTENTION]
WORDS = ["text_model.encoder.layers.1.self_attn.q_proj", "text_model.encoder.layers.0.mlp.fc1"]
OLD_WORDS = {"q_proj": "to_q", "out_proj": "to_out"}


def convert(
    tensors: Mapping[str, Tensor], network: nn.Module, metadata: dict[str, str] | None = None, **others: object
):
    parts = {"network": formats.Part(network), **{name: formats.Part(other) for name, other in others.items()}}
    return formats.convert("some.safetensors", tensors, metadata or {}, parts).pairs


def change(pair: formats.Pair) -> Tensor:
    return pair.up.float() @ pair.down.flatten(1).float() * (pair.alpha / pair.rank)


def old_processors(changes: files.Changes) -> dict[str, Tensor]:
    """How diffusers wrote attentions before it used peft."""
    tensors = {}
    for path, one in changes.items():
        block, _, name = path.rpartition(".attn1.")
        stem = f"{block}.attn1.processor.{name.removesuffix('.0')}_lora" if block else f"{path}.lora"
        tensors |= {f"unet.{stem}.down.weight": one.down, f"unet.{stem}.up.weight": one.up}
    return tensors


@pytest.mark.parametrize(
    "write",
    [
        files.kohya,
        lambda changes: files.kohya(changes, "lora_transformer_"),
        files.peft,
        lambda changes: files.peft(changes, names=("lora.down", "lora.up")),
        lambda changes: files.peft(changes, names=("lora_A.default", "lora_B.default")),
        lambda changes: files.peft(changes, "transformer."),
        lambda changes: files.peft(changes, "diffusion_model."),
        lambda changes: files.peft(changes, "base_model.model."),
        lambda changes: files.peft(changes, ""),
        old_processors,
    ],
)
def test_every_way_of_writing_gives_the_same_pairs(write: Callable[[files.Changes], dict[str, Tensor]]):
    network = files.unet()
    changes = files.changes_for(network, PATHS, seed=1, alpha=4.0)
    pairs = convert(write(changes), network)["network"]
    assert pairs.keys() == changes.keys()
    for path, pair in pairs.items():
        assert torch.equal(change(pair), changes[path].weight(pair.up @ pair.down))


def test_alphas_come_from_the_configuration_that_diffusers_writes():
    network = files.unet()
    tensors = files.peft(files.changes_for(network, PATHS, seed=1, rank=4))
    configuration = {"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 2}}
    pairs = convert(tensors, network, {"lora_adapter_metadata": json.dumps(configuration)})["network"]
    assert {path: pair.alpha for path, pair in pairs.items()} == {path: 2 if "to_q" in path else 8 for path in PATHS}
    stabilised = json.dumps({**configuration, "unet.use_rslora": True})
    pairs = convert(tensors, network, {"lora_adapter_metadata": stabilised})["network"]
    assert pairs[PATHS[1]].alpha / 4 == 8 / 4**0.5


def sdxl() -> UNet2DConditionModel:
    """SDXL's real shape, without memory for its weights."""
    with torch.device("meta"):
        return UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=2048,
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )


def test_names_of_sdxl_layers_in_kohyas_files_are_understood_as_diffusers_does():
    network = sdxl()
    part = formats.Part(network)
    starts = ("input_blocks_", "middle_block_", "output_blocks_", "time_embed_", "label_emb_", "out_2")
    named = {
        name: path
        for name, (path,) in part.names.items()
        # Both blocks that enlarge have attentions, so their convolutions come third.
        if name.startswith(starts)
        and name not in {"output_blocks_2_1_conv", "output_blocks_5_1_conv"}
        and name.replace("_", ".") not in {path.replace("_", ".") for path in part.modules}
    }
    assert sorted(named.values()) == sorted(part.modules)
    # One number per layer tells which is which after the conversion.
    tensors = {}
    for number, name in enumerate(named):
        tensors[f"lora_unet_{name}.lora_down.weight"] = torch.tensor([[float(number)]])
        tensors[f"lora_unet_{name}.lora_up.weight"] = torch.tensor([[1.0]])
    mapped = theirs._maybe_map_sgm_blocks_to_diffusers(tensors, network.config)
    converted, _ = theirs._convert_non_diffusers_lora_to_diffusers(mapped)
    expected = state_dict_utils.convert_unet_state_dict_to_peft(converted)
    numbers = {int(tensor.item()): key for key, tensor in expected.items() if ".lora_A." in key}
    for number, path in enumerate(named.values()):
        assert numbers[number] == f"unet.{path}.lora_A.weight"


def test_linear_layers_written_as_convolutions_fit():
    network = sdxl()
    tensors = {
        "lora_unet_input_blocks_4_1_proj_in.lora_down.weight": torch.ones(4, 640, 1, 1),
        "lora_unet_input_blocks_4_1_proj_in.lora_up.weight": torch.ones(640, 4, 1, 1),
    }
    (pair,) = convert(tensors, network)["network"].values()
    assert (pair.down.shape, pair.up.shape) == ((4, 640), (640, 4))


def flux_layers() -> dict[str, tuple[int, int]]:
    """Names and sizes of the layers in Flux's own code: in, out."""
    double = {
        "img_mod_lin": (3072, 18432), "txt_mod_lin": (3072, 18432),
        "img_attn_qkv": (3072, 9216), "txt_attn_qkv": (3072, 9216),
        "img_attn_proj": (3072, 3072), "txt_attn_proj": (3072, 3072),
        "img_mlp_0": (3072, 12288), "txt_mlp_0": (3072, 12288),
        "img_mlp_2": (12288, 3072), "txt_mlp_2": (12288, 3072),
    }  # fmt: skip
    single = {"linear1": (3072, 21504), "linear2": (15360, 3072), "modulation_lin": (3072, 9216)}
    ends = {
        "img_in": (64, 3072), "txt_in": (4096, 3072), "time_in_in_layer": (256, 3072),
        "time_in_out_layer": (3072, 3072),
        "vector_in_in_layer": (768, 3072), "vector_in_out_layer": (3072, 3072), "guidance_in_in_layer": (256, 3072),
        "guidance_in_out_layer": (3072, 3072), "final_layer_linear": (3072, 64),
        "final_layer_adaLN_modulation_1": (3072, 6144),
    }  # fmt: skip
    blocks = {f"double_blocks_0_{name}": sizes for name, sizes in double.items()}
    return blocks | {f"single_blocks_0_{name}": sizes for name, sizes in single.items()} | ends


@pytest.mark.parametrize("prefix", ["lora_unet_", "diffusion_model."])
def test_kohyas_flux_files_are_split_as_diffusers_splits_them(prefix: str):
    with torch.device("meta"):
        network = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    tensors = {}
    for name, (size_in, size_out) in flux_layers().items():
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, size_in)
        tensors[f"{name}.lora_up.weight"] = torch.randn(size_out, 2)
        if "final_layer" not in name:  # whose alphas diffusers leaves out
            tensors[f"{name}.alpha"] = torch.tensor(1.0)
    pairs = convert({prefix + key: tensor for key, tensor in tensors.items()}, network)["network"]
    expected = theirs._convert_kohya_flux_lora_to_diffusers({f"lora_unet_{k}": v for k, v in tensors.items()})
    assert pairs.keys() == formats.Part(network).modules.keys()
    for key, down in expected.items():
        if key.endswith(".lora_A.weight"):
            up = expected[key.replace("lora_A", "lora_B")]
            pair = pairs[key.removesuffix(".lora_A.weight").removeprefix("transformer.")]
            for rows in (slice(64), slice(-64, None)):
                ours = pair.up[rows] @ pair.down * (pair.alpha / pair.rank)
                assert torch.allclose(ours, up[rows] @ down, atol=1e-5)


@pytest.mark.parametrize("projects", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_text_encoders_are_read_whatever_level_their_names_have(projects: bool, old: bool):
    encoder = files.text_encoder(projects=projects)
    level = "" if projects else "text_model."
    ours = [path if projects else path.removeprefix(level) for path in WORDS]
    changes = files.changes_for(encoder, ours, seed=1, alpha=4.0)
    written = dict(zip(WORDS, changes.values(), strict=True))
    one = files.peft(written, "text_encoder_2.", ("lora_linear_layer.down", "lora_linear_layer.up"))
    if old:
        one = {key.replace("q_proj.lora_linear_layer", "to_q_lora"): tensor for key, tensor in one.items()}
    other = files.kohya(written, "lora_te2_")
    for tensors in (one, other):
        pairs = convert(tensors, files.unet(), text_encoder_2=encoder)["text_encoder_2"]
        assert {path: change(pair).tolist() for path, pair in pairs.items()} == {
            path: one.weight(change(pairs[path])).tolist() for path, one in changes.items()
        }


def test_a_kernel_kept_apart_from_the_matrices_is_put_back():
    """LoCon with Tucker decomposition: down, middle and up stand for one convolution after another."""
    network = files.unet()
    down, middle, up = torch.randn(4, 4, 1, 1), torch.randn(4, 4, 3, 3), torch.randn(32, 4, 1, 1)
    tensors = {
        "lora_unet_conv_in.lora_down.weight": down,
        "lora_unet_conv_in.lora_mid.weight": middle,
        "lora_unet_conv_in.lora_up.weight": up,
    }
    pair = convert(tensors, network)["network"]["conv_in"]
    sample = torch.randn(1, 4, 8, 8)
    conv2d = nn.functional.conv2d
    expected = conv2d(conv2d(conv2d(sample, down), middle, padding=1), up)
    assert torch.allclose(conv2d(conv2d(sample, pair.down, padding=1), pair.up[:, :, None, None]), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("DoRA", "lora_unet_conv_in.dora_scale"),
        ("DoRA", "unet.conv_in.lora_magnitude_vector"),
        ("LoKr", "lora_unet_conv_in.lokr_w1"),
        ("LoHa", "lora_unet_conv_in.hada_w1_a"),
        ("OFT", "lora_unet_conv_in.oft_blocks"),
        ("LoRA with biases", "unet.conv_in.lora_B.bias"),
    ],
)
def test_kinds_that_only_look_like_loras_are_refused_by_name(kind: str, key: str):
    network = files.unet()
    tensors = files.kohya(files.changes_for(network, PATHS, seed=1)) | {key: torch.ones(4, 4)}
    with pytest.raises(loras.LoraUnsupportedError, match=f"is a {kind}"):
        convert(tensors, network)


@pytest.mark.parametrize(
    ("made_for", "key", "shape"),
    [
        ("SDXL", "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", (4, 2048)),
        ("SDXL", "lora_te2_text_model_encoder_layers_11_mlp_fc1", (4, 1280)),
        ("Stable Diffusion 1.x", "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", (4, 768)),
        ("Stable Diffusion 2.x", "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", (4, 1024)),
        ("Flux", "lora_unet_double_blocks_0_img_attn_qkv", (4, 3072)),
        ("Flux", "transformer.single_transformer_blocks.3.attn.to_q", (4, 3072)),
    ],
)
def test_a_lora_for_another_model_is_refused_with_the_model_it_seems_to_be_for(
    made_for: str, key: str, shape: tuple[int, int]
):
    down, up = ("lora_down", "lora_up") if key.startswith("lora_") else ("lora_A", "lora_B")
    tensors = {f"{key}.{down}.weight": torch.ones(shape), f"{key}.{up}.weight": torch.ones(8, 4)}
    with pytest.raises(loras.LoraMisfitError, match=f"no layers for '{key}'.*{made_for}") as refused:
        convert(tensors, files.unet())
    assert (refused.value.code, refused.value.retryable) == ("lora_misfit", False)


def test_of_many_names_that_fit_nothing_a_few_are_shown():
    tensors = {f"lora_unet_other_{at}.lora_down.weight": torch.ones(2, 2) for at in range(50)}
    with pytest.raises(
        loras.LoraMisfitError, match=r"'lora_unet_other_0', .* and 47 more; what it was made for cannot"
    ):
        convert(tensors, files.unet())


def test_sizes_that_do_not_fit_are_refused_with_the_layer_they_are_for():
    network = files.unet()
    wide = files.unet(block_out_channels=(64, 64))
    tensors = files.kohya(files.changes_for(wide, PATHS, seed=1))
    with pytest.raises(loras.LoraMisfitError, match=r"attn1.to_q, whose weights are \(32, 32\)"):
        convert(tensors, network)


@pytest.mark.parametrize(
    "broken",
    [
        {"conv_in.lora_down.weight": torch.ones(4), "conv_in.lora_up.weight": torch.ones(4)},
        {"conv_in.lora_down.weight": torch.tensor(1.0), "conv_in.lora_up.weight": torch.tensor(1.0)},
        {"conv_in.lora_down.weight": torch.ones(0, 4, 3, 3), "conv_in.lora_up.weight": torch.ones(32, 0, 1, 1)},
        {
            "conv_in.lora_down.weight": torch.ones(4, 4, 1, 1),
            "conv_in.lora_mid.weight": torch.ones(4, 7, 3, 3),
            "conv_in.lora_up.weight": torch.ones(32, 4, 1, 1),
        },
        {
            "conv_in.lora_down.weight": torch.ones(4, 4, 3, 3),
            "conv_in.lora_up.weight": torch.ones(32, 4, 1, 1),
            "conv_in.alpha": torch.tensor(torch.nan),
        },
    ],
)
def test_broken_matrices_and_alphas_are_refused(broken: dict[str, Tensor]):
    with pytest.raises(loras.LoraUnsupportedError, match=r"conv_in.*fetch the file again"):
        convert({f"lora_unet_{key}": tensor for key, tensor in broken.items()}, files.unet())


def test_a_rank_that_would_fill_the_memory_is_refused():
    network = files.unet()
    tensors = files.kohya(files.changes_for(network, ["conv_in"], seed=1, rank=513))
    with pytest.raises(loras.LoraUnsupportedError, match="rank 513; at most 512"):
        convert(tensors, network)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"\0" * 64)
    with pytest.raises(loras.LoraUnsupportedError, match=r"broken\.safetensors cannot be read"):
        formats.read(path, {"network": formats.Part(files.unet())})
