"""A checkpoint of the original layout: every network of a Stable Diffusion 1, 2 or SDXL in one safetensors file.

Configurations follow from the shapes in it. No such file holds the vocabulary of its text encoders: CLIP's `merges.txt`
lies beside it, in `tokenizer/`, as the model's manifest lists it.
"""

import math
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import diffusers
import safetensors
import torch
import transformers
from diffusers.loaders import single_file_utils
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tintype.engine import checkpoint, faults, ldm_shapes, loading
from tintype.engine.checkpoint import Checkpoint
from tintype.engine.devices import Device
from tintype.engine.ldm_shapes import Shapes
from tintype.engine.loading import ModelBrokenError
from tintype.inference import turns

MERGES = Path("tokenizer") / "merges.txt"
TEXT_LENGTH = 77
CLIP_IN = {False: "cond_stage_model.transformer.text_model.", True: "conditioner.embedders.0.transformer.text_model."}
"""Where OpenAI's text encoder stands: in Stable Diffusion, and in SDXL."""
OPEN_CLIP_IN = (ldm_shapes.OPEN_CLIP_2, "conditioner.embedders.1.model.", "conditioner.embedders.0.model.")
"""Where OpenCLIP's stands: in Stable Diffusion 2, in SDXL, and in its refiner."""
VELOCITY_SPREAD = 0.09
"""Above it, the biases before the last attention of a Stable Diffusion 2 are those of the kind that predicts velocity.
Nothing else in the file says so (found by ComfyUI's authors)."""
VELOCITY_SIDE = 96
"""Latents of a side that this kind was trained with."""
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "timestep_spacing": "leading",
}
"""What all these models were trained with (arXiv 2112.10752, 2307.01952)."""


def read(path: Path) -> Checkpoint:
    """What is in such a file.

    A model that predicts velocities says so by an entry `v_pred`, and by `ztsnr` that its noise has no signal left.

    Raises:
        ModelBrokenError: it cannot be read, or is of another kind.
    """
    shapes = _shapes(path, path.stat().st_mtime_ns)
    try:
        unet, vae = ldm_shapes.unet(shapes), ldm_shapes.vae(shapes)
    except (KeyError, IndexError, StopIteration) as error:
        raise ModelBrokenError(
            f"{path} is no whole Stable Diffusion or SDXL ({error} is missing); choose another file"
        ) from error
    encoders = _encoders(path, shapes)
    predicts_velocity = "v_pred" in shapes
    if ldm_shapes.is_second(shapes) and not predicts_velocity:
        predicts_velocity = _spread(path, ldm_shapes.last_norm(shapes)) > VELOCITY_SPREAD
        unet |= {"sample_size": VELOCITY_SIDE} if predicts_velocity else {}
    merges = _merges(path.parent / MERGES)
    is_refiner = ldm_shapes.is_xl(shapes) and "text_encoder" not in encoders
    return Checkpoint(
        settings={
            "force_zeros_for_empty_prompt": ldm_shapes.is_xl(shapes) and not is_refiner,
            "requires_aesthetics_score": is_refiner,
        },
        unet=unet,
        vae=vae,
        scheduler={
            **SCHEDULER,
            "prediction_type": "v_prediction" if predicts_velocity else "epsilon",
            "rescale_betas_zero_snr": "ztsnr" in shapes,
        },
        tokenizers={
            name.replace("text_encoder", "tokenizer"): _tokenizer(prefix in OPEN_CLIP_IN, merges)
            for name, prefix in encoders.items()
        },
        count_weights=partial(_count, shapes),
        load=partial(_load, path, unet, vae, encoders),
    )


@lru_cache(maxsize=16)
def _shapes(path: Path, written_ns: int) -> Shapes:
    """`written_ns` makes a file that was replaced another one."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, SafetensorError) as error:
        raise ModelBrokenError(f"{path} cannot be read ({error}); install it anew") from error


def _spread(path: Path, name: str) -> float:
    """The standard deviation of one tensor of the file."""
    with safetensors.safe_open(path, "pt") as file:
        return float(file.get_tensor(name).float().std(correction=0))


def _count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def _encoders(path: Path, shapes: Shapes) -> dict[str, str]:
    """The text encoders' prefixes in the file, by the names diffusers gives them."""
    found: dict[str, str] = {}
    clip = CLIP_IN[ldm_shapes.is_xl(shapes)]
    if f"{clip}embeddings.token_embedding.weight" in shapes:
        found["text_encoder"] = clip
    if prefix := next((each for each in OPEN_CLIP_IN if f"{each}token_embedding.weight" in shapes), None):
        found["text_encoder" if ldm_shapes.is_second(shapes) else "text_encoder_2"] = prefix
    if not found:
        raise ModelBrokenError(f"{path} has no text encoder that is known; give the model in diffusers' layout")
    return found


