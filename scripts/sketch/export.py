"""The shipped model folder from a run's checkpoints, in the layout that diffusers reads, and the way back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from transformers import CLIPTextModel

from . import autoencoder, denoiser, tokens

SHIFT = 3.0
TOKENIZER_CLASS = "PreTrainedTokenizerFast"


def export(run_folder: Path, model_folder: Path) -> None:
    """Write every component beside its old copy and swap it in, so that no reader meets half a component."""
    network = denoiser.load(run_folder).half()
    parts: dict[str, Any] = {
        "transformer": network.transformer,
        "text_encoder": network.text_encoder,
        "vae": autoencoder.load(run_folder).to(torch.half, memory_format=torch.contiguous_format),
        "tokenizer": tokens.build_tokenizer(),
        "scheduler": FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT),
    }
    model_folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        fresh = model_folder / f".{name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        part.save_pretrained(fresh)
        if name == "tokenizer":
            _name_tokenizer_class(fresh / "tokenizer_config.json")
        _swap(fresh, model_folder / name)
    fresh = model_folder / ".model_index.json.new"
    fresh.write_text(json.dumps(_index(parts), indent=2) + "\n")
    os.replace(fresh, model_folder / "model_index.json")
    print(f"{model_folder}: {size_bytes(model_folder) / 1e6:.1f} MB", flush=True)


def restore(model_folder: Path, run_folder: Path, minutes: float) -> None:
    """Write the checkpoints of a run that goes on from a shipped model, counted as having trained for `minutes`.

    The optimisers' memory is not in a model folder and starts anew.
    """
    vae = AutoencoderTiny.from_pretrained(model_folder / "vae", torch_dtype=torch.float32)
    network = denoiser.Network(len(tokens.load_tokenizer(model_folder)), vae.config.latent_channels)
    parts = {"transformer": SD3Transformer2DModel, "text_encoder": CLIPTextModel}
    for name, kind in parts.items():
        loaded = kind.from_pretrained(model_folder / name).float()
        getattr(network, name).load_state_dict(loaded.state_dict())
    autoencoder.start(run_folder, vae)
    denoiser.start(run_folder, network, minutes)


def _index(parts: dict[str, Any]) -> dict[str, Any]:
    """Give which library and class loads each part; no diffusers pipeline has this set of parts."""
    index: dict[str, Any] = {"_class_name": "SketchPipeline", "_diffusers_version": diffusers.__version__}
    for name, part in parts.items():
        library = "transformers" if name in ("text_encoder", "tokenizer") else "diffusers"
        index[name] = [library, TOKENIZER_CLASS if name == "tokenizer" else type(part).__name__]
    return index


def _name_tokenizer_class(path: Path) -> None:
    """Name the tokenizer's class as every version of transformers knows it."""
    config = json.loads(path.read_text())
    config["tokenizer_class"] = TOKENIZER_CLASS
    path.write_text(json.dumps(config, indent=2) + "\n")


def size_bytes(folder: Path) -> int:
    """Give the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _swap(fresh: Path, place: Path) -> None:
    # The weights come from temporary files that only their owner may read.
    for path in fresh.iterdir():
        path.chmod(0o644)
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        os.replace(place, old)
    os.replace(fresh, place)
    shutil.rmtree(old, ignore_errors=True)
