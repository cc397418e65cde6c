"""LoRA files as pairs of matrices for the layers of our networks: kohya's, peft's and diffusers' ways of writing them.

W' = W + weight * alpha / rank * up @ down  ("LoRA", Hu et al. 2021).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from tintype.engine.loras import layers, names
from tintype.providers.contract import ProviderError

NETWORK = "network"
"""The part that draws: a UNet or a transformer. The other parts go by diffusers' names, `text_encoder` and so on."""

PREFIXES = {
    "lora_unet_": NETWORK,
    "lora_transformer_": NETWORK,
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_3",
    "unet.": NETWORK,
    "transformer.": NETWORK,
    "model.diffusion_model.": NETWORK,
    "diffusion_model.": NETWORK,
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder_3.": "text_encoder_3",
    "base_model.model.": NETWORK,
}
MATRIX = re.compile(r"(.+?)[._]lora(?:_linear_layer)?[._](down|up|mid|A|B)(?:\.default)?\.weight")
ALPHA = re.compile(r"(.+?)(?:[._]lora(?:_linear_layer)?)?\.alpha")
ROLES = {"A": "down", "B": "up"}
OTHER_KINDS = {
    "DoRA": re.compile(r"dora_scale|lora_magnitude_vector"),
    "LoKr": re.compile(r"\.lokr_"),
    "LoHa": re.compile(r"\.hada_"),
    "OFT": re.compile(r"\.oft_|oft_blocks|oft_diag"),
    "IA3": re.compile(r"\.on_input$"),
    "GLoRA": re.compile(r"\.[ab][12]\.weight$"),
    "LoRA with biases": re.compile(r"lora_B(?:\.default)?\.bias$"),
    "LyCORIS full": re.compile(r"\.diff(?:_b)?$"),
}
MADE_FOR = {
    "Flux": re.compile(r"double_blocks[._]|single_transformer_blocks[._]"),
    "Stable Diffusion 3": re.compile(r"joint_blocks[._]|add_k_proj"),
    "SDXL": re.compile(r"lora_te2_|text_encoder_2\.|input_blocks_[45]_1_|down_blocks[._]2.*transformer_blocks[._]9"),
}
WORDS_READER = re.compile(r"attn2[._]to_k[._].*(?:down|A)\b")
WORDS_WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
"""Families of UNets by the width of what their second attentions read."""

SHOWN = 3
MOST_ALPHA = 1e6
MOST_RANK = 512
"""Every layer of a network keeps room for the highest rank in one of them; people train up to 256."""


class LoraMisfitError(ProviderError):
    """The LoRA was made for another model."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="lora_misfit", retryable=False)


class LoraUnsupportedError(ProviderError):
    """The file holds something else than a LoRA, or cannot be read."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="lora_unsupported", retryable=False)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What a LoRA adds to one layer: `down` [rank, in] or [rank, in, height, width], `up` [out, rank]."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return len(self.down)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A LoRA for networks of ours: its pairs by part and module path."""

    pairs: Mapping[str, Mapping[str, Pair]]

    @property
    def rank(self) -> int:
        """The highest of its ranks."""
        return max(pair.rank for part in self.pairs.values() for pair in part.values())


class Part:
    """A network that LoRAs may change, with the names its layers have in files."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.modules = {path: found for path, found in module.named_modules() if layers.can_install(found)}
        self.names = names.index(self.modules)


def read(path: Path, parts: Mapping[str, Part]) -> Lora:
    """The LoRA in the safetensors file `path`, whose header was checked before.

    Raises:
        LoraMisfitError: it changes layers that the parts do not have, or have in other sizes.
        LoraUnsupportedError: it is no LoRA in the plain sense, but a DoRA, LoKr or the like, or cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = cast("dict[str, str]", file.metadata() or {})
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise LoraUnsupportedError(f"the LoRA {path.name} cannot be read ({error}); fetch it again") from error
    return convert(path.name, tensors, metadata, parts)


def convert(name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], parts: Mapping[str, Part]) -> Lora:
    """The same from tensors at hand; `name` is what errors call it."""
    _refuse_other_kinds(name, tensors)
    grouped, left = _grouped(tensors)
    found: dict[str, dict[str, Pair]] = {part: {} for part in parts}
    configured = _Configured(name, metadata)
    for entry, matrices in grouped.items():
        prefix = next((prefix for prefix in PREFIXES if entry.startswith(prefix)), "")
        part = _part(PREFIXES.get(prefix, NETWORK), parts)
        flat = entry.removeprefix(prefix).replace(".processor", "").replace(".", "_")
        targets = parts[part].names.get(flat, ()) if part in parts else ()
        if not targets or not {"down", "up"} <= matrices.keys():
            left.append(entry)
            continue
        pair = _pair(name, entry, matrices, configured)
        for path, split in _split(pair, targets, parts[part], swapped=flat == names.SHIFT_FIRST):
            if path in found[part]:
                raise LoraUnsupportedError(f"{name} changes {path} twice, under two names; fetch the file again")
            found[part][path] = _fitted(name, path, split, parts[part].modules[path])
    if left or not any(found.values()):
        raise _misfit(name, left, tensors)
    return Lora(pairs={part: pairs for part, pairs in found.items() if pairs})


def _refuse_other_kinds(name: str, tensors: Mapping[str, Tensor]) -> None:
    for kind, sign in OTHER_KINDS.items():
        if any(sign.search(key) for key in tensors):
            raise LoraUnsupportedError(f"{name} is a {kind}; only plain LoRA and LoCon are read, so take one of these")


def _grouped(tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """The matrices by entry and role, and the keys that are none."""
    grouped: dict[str, dict[str, Tensor]] = {}
    left: list[str] = []
    for key, tensor in tensors.items():
        if match := MATRIX.fullmatch(key):
            grouped.setdefault(match[1], {})[ROLES.get(match[2], match[2])] = tensor
        elif (match := ALPHA.fullmatch(key)) and tensor.numel() == 1:
            grouped.setdefault(match[1], {})["alpha"] = tensor
        else:
            left.append(key)
    return grouped, left


def _part(named: str, parts: Mapping[str, Part]) -> str:
    # kohya calls T5 the third text encoder, also for Flux, where it is the second.
    return "text_encoder_2" if named == "text_encoder_3" and named not in parts else named


class _Configured:
    """What peft's configuration, which diffusers writes into the metadata, says of alpha."""

    def __init__(self, name: str, metadata: Mapping[str, str]) -> None:
        text = metadata.get("lora_adapter_metadata", "{}")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise LoraUnsupportedError(f"the configuration in {name} is not JSON; fetch the file again") from error
        self._values = cast("dict[str, Any]", values) if isinstance(values, dict) else {}

    def alpha(self, entry: str, matrices: Mapping[str, Tensor]) -> float:
        """The alpha of an entry: its own, else that of the configuration, else its rank, which changes nothing."""
        rank = len(matrices["down"])
        part, _, path = entry.partition(".")
        alpha = self._values.get(f"{part}.lora_alpha", rank)
        patterns = self._values.get(f"{part}.alpha_pattern")
        for pattern, value in cast("dict[str, Any]", patterns if isinstance(patterns, dict) else {}).items():
            if f".{path}".endswith(f".{pattern.removeprefix('^')}"):
                alpha = value
        if "alpha" in matrices:
            alpha = matrices["alpha"].item()
        if not isinstance(alpha, int | float) or not abs(alpha) < MOST_ALPHA:
            raise LoraUnsupportedError(f"the alpha for {entry[:120]!a} is no usable number; fetch the file again")
        return alpha * (math.sqrt(rank) if self._values.get(f"{part}.use_rslora") is True else 1.0)


