"""Random weights for `benchmarks.engine`: models in the shape of real ones, most of them small enough for two cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
import transformers
from safetensors.torch import save_file

from tests.engine import ldm_files
from tests.engine.parity import tiny_unets

WIDTHS = (32, 64, 96, 96)
WORDS_WIDTH = 64
LORA_RANK = 8
LORA_FILE = "lora.safetensors"
FAMILIES = {"tiny": "stable_diffusion", "sdxl": "sdxl"}
SD_SCHEDULER = {"timestep_spacing": "linspace", "steps_offset": 0}
"""The moments that ComfyUI's scheduler "normal" takes too."""

BYTES, ENDS = 512, 2
"""Of a CLIP vocabulary: bytes, within a word and at its end, and the two ends of a text."""


@dataclass(frozen=True, kw_only=True)
class XlSize:
    """What an SDXL is built of; as published (arXiv 2307.01952) by default."""

    channels: Sequence[int] = (320, 640, 1280)
    transformers: Sequence[int] = (1, 2, 10)
    clip: tuple[int, int] = (768, 12)
    """Width and layers of OpenAI's text encoder, and ..."""
    open_clip: tuple[int, int] = (1280, 32)
    """... of OpenCLIP's."""
    autoencoder: Sequence[int] = (128, 256, 512, 512)
    dtype: torch.dtype = torch.bfloat16


PUBLISHED = XlSize()


def write_tiny(folder: Path, *, seed: int = 1) -> Path:
    """A model folder in diffusers' layout: the four blocks of Stable Diffusion 1.5, a tenth as wide."""
    if not (folder / "model_index.json").exists():
        tiny_unets.write_stable_diffusion(folder)  # tokenizer, scheduler and index; these two are made anew:
        torch.manual_seed(seed)
        unet().save_pretrained(folder / "unet")
        text_encoder().save_pretrained(folder / "text_encoder")
    return folder


def write_for_comfy(folder: Path, merges: Path) -> Path:
    """The smallest Stable Diffusion 1.5 that ComfyUI takes for one: a single level, its autoencoder and CLIP whole.

    `folder/single/model.safetensors` is for ComfyUI, `folder/diffusers` for the others; `merges` is CLIP's vocabulary.
    """
    if not (folder / "single").exists():
        torch.manual_seed(3)
        denoiser = diffusers.UNet2DConditionModel(
            sample_size=64,
            block_out_channels=(320,),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            cross_attention_dim=768,
            attention_head_dim=8,
        )
        words = merges.read_text(encoding="utf-8").splitlines()[1:]
        encoders = {"text_encoder": _clip(768, 12, activation="quick_gelu", vocabulary=BYTES + len(words) + ENDS)}
        autoencoder = _autoencoder(PUBLISHED.autoencoder, 0.18215)
        ldm_files.write_both(folder, denoiser, autoencoder, encoders, words, **SD_SCHEDULER)
    return folder


def write_sdxl(folder: Path, *, size: XlSize = PUBLISHED) -> Path:
    """A model folder in diffusers' layout: SDXL, by default in its real size, 7 GB in bfloat16."""
    if not (folder / "model_index.json").exists():
        torch.manual_seed(4)
        networks = {
            "unet": xl_unet(size),
            "vae": _autoencoder(size.autoencoder, 0.13025),
            "text_encoder": _clip(*size.clip, activation="quick_gelu"),
            "text_encoder_2": _clip(*size.open_clip, activation="gelu", is_projecting=True),
        }
        ldm_files.write_folder(folder, {name: part.to(size.dtype) for name, part in networks.items()}, is_xl=True)
    return folder


def xl_unet(size: XlSize) -> torch.nn.Module:
    """SDXL's denoiser, which attends on all levels but the first."""
    kinds = ["" if level == 0 else "CrossAttn" for level in range(len(size.channels))]
    return diffusers.UNet2DConditionModel(
        sample_size=128,
        block_out_channels=tuple(size.channels),
        layers_per_block=2,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        transformer_layers_per_block=tuple(size.transformers),
        attention_head_dim=tuple(channels // 64 for channels in size.channels),
        use_linear_projection=True,
        cross_attention_dim=size.clip[0] + size.open_clip[0],
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=size.open_clip[0] + 6 * 256,
    )


def _autoencoder(channels: Sequence[int], scale: float) -> torch.nn.Module:
    return diffusers.AutoencoderKL(
        block_out_channels=tuple(channels),
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=2,
        scaling_factor=scale,
    )


def _clip(
    width: int,
    layers: int,
    *,
    activation: str,
    is_projecting: bool = False,
    vocabulary: int = ldm_files.VOCABULARY,
) -> torch.nn.Module:
    config = transformers.CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        projection_dim=width,
        hidden_act=activation,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
    )
    return (transformers.CLIPTextModelWithProjection if is_projecting else transformers.CLIPTextModel)(config)


def unet() -> torch.nn.Module:
    """The denoiser."""
    return diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WORDS_WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def text_encoder() -> torch.nn.Module:
    """A CLIP text encoder for it, over the letters that the tiny tokenizer knows."""
    config = transformers.CLIPTextConfig(
        vocab_size=514,
        hidden_size=WORDS_WIDTH,
        intermediate_size=4 * WORDS_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=WORDS_WIDTH,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return transformers.CLIPTextModel(config)


def write_lora(folder: Path, *, seed: int) -> Path:
    """A folder with a LoRA for the attention layers of the tiny denoiser, in the layout that diffusers writes."""
    if (folder / LORA_FILE).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in unet().named_modules():
        if isinstance(layer, torch.nn.Linear) and any(part in name for part in ("to_q", "to_k", "to_v", "to_out.0")):
            rows, columns = layer.weight.shape
            tensors[f"unet.{name}.lora_A.weight"] = torch.randn(LORA_RANK, columns, generator=generator) * 0.05
            tensors[f"unet.{name}.lora_B.weight"] = torch.randn(rows, LORA_RANK, generator=generator) * 0.05
    save_file(tensors, folder / LORA_FILE)
    return folder
