"""Projections of attention made by one product instead of three, where that was measured to pay.

The joined layer has the weights; the layers that were joined look into them, so nothing is in memory twice, LoRAs are
installed on them as ever, and each can still be called alone.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from tintype.engine.loras import layers

FUSING = ("FluxAttention", "Flux2Attention")
"""What in diffusers calls `to_qkv` and `to_added_qkv` where it is told that projections are fused."""


class Part(nn.Linear):
    """A layer whose weights are rows of a joined one's."""

    whole: "tuple[Joined, slice]"

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]  a view in place of a parameter
        """Its rows of the joined weights, wherever those are now."""
        joined, rows = self.whole
        return joined.weight[rows]

    @property
    def bias(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]  as above
        """Its share of the joined bias."""
        joined, rows = self.whole
        bias = cast("Tensor | None", joined.bias)
        return None if bias is None else bias[rows]


class Joined(nn.Linear):
    """Several linear layers over the same input in one; what they give lies side by side."""

    parts: tuple[Part, ...]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name for it
        out = super().forward(input)
        if not any(isinstance(part, layers.LinearWithLoras) and part.mixture.turns for part in self.parts):
            return out
        shares = out.split([part.out_features for part in self.parts], dim=-1)
        return torch.cat(
            [
                part.add(share, input) if isinstance(part, layers.LinearWithLoras) else share
                for part, share in zip(self.parts, shares, strict=True)
            ],
            dim=-1,
        )


def join_all(network: nn.Module) -> None:
    """Join the projections of every attention layer that can be; before LoRAs are installed."""
    for attention in [module for module in network.modules() if hasattr(module, "to_q")]:
        layer: Any = attention
        is_fusing = type(layer).__name__ in FUSING
        if not is_fusing and getattr(layer, "is_cross_attention", None) is None:
            continue
        if is_fusing or not layer.is_cross_attention:
            layer.to_qkv = join([layer.to_q, layer.to_k, layer.to_v])
        else:
            layer.to_kv = join([layer.to_k, layer.to_v])
        if is_fusing and getattr(layer, "add_q_proj", None) is not None:
            layer.to_added_qkv = join([layer.add_q_proj, layer.add_k_proj, layer.add_v_proj])
        layer.fused_projections = is_fusing


@torch.inference_mode(mode=False)
@torch.no_grad()
def join(parts: Sequence[nn.Linear]) -> Joined:
    """One layer in place of `parts`, which become views of it; they stay the objects they are."""
    first = parts[0]
    rows = sum(part.out_features for part in parts)
    has_bias = cast("Tensor | None", first.bias) is not None
    with torch.device("meta"):
        joined = Joined(first.in_features, rows, bias=has_bias)
    joined.weight = nn.Parameter(torch.cat([part.weight for part in parts]), requires_grad=False)
    if has_bias:
        joined.bias = nn.Parameter(torch.cat([part.bias for part in parts]), requires_grad=False)
    start = 0
    for part in parts:
        del part.weight, part.bias
        part.__class__ = Part
        cast("Part", part).whole = joined, slice(start, start + part.out_features)
        start += part.out_features
    joined.parts = tuple(cast("Part", part) for part in parts)
    return joined.eval()