def _pair(name: str, entry: str, matrices: Mapping[str, Tensor], configured: "_Configured") -> Pair:
    down, up, middle = matrices["down"], matrices["up"], matrices.get("mid")
    is_sound = {down.dim(), up.dim()} <= {2, 4} and len(down) > 0
    if is_sound and middle is not None:  # a kernel kept apart, between the two
        is_sound = middle.dim() == 4 and middle.shape[1] == len(down) and down.shape[2:] == (1, 1)
        down = torch.einsum("rshw,si->rihw", middle.float(), down.float().flatten(1)) if is_sound else down
    if not is_sound:
        raise LoraUnsupportedError(f"{name} has no matrices for {entry[:120]!a}; fetch the file again")
    if len(down) > MOST_RANK:
        raise LoraUnsupportedError(f"{name} has rank {len(down):,}; at most {MOST_RANK} is read, so take a smaller one")
    return Pair(down=down, up=up.flatten(1), alpha=configured.alpha(entry, matrices))


def _split(pair: Pair, targets: names.Targets, part: Part, *, swapped: bool) -> Iterator[tuple[str, Pair]]:
    """The pair of a fused layer, one for each of its parts: they share `down`."""
    if swapped:
        yield targets[0], Pair(down=pair.down, up=torch.cat(pair.up.chunk(2)[::-1]), alpha=pair.alpha)
        return
    sizes = [len(cast("Tensor", part.modules[path].weight)) for path in targets]
    ups = pair.up.split(sizes) if sum(sizes) == len(pair.up) else (pair.up,) * len(sizes)
    for path, up in zip(targets, ups, strict=True):
        yield path, Pair(down=pair.down, up=up, alpha=pair.alpha)


def _fitted(name: str, path: str, pair: Pair, module: nn.Module) -> Pair:
    """The pair in the shape of its layer: files write linear layers as convolutions of one pixel and the reverse."""
    weight = cast("Tensor", module.weight)
    down = pair.down
    if weight.dim() == 2 or weight.shape[2:] == (1, 1):
        down = down.reshape(*down.shape[:2], *weight.shape[2:]) if math.prod(down.shape[2:]) == 1 else down
    if down.shape[1:] != weight.shape[1:] or pair.up.shape != (len(weight), len(down)):
        raise LoraMisfitError(
            f"{name} does not fit this model: for {path}, whose weights are {tuple(weight.shape)}, it has "
            f"{tuple(pair.down.shape)} and {tuple(pair.up.shape)}; use it with the model it was made for"
        )
    return Pair(down=down, up=pair.up, alpha=pair.alpha)


def _misfit(name: str, left: list[str], tensors: Mapping[str, Tensor]) -> LoraMisfitError:
    shown = ", ".join(ascii(key[:120]) for key in sorted(left)[:SHOWN])
    more = f" and {len(left) - SHOWN:,} more" if len(left) > SHOWN else ""
    kind = _made_for(tensors)
    made_for = f"it seems to be made for {kind}" if kind else "what it was made for cannot be told"
    return LoraMisfitError(
        f"{name} does not fit this model, which has no layers for {shown or 'anything in it'}{more}; {made_for}"
    )


def _made_for(tensors: Mapping[str, Tensor]) -> str | None:
    widths = [tensor.shape[1] for key, tensor in tensors.items() if WORDS_READER.search(key) and tensor.dim() > 1]
    by_name = (kind for kind, sign in MADE_FOR.items() if any(map(sign.search, tensors)))
    return next(by_name, WORDS_WIDTHS.get(widths[0]) if widths else None)
