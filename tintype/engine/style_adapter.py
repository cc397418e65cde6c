"""Style pictures (IP-Adapter, arXiv 2308.06721): what an image encoder sees becomes keys and values of a UNet.

Two kinds are read: the plain one, four tokens from what the encoder says of the whole picture, and the one called
Plus, tokens from its last but one layer. Those made to carry a person's face over are refused.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from diffusers.loaders.unet import UNet2DConditionLoadersMixin
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from tintype.engine import beside, faults, loading
from tintype.engine.devices import Device
from tintype.engine.family import Words
from tintype.engine.loading import ModelBrokenError
from tintype.engine.style_attention import Place
from tintype.inference import turns
from tintype.providers.contract import GenerationRequest, ProviderError

ROLE = "style_adapter"
IMAGE_ENCODER = "image_encoder"
PLAIN, PLUS = "image_proj.proj.weight", "image_proj.latents"
PLAIN_TOKENS = 4
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures CLIP was trained on (arXiv 2103.00020)."""
KEPT = 16
CONVERT = "_convert_ip_adapter_image_proj_to_diffusers"
"""diffusers' reader of the files' names; it has no public one."""


class StyleAdapterMissingError(ProviderError):
    """A style picture came without a model that can read it."""

    def __init__(self) -> None:
        super().__init__(
            "a style picture needs a style adapter for this model; install one, or leave out `style_image`",
            code="style_adapter_missing",
            retryable=False,
        )


class StyleAdapters:
    """The style adapters of one UNet: loaded when first asked for, one at a time, and what they said of pictures."""

    def __init__(self, places: Mapping[str, Place], device: Device) -> None:
        self._places = places
        self._device = device
        self._adapters = device.beside.shelf(1, _Adapter.size_bytes)
        self._seen: OrderedDict[tuple[Path, bytes], tuple[Tensor, Tensor]] = OrderedDict()

    def read(self, request: GenerationRequest) -> tuple[Words, Words]:
        """What a line with words and one without are given, `style` and `style_strength`; nothing without a style."""
        if request.style_image is None:
            return {}, {}
        key = (_folder(request), _digest(request.style_image))
        if key not in self._seen:
            self._seen[key] = self._adapter(key[0]).see(request.style_image)
            if len(self._seen) > KEPT:
                self._seen.popitem(last=False)
        strength = torch.tensor([request.style_strength], device=self._device.name, dtype=self._device.dtype)
        with_style, without = self._seen[key]
        return {"style": with_style, "style_strength": strength}, {"style": without, "style_strength": strength}

    def _adapter(self, folder: Path) -> "_Adapter":
        return self._adapters.get(str(folder), lambda: _Adapter(folder, self._places, self._device))


class _Adapter:
    def __init__(self, folder: Path, places: Mapping[str, Place], device: Device) -> None:
        path = _file(folder)
        try:
            tensors = {name: value.to(device.dtype) for name, value in safetensors.torch.load_file(path).items()}
            with faults.named(device.label):
                self._encoder = loading.network(
                    folder / IMAGE_ENCODER, "CLIPVisionModelWithProjection", dtype=device.dtype, device=device.name
                )
                projection = {
                    name.removeprefix("image_proj."): value for name, value in tensors.items() if "image_proj." in name
                }
                with turns.ONE_MODEL_AT_A_TIME:
                    self._projection = _projection(projection).to(device.name, device.dtype)
                self._layers = _layers(tensors, places).to(device.name)
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise ModelBrokenError(
                f"the style adapter {path} does not fit this model ({error}); choose one that was made for it"
            ) from error
        self._is_plain = PLAIN in tensors
        self._device = device

    def size_bytes(self) -> int:
        """What encoder, projection and layers take."""
        return sum(map(beside.module_bytes, (self._encoder, self._projection))) + self._layers.nbytes

    def see(self, picture: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Keys and values of all layers [1, tokens, numbers], for the picture and for none."""
        pixels = _prepare(picture, self._encoder.config.image_size).to(self._device.name, self._device.dtype)
        if self._is_plain:
            seen = self._encoder(pixels).image_embeds[:, None]
            nothing = torch.zeros_like(seen)
        else:
            seen, nothing = (
                self._encoder(each, output_hidden_states=True).hidden_states[-2]
                for each in (pixels, torch.zeros_like(pixels))
            )
        with_style, without = (self._projection(each.squeeze(1)) @ self._layers for each in (seen, nothing))
        return with_style, without


def count_tokens(request: GenerationRequest) -> int:
    """How many tokens the request's style picture takes; 0 without one.

    Raises:
        StyleAdapterMissingError: nothing can read it.
        ModelBrokenError: the adapter's file cannot be used.
    """
    return 0 if request.style_image is None else _count_tokens(_file(_folder(request)))


@lru_cache(maxsize=64)
def _count_tokens(path: Path) -> int:
    try:
        with safetensors.safe_open(path, "pt") as file:
            names = set(file.keys())
            if PLUS in names:
                return file.get_slice(PLUS).get_shape()[1]
    except (OSError, SafetensorError) as error:
        raise ModelBrokenError(f"the style adapter {path} cannot be read ({error}); install it anew") from error
    if PLAIN not in names:
        raise ModelBrokenError(f"{path} is no style adapter that can be used here; choose a plain one or a Plus one")
    return PLAIN_TOKENS


def _folder(request: GenerationRequest) -> Path:
    if ROLE not in request.companions:
        raise StyleAdapterMissingError
    return Path(request.companions[ROLE].folder)


def _file(folder: Path) -> Path:
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise ModelBrokenError(f"{folder} holds {len(found)} .safetensors files; a style adapter has exactly one")
    _count_tokens(found[0])
    return found[0]


def _projection(tensors: dict[str, Tensor]) -> torch.nn.Module:
    """diffusers' module that makes tokens of what the encoder saw, with these weights."""
    convert: Any = getattr(UNet2DConditionLoadersMixin, CONVERT)
    module: torch.nn.Module = convert(None, tensors, low_cpu_mem_usage=False)
    return module.eval().requires_grad_(requires_grad=False)


def _layers(tensors: Mapping[str, Tensor], places: Mapping[str, Place]) -> Tensor:
    """The matrices of all layers side by side [width, numbers]; a file counts the layers 1, 3, 5 … in order."""
    matrices: list[Tensor] = []
    for index, place in enumerate(places.values()):
        for kind in ("to_k_ip", "to_v_ip"):
            matrix = tensors[f"ip_adapter.{2 * index + 1}.{kind}.weight"]
            if len(matrix) != place.width:
                raise ValueError(f"layer {index} has {place.width} channels and the adapter's {len(matrix)}")
            matrices.append(matrix)
    return torch.cat(matrices).T.contiguous()


def _digest(picture: NDArray[np.uint8]) -> bytes:
    """What tells pictures apart and is short: an upload of fifty megapixels has 150 MB."""
    return hashlib.sha256(f"{picture.shape}".encode() + picture.tobytes()).digest()


def _prepare(picture: NDArray[np.uint8], side: int) -> Tensor:
    """As CLIP was trained: the shorter side made `side` pixels, the middle cut out, centred and scaled by channel."""
    image = Image.fromarray(picture)
    shorter = min(image.size)
    width, height = (int(side * length / shorter) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    pixels = torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)[None].float() / 255
    return (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(SPREAD).view(1, 3, 1, 1)
