"""Tiny models written twice: in diffusers' layout, and as the one file of the original layout."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import diffusers
import safetensors.torch
import torch
import transformers
from torch import Tensor, nn
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.engine.parity import tiny_unets
from tintype.engine.single_file import MERGES

LAYERS, LEVELS = 2, 2
WIDTH = 64
MERGED = ("p h", "o t", "ph ot", "a s", "t r", "r i", "d i", "n g</w>", "i ng</w>")
"""What the tokenizer merges, the first first; CLIP's has 48,894 of them."""
VOCABULARY = 512 + len(MERGED) + 2
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def write(folder: Path, *, is_xl: bool) -> None:
    """`folder/diffusers` and `folder/single/model.safetensors` of one tiny model."""
    torch.manual_seed(5)
    encoders = {"text_encoder": encoder()} | ({"text_encoder_2": encoder(is_open=True)} if is_xl else {})
    write_both(folder, unet(is_xl=is_xl), vae(is_xl=is_xl), encoders)


def write_second(folder: Path) -> None:
    """`folder/diffusers` and `folder/single/model.safetensors` of one tiny Stable Diffusion 2."""
    torch.manual_seed(6)
    shape = {"use_linear_projection": True, "attention_head_dim": (1, 2)}
    networks = {"unet": unet(is_xl=False, **shape), "vae": vae(is_xl=False), "text_encoder": encoder(is_second=True)}
    write_folder(folder / "diffusers", networks, is_xl=False)
    write_tokenizer(folder / "diffusers" / "tokenizer", "!")
    full = dict(networks["text_encoder"].state_dict())
    full |= {name.replace("layers.2.", "layers.3."): value + 1 for name, value in full.items() if "layers.2." in name}
    full["text_projection.weight"] = torch.eye(WIDTH)
    tensors = {f"model.diffusion_model.{name}": value for name, value in original_unet(networks["unet"]).items()}
    tensors |= {f"first_stage_model.{name}": value for name, value in original_vae(networks["vae"]).items()}
    tensors |= {f"cond_stage_model.model.{name}": value for name, value in open_clip_of(full).items()}
    write_merges(folder / "single" / MERGES)
    dense = {name: value.contiguous().clone() for name, value in tensors.items()}
    safetensors.torch.save_file(dense, folder / "single" / "model.safetensors")


def write_both(
    folder: Path,
    denoiser: nn.Module,
    autoencoder: nn.Module,
    encoders: dict[str, nn.Module],
    merges: Sequence[str] = MERGED,
    **scheduler: object,
) -> None:
    """`folder/diffusers` and `folder/single/model.safetensors` of these networks; SDXL where there are two encoders."""
    is_xl = "text_encoder_2" in encoders
    networks = {"unet": denoiser, "vae": autoencoder, **encoders}
    write_folder(folder / "diffusers", networks, merges, is_xl=is_xl, **scheduler)
    tensors = {f"model.diffusion_model.{name}": value for name, value in original_unet(denoiser).items()}
    tensors |= {f"first_stage_model.{name}": value for name, value in original_vae(autoencoder).items()}
    clip = "conditioner.embedders.0.transformer.text_model." if is_xl else "cond_stage_model.transformer.text_model."
    tensors |= {f"{clip}{name}": value for name, value in encoders["text_encoder"].state_dict().items()}
    tensors[f"{clip}embeddings.position_ids"] = torch.arange(77)[None]
    if is_xl:
        found = original_open_clip(encoders["text_encoder_2"])
        tensors |= {f"conditioner.embedders.1.model.{name}": value for name, value in found.items()}
    write_merges(folder / "single" / MERGES, merges)
    dense = {name: value.contiguous().clone() for name, value in tensors.items()}
    safetensors.torch.save_file(dense, folder / "single" / "model.safetensors")


def write_folder(
    folder: Path, networks: dict[str, nn.Module], merges: Sequence[str] = MERGED, *, is_xl: bool, **scheduler: object
) -> None:
    """These networks in diffusers' layout; `scheduler` overrides how it is configured."""
    encoders = [name for name in networks if name.startswith("text_encoder")]
    for name, network in networks.items():
        network.save_pretrained(folder / name)
    for name in encoders:
        filler = "!" if name.endswith("2") else "<|endoftext|>"
        write_tokenizer(folder / name.replace("text_encoder", "tokenizer"), filler, merges)
    diffusers.DDIMScheduler(**{**tiny_unets.SCHEDULER, **scheduler}).save_pretrained(folder / "scheduler")
    entries = {
        "_class_name": "StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        **{name: ["transformers", type(networks[name]).__name__] for name in encoders},
        **{name.replace("text_encoder", "tokenizer"): ["transformers", "CLIPTokenizer"] for name in encoders},
    }
    more = {"force_zeros_for_empty_prompt": True} if is_xl else {}
    (folder / "model_index.json").write_text(json.dumps(entries | more))


