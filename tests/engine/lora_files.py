"""Tiny networks with random weights, LoRA files for them in every way of writing, and the same LoRAs merged in."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tintype.engine.family import Adapter, Line

WIDTH = 32
SIDE = 8
ATTENTION = ["attn1.to_q", "attn1.to_out.0", "attn2.to_k", "attn2.to_v", "ff.net.0.proj"]


@dataclass
class Change:
    """A LoRA for one layer of ours."""

    down: Tensor
    up: Tensor
    alpha: float

    def weight(self, like: Tensor) -> Tensor:
        """What is added to the layer's weights."""
        change = self.up.flatten(1) @ self.down.flatten(1) * (self.alpha / len(self.down))
        return change.reshape(like.shape)


Changes = Mapping[str, Change]


def unet(**changes: object) -> UNet2DConditionModel:
    """Like Stable Diffusion 1.5, whose attentions' doors are convolutions of one pixel."""
    torch.manual_seed(0)
    values: dict[str, object] = {
        "sample_size": SIDE,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**values, **changes}).eval().requires_grad_(requires_grad=False)


def flux() -> FluxTransformer2DModel:
    torch.manual_seed(0)
    network = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    return network.eval().requires_grad_(requires_grad=False)


def text_encoder(*, projects: bool = False) -> nn.Module:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=100,
        bos_token_id=98,
        eos_token_id=99,
    )
    kind = CLIPTextModelWithProjection if projects else CLIPTextModel
    return kind(config).eval().requires_grad_(requires_grad=False)


def draw_unet(network: UNet2DConditionModel, lines: int) -> Tensor:
    """One evaluation over `lines` lines; the same line is the same in every number of lines."""
    generator = torch.Generator().manual_seed(1)
    samples = torch.randn(16, 4, SIDE, SIDE, generator=generator)[:lines]
    words = torch.randn(16, 5, WIDTH, generator=generator)[:lines]
    moments = torch.arange(16)[:lines] * 50.0 + 3
    with torch.inference_mode():
        given = (each.to(network.dtype) for each in (samples, moments, words))
        return network(*given, return_dict=False)[0]


def draw_flux(network: nn.Module, lines: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    places = torch.stack(torch.meshgrid(torch.zeros(1), torch.arange(4.0), torch.arange(4.0), indexing="ij"), -1)
    with torch.inference_mode():
        return network(
            hidden_states=torch.randn(16, 16, 4, generator=generator)[:lines],
            encoder_hidden_states=torch.randn(16, 5, WIDTH, generator=generator)[:lines],
            pooled_projections=torch.randn(16, WIDTH, generator=generator)[:lines],
            timestep=torch.arange(1, 17)[:lines] / 17,
            guidance=torch.full((lines,), 3.5),
            img_ids=places.reshape(-1, 3),
            txt_ids=torch.zeros(5, 3),
            return_dict=False,
        )[0]


def changes_for(network: nn.Module, paths: Iterable[str], *, seed: int, rank: int = 4, alpha: float = 3.0) -> Changes:
    """A random LoRA that changes what the network gives about as much as a trained one."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for path in paths:
        weight = network.get_submodule(path).weight
        down = torch.randn(rank, *weight.shape[1:], generator=generator) * 0.2
        up = torch.randn(len(weight), rank, *[1] * (weight.dim() - 2), generator=generator) * 0.2
        made[path] = Change(down=down, up=up, alpha=alpha)
    return made


def merged(network: nn.Module, *weighed: tuple[Changes, float]) -> nn.Module:
    """A copy of the network with the LoRAs, each with its weight, added to its weights."""
    whole = copy.deepcopy(network)
    for changes, weight in weighed:
        for path, change in changes.items():
            layer = whole.get_submodule(path).weight
            layer += weight * change.weight(layer)
    return whole


def kohya(changes: Changes, prefix: str = "lora_unet_") -> dict[str, Tensor]:
    return {
        f"{prefix}{path.replace('.', '_')}.{ending}": tensor
        for path, change in changes.items()
        for ending, tensor in {
            "lora_down.weight": change.down,
            "lora_up.weight": change.up,
            "alpha": torch.tensor(change.alpha),
        }.items()
    }


def peft(changes: Changes, prefix: str = "unet.", names: tuple[str, str] = ("lora_A", "lora_B")) -> dict[str, Tensor]:
    return {
        f"{prefix}{path}.{name}.weight": tensor
        for path, change in changes.items()
        for name, tensor in zip(names, (change.down, change.up), strict=True)
    }


def save(folder: Path, name: str, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path = folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, path, metadata)
    return path


def line(*adapters: tuple[str, float]) -> Line:
    return Line(
        sample=torch.zeros(1),
        timestep=0.0,
        words={},
        adapters=tuple(Adapter(name=name, weight=weight) for name, weight in adapters),
    )
