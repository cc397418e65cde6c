"""What the shapes in a checkpoint of the original layout say of its networks: their configurations in diffusers' words.

Only what shapes cannot say is taken from what all models of the kind share: eight heads in Stable Diffusion 1, heads of
64 channels in its second version, in SDXL and in CLIP's text encoders, 256 numbers for each size that SDXL is told.
"""

from collections.abc import Mapping
from typing import Any

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

OPEN_CLIP_2 = "cond_stage_model.model."
"""Where the text encoder of Stable Diffusion 2 stands, which is OpenCLIP's."""
UNET, VAE = "model.diffusion_model.", "first_stage_model."
HEADS, HEAD_WIDTH = 8, 64
SIZE_NUMBERS = 256
SIDES = {False: 64, True: 128}
"""Latents of a side that models were trained with: of Stable Diffusion, and of SDXL."""
SCALES = {False: 0.18215, True: 0.13025}
"""What their autoencoders' latents are multiplied by."""


def is_xl(shapes: Shapes) -> bool:
    """Whether it is an SDXL."""
    return f"{UNET}label_emb.0.0.weight" in shapes


def is_second(shapes: Shapes) -> bool:
    """Whether it is a Stable Diffusion 2."""
    return f"{OPEN_CLIP_2}token_embedding.weight" in shapes


def last_norm(shapes: Shapes) -> str:
    """The bias before the last attention on the way up, by which Stable Diffusion 2's two kinds are told apart."""
    ends = [name for name in shapes if name.endswith(".1.transformer_blocks.0.norm1.bias") and "output_blocks" in name]
    return max(ends, key=lambda name: int(name.removeprefix(f"{UNET}output_blocks.").split(".")[0]))


def unet(shapes: Shapes) -> dict[str, Any]:
    """The configuration of the denoiser."""
    levels, depths = _levels(shapes), _depths(shapes)
    down = tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths)
    up = tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths))
    middle = _count(shapes, f"{UNET}middle_block.1.transformer_blocks.")
    context = next(shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight"))
    config: dict[str, Any] = {
        "sample_size": SIDES[is_xl(shapes)],
        "in_channels": shapes[f"{UNET}input_blocks.0.0.weight"][1],
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "block_out_channels": tuple(channels for channels, _ in levels),
        "layers_per_block": levels[0][1],
        "down_block_types": down,
        "up_block_types": up,
        "cross_attention_dim": context,
        "transformer_layers_per_block": (*(depth or 1 for depth in depths[:-1]), depths[-1] or middle),
        "attention_head_dim": HEADS,
        "use_linear_projection": len(shapes[f"{UNET}middle_block.1.proj_in.weight"]) == 2,
    }
    if is_xl(shapes) or is_second(shapes):
        config["attention_head_dim"] = tuple(channels // HEAD_WIDTH for channels, _ in levels)
    if is_xl(shapes):
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": SIZE_NUMBERS,
            "projection_class_embeddings_input_dim": shapes[f"{UNET}label_emb.0.0.weight"][1],
        }
    return config


def vae(shapes: Shapes) -> dict[str, Any]:
    """The configuration of the autoencoder."""
    levels = _count(shapes, f"{VAE}encoder.down.")
    channels = tuple(shapes[f"{VAE}encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels))
    return {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": _count(shapes, f"{VAE}encoder.down.0.block."),
        "latent_channels": shapes[f"{VAE}post_quant_conv.weight"][1],
        "scaling_factor": SCALES[is_xl(shapes)],
        "force_upcast": True,
    }


def clip(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """The configuration of a text encoder whose names are those of OpenAI's CLIP in transformers."""
    embeddings = shapes[f"{prefix}embeddings.token_embedding.weight"]
    inner = shapes[f"{prefix}encoder.layers.0.mlp.fc1.weight"]
    return {**_encoder(embeddings, inner, _count(shapes, f"{prefix}encoder.layers.")), "hidden_act": "quick_gelu"}


def open_clip(shapes: Shapes, prefix: str) -> dict[str, Any]:
    """The configuration of a text encoder whose names are OpenCLIP's."""
    embeddings = shapes[f"{prefix}token_embedding.weight"]
    inner = shapes[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"]
    config = {**_encoder(embeddings, inner, open_clip_layers(shapes, prefix)), "hidden_act": "gelu"}
    if prefix == OPEN_CLIP_2:
        return config
    return {**config, "projection_dim": shapes[f"{prefix}text_projection"][1]}


def open_clip_layers(shapes: Shapes, prefix: str) -> int:
    """Layers of OpenCLIP's encoder that are used: all, but in Stable Diffusion 2 the last one."""
    layers = _count(shapes, f"{prefix}transformer.resblocks.")
    return layers - 1 if prefix == OPEN_CLIP_2 else layers


def _encoder(embeddings: Shape, inner: Shape, layers: int) -> dict[str, Any]:
    """First and last token of a text are the last two of CLIP's vocabulary."""
    vocabulary, width = embeddings
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner[0],
        "num_hidden_layers": layers,
        "num_attention_heads": width // HEAD_WIDTH,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }


def _levels(shapes: Shapes) -> list[tuple[int, int]]:
    """Channels of each level on the way down, and how many layers it has."""
    levels: list[tuple[int, int]] = []
    layers = 0
    channels = 0
    for index in range(1, _count(shapes, f"{UNET}input_blocks.")):
        if f"{UNET}input_blocks.{index}.0.op.weight" in shapes:
            levels.append((channels, layers))
            layers = 0
        else:
            channels = shapes[f"{UNET}input_blocks.{index}.0.in_layers.2.weight"][0]
            layers += 1
    return [*levels, (channels, layers)]


def _depths(shapes: Shapes) -> list[int]:
    """Transformer blocks in each attention of each level; 0 where it does not attend."""
    depths: list[int] = []
    index = 1
    for _, layers in _levels(shapes):
        depths.append(_count(shapes, f"{UNET}input_blocks.{index}.1.transformer_blocks."))
        index += layers + 1
    return depths


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbers follow a prefix."""
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})
