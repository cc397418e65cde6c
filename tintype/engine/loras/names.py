"""What the layers of a network are called in LoRA files: by diffusers, by kohya's tools, by the models' first authors.

All names are given with `_` for every dot: kohya writes them so, and no two layers of one network fall together.
"""

import re
from collections.abc import Iterable, Iterator

Targets = tuple[str, ...]
"""Module paths that one entry of a file is for; several where our network keeps apart what the file has fused."""

UNET_ENDS = {
    "conv_in": "input_blocks_0_0",
    "conv_out": "out_2",
    "time_embedding.linear_1": "time_embed_0",
    "time_embedding.linear_2": "time_embed_2",
    "add_embedding.linear_1": "label_emb_0_0",
    "add_embedding.linear_2": "label_emb_0_2",
}
RESNET = {
    "conv1": "in_layers_2",
    "time_emb_proj": "emb_layers_1",
    "conv2": "out_layers_3",
    "conv_shortcut": "skip_connection",
}
BLOCK = re.compile(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
FLUX_ENDS = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "proj_out": "final_layer_linear",
    "norm_out.linear": "final_layer_adaLN_modulation_1",
    "time_text_embed.timestep_embedder.linear_1": "time_in_in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in_out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in_in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in_out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in_in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in_out_layer",
}
FLUX_DOUBLE = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn_proj": ("attn.to_out.0",),
    "txt_attn_proj": ("attn.to_add_out",),
    "img_mlp_0": ("ff.net.0.proj",),
    "img_mlp_2": ("ff.net.2",),
    "txt_mlp_0": ("ff_context.net.0.proj",),
    "txt_mlp_2": ("ff_context.net.2",),
    "img_mod_lin": ("norm1.linear",),
    "txt_mod_lin": ("norm1_context.linear",),
}
FLUX_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation_lin": ("norm.linear",),
}
SHIFT_FIRST = "final_layer_adaLN_modulation_1"
"""Under this name the first half of what comes out is the shift; in diffusers' layer it is the scale."""

OLD_ATTENTION = (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out"))
"""What diffusers called a text encoder's layers before it used peft's names."""


def index(paths: Iterable[str]) -> dict[str, Targets]:
    """Every name that layers at these paths have in files, with the paths it stands for."""
    known = list(paths)
    names = {name: (path,) for path in known for name in _other_names(path)}
    names |= dict(_sgm(known)) | dict(_flux(known))
    return names | {path.replace(".", "_"): (path,) for path in known}


def _other_names(path: str) -> Iterator[str]:
    flat = path.replace(".", "_")
    # transformers 5 has dropped a level that every file for its text encoders still names.
    yield f"text_model_{flat}" if not flat.startswith("text_model_") else flat.removeprefix("text_model_")
    if flat.endswith("to_out_0"):
        yield flat.removesuffix("_0")
    for now, before in OLD_ATTENTION:
        if flat.endswith(f"self_attn_{now}"):
            yield f"text_model_{flat.removeprefix('text_model_').removesuffix(now)}{before}"


def _sgm(paths: list[str]) -> Iterator[tuple[str, Targets]]:
    """Names of a UNet's layers in Stability's own code, which kohya's tools use for SDXL.

    There every resnet, with its attention, and every change of size is an entry of one list.
    """
    resnets: dict[str, int] = {}
    found = [(path, match) for path in paths if (match := BLOCK.fullmatch(path))]
    for _, match in found:
        side, _, kind, number, _ = match.groups()
        if kind == "resnets" and side != "mid":
            resnets[side] = max(resnets.get(side, 0), int(number) + 1)
    for path, match in found:
        side, block, kind, number, rest = match.groups()
        inside = RESNET.get(rest, rest.replace(".", "_"))
        at = int(block or 0) * (resnets.get(side, 0) + (side == "down")) + int(number)
        if side == "mid":
            yield f"middle_block_{1 if kind == 'attentions' else 2 * int(number)}_{inside}", (path,)
        elif kind == "downsamplers":
            yield f"input_blocks_{at + resnets[side] + 1}_0_op", (path,)
        elif kind == "upsamplers":
            for place in (1, 2):  # behind an attention, where the block has one
                yield f"output_blocks_{at + resnets[side] - 1}_{place}_conv", (path,)
        else:
            stem = f"input_blocks_{at + 1}" if side == "down" else f"output_blocks_{at}"
            yield f"{stem}_{int(kind == 'attentions')}_{inside}", (path,)
    if found:
        yield from ((UNET_ENDS[path], (path,)) for path in paths if path in UNET_ENDS)


def _flux(paths: list[str]) -> Iterator[tuple[str, Targets]]:
    """Names of Flux's layers in its authors' own code, where queries, keys and values are one layer."""
    known = set(paths)
    for kind, blocks, table in (
        ("double", "transformer_blocks", FLUX_DOUBLE),
        ("single", "single_transformer_blocks", FLUX_SINGLE),
    ):
        numbers = {path.split(".")[1] for path in paths if path.startswith(f"{blocks}.")}
        for number in numbers:
            for name, layers in table.items():
                targets = tuple(f"{blocks}.{number}.{layer}" for layer in layers)
                if known.issuperset(targets):
                    yield f"{kind}_blocks_{number}_{name}", targets
    if any(path.startswith("single_transformer_blocks.") for path in paths):
        yield from ((FLUX_ENDS[path], (path,)) for path in paths if path in FLUX_ENDS)