def _merges(path: Path) -> tuple[tuple[str, ...], ...]:
    """What CLIP's tokenizer merges, the first first."""
    try:
        return tuple(tuple(line.split()) for line in path.read_text(encoding="utf-8").splitlines()[1:])
    except (OSError, ValueError) as error:
        raise ModelBrokenError(
            f"{path} cannot be read ({error}): a checkpoint in one file holds no vocabulary; put CLIP's merges.txt "
            "there, as openai/clip-vit-large-patch14 has it"
        ) from error


@lru_cache(maxsize=4)
def _tokenizer(is_open: bool, merges: tuple[tuple[str, ...], ...]) -> Any:
    """CLIP's tokenizer: bytes, bytes that end a word, what they merge to, and two ends. OpenCLIP fills up with "!"."""
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    filler = "!" if is_open else "<|endoftext|>"
    kind: Any = transformers.CLIPTokenizer
    return kind(vocab=vocabulary, merges=list(merges), pad_token=filler, model_max_length=TEXT_LENGTH)


def _load(
    path: Path, unet: dict[str, Any], vae: dict[str, Any], encoders: Mapping[str, str], device: Device
) -> dict[str, Any]:
    loading.quieten()
    precise = checkpoint.precise(vae, device)
    try:
        with turns.ONE_MODEL_AT_A_TIME, faults.named(device.label):
            tensors = load_file(path)
            parts = _networks(tensors, unet, vae, encoders)
            return {
                name: part.to(device.weights_name, torch.float32 if name in precise else device.dtype)
                for name, part in parts.items()
            }
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelBrokenError(f"{path} cannot be loaded ({error}); install it anew") from error


def _networks(
    tensors: dict[str, Tensor], unet: dict[str, Any], vae: dict[str, Any], encoders: Mapping[str, str]
) -> dict[str, torch.nn.Module]:
    library: Any = diffusers
    with torch.device("meta"):  # so that no time goes into random weights
        denoiser = library.UNet2DConditionModel(**unet)
        autoencoder = library.AutoencoderKL(**vae)
    return {
        "unet": _fill(denoiser, single_file_utils.convert_ldm_unet_checkpoint(tensors, unet)),
        "vae": _fill(autoencoder, single_file_utils.convert_ldm_vae_checkpoint(tensors, vae)),
        **{name: _encoder(prefix, tensors) for name, prefix in encoders.items()},
    }


def _encoder(prefix: str, tensors: dict[str, Tensor]) -> torch.nn.Module:
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items() if key.startswith(prefix)}
    library: Any = transformers
    is_projecting = prefix in OPEN_CLIP_IN and prefix != ldm_shapes.OPEN_CLIP_2
    read = ldm_shapes.open_clip if prefix in OPEN_CLIP_IN else ldm_shapes.clip
    with torch.device("meta"):
        kind = library.CLIPTextModelWithProjection if is_projecting else library.CLIPTextModel
        encoder = kind(library.CLIPTextConfig(**read(shapes, prefix)))
    if prefix not in OPEN_CLIP_IN:
        named = {key.removeprefix(prefix): tensors[key] for key in shapes if not key.endswith("position_ids")}
    else:
        layers = ldm_shapes.open_clip_layers(shapes, prefix)
        unused = f"{prefix}transformer.resblocks.{layers}."
        used = {key: tensor for key, tensor in tensors.items() if not key.startswith(unused)}
        named = single_file_utils.convert_open_clip_checkpoint(encoder, used, prefix)
    if prefix == ldm_shapes.OPEN_CLIP_2:
        inner = {key.removeprefix("text_model."): value for key, value in named.items()}
        named = {key: value for key, value in inner.items() if key != "text_projection.weight"}
    embeddings = encoder.text_model.embeddings if is_projecting else encoder.embeddings
    embeddings.position_ids = torch.arange(TEXT_LENGTH)[None]  # in no file, and not made on "meta"
    return _fill(encoder, named)


def _fill(network: torch.nn.Module, tensors: Mapping[str, Tensor]) -> torch.nn.Module:
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval().requires_grad_(requires_grad=False)
