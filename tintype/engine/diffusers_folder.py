"""A model in diffusers' layout: a folder for each component, and `model_index.json` that names their classes."""

from functools import partial
from pathlib import Path
from typing import Any

from tintype.engine import checkpoint, clip_tokens, loading, weights
from tintype.engine.checkpoint import Checkpoint
from tintype.engine.devices import Device

TOKENIZERS = ("tokenizer", "tokenizer_2")
NETWORKS = frozenset({"unet", "vae", "text_encoder", "text_encoder_2"})


def read(folder: Path) -> Checkpoint:
    """What is in such a folder.

    Raises:
        ModelBrokenError: a configuration or a tokenizer cannot be read.
    """
    index = loading.config(folder / "model_index.json")
    vae = loading.config(folder / "vae" / "config.json")
    named = [name for name in TOKENIZERS if (index.get(name) or [None])[0] is not None]
    return Checkpoint(
        settings=index,
        unet=loading.config(folder / "unet" / "config.json"),
        vae=vae,
        scheduler=loading.config(folder / "scheduler" / "scheduler_config.json"),
        tokenizers={name: clip_tokens.tokenizer(folder / name) for name in named},
        count_weights=partial(weights.count, folder),
        load=partial(_load, folder, vae),
    )


def _load(folder: Path, vae: dict[str, Any], device: Device) -> dict[str, Any]:
    precise = checkpoint.precise(vae, device)
    return loading.components(folder, dtype=device.dtype, device=device.weights_name, precise=precise, only=NETWORKS)