def unet(*, is_xl: bool, **changes: object) -> nn.Module:
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    more = (
        {
            "transformer_layers_per_block": (1, 2),
            "use_linear_projection": True,
            "attention_head_dim": (1, 2),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": WIDTH + 6 * 256,
        }
        if is_xl
        else {"attention_head_dim": 8}
    )
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(64, 128),
        layers_per_block=LAYERS,
        down_block_types=down[::-1] if is_xl else down,
        up_block_types=up[::-1] if is_xl else up,
        cross_attention_dim=WIDTH * (2 if is_xl else 1),
        **{**more, **changes},
    )


def vae(*, is_xl: bool) -> nn.Module:
    return diffusers.AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=LAYERS,
        scaling_factor=0.13025 if is_xl else 0.18215,
    )


def encoder(*, is_open: bool = False, is_second: bool = False) -> nn.Module:
    config = transformers.CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=1,
        projection_dim=WIDTH,
        hidden_act="gelu" if is_open or is_second else "quick_gelu",
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
    )
    kind = transformers.CLIPTextModelWithProjection if is_open else transformers.CLIPTextModel
    return kind(config)


def write_tokenizer(folder: Path, filler: str, merges: Sequence[str] = MERGED) -> None:
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(letter + "</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = [*words, "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(vocabulary)}))
    write_merges(folder / "merges.txt", merges)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"pad_token": filler, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"})
    )


def write_merges(path: Path, merges: Sequence[str] = MERGED) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#version: 0.2", *merges)))


def original_unet(network: nn.Module) -> dict[str, Tensor]:
    attends = ["CrossAttn" in kind for kind in network.config.up_block_types]
    layers = network.config.layers_per_block

    def renamed(name: str) -> str:
        for ours, theirs in TOP.items():
            if name.startswith(f"{ours}."):
                return name.replace(ours, theirs, 1)
        if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
            place = 1 if found[1] == "attentions" else 2 * int(found[2])
            return f"middle_block.{place}.{_inner(found[1], found[3])}"
        found = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
        assert found
        block, kind, index, rest = int(found[2]), found[3], int(found[4]), found[5]
        if kind == "downsamplers":
            return f"input_blocks.{1 + block * (layers + 1) + layers}.0.{rest.replace('conv', 'op')}"
        if kind == "upsamplers":
            return f"output_blocks.{block * (layers + 1) + layers}.{2 if attends[block] else 1}.{rest}"
        place = 1 if kind == "attentions" else 0
        side, first = ("input", 1) if found[1] == "down" else ("output", 0)
        return f"{side}_blocks.{first + block * (layers + 1) + index}.{place}.{_inner(kind, rest)}"

    return {renamed(name): value for name, value in network.state_dict().items()}


def _inner(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    name, _, end = rest.partition(".")
    return f"{RESNET[name]}.{end}"


def original_vae(network: nn.Module) -> dict[str, Tensor]:
    def renamed(name: str) -> str:
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{3 - int(found[1])}", name)
        name = name.replace(".resnets.", ".block.").replace("upsamplers.0", "upsample")
        name = re.sub(r"mid_block\.block\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0." in name:
            name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
            for ours, theirs in ATTENTION.items():
                name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
        return name

    found = {renamed(name): value for name, value in network.state_dict().items()}
    linear = re.compile(r"attn_1\.(q|k|v|proj_out)\.weight")
    return {name: value[:, :, None, None] if linear.search(name) else value for name, value in found.items()}


def original_open_clip(network: nn.Module) -> dict[str, Tensor]:
    return open_clip_of({name.removeprefix("text_model."): value for name, value in network.state_dict().items()})


def open_clip_of(states: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {
        "token_embedding.weight": states["embeddings.token_embedding.weight"],
        "positional_embedding": states["embeddings.position_embedding.weight"],
        "text_projection": states["text_projection.weight"].T,
        "logit_scale": torch.tensor(1.0),
        **{f"ln_final.{end}": states[f"final_layer_norm.{end}"] for end in ("weight", "bias")},
    }
    for name, value in states.items():
        if not (layer := re.match(r"encoder\.layers\.(\d+)\.(.*)", name)):
            continue
        rest = layer[2]
        for ours, theirs in OPEN_CLIP.items():
            rest = rest.replace(ours, theirs)
        rest = rest.replace("self_attn.out_proj", "attn.out_proj")
        if "self_attn" not in rest:
            found[f"transformer.resblocks.{layer[1]}.{rest}"] = value
        elif "q_proj" in rest:
            end = rest.rpartition(".")[2]
            three = [states[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            found[f"transformer.resblocks.{layer[1]}.attn.in_proj_{end}"] = torch.cat(three)
    return found
