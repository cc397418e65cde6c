"""Attention for a CPU and a hundred tokens, where plain matrix products beat PyTorch's fused kernel.

Measured on one core, 64 pictures of 88 tokens, forwards and backwards: a training step took 0.72 s instead of 1.0 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def attend(  # the signature is that of the function it stands in for
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    """Give softmax(query key' / sqrt(width)) value; batch x heads x tokens x width."""
    weights = torch.matmul(query * (scale or query.size(-1) ** -0.5), key.transpose(-1, -2))
    if is_causal:
        tokens = query.size(-2), key.size(-2)
        weights = weights + torch.full(tokens, float("-inf"), dtype=weights.dtype).triu(1)
    if attn_mask is not None:
        weights = weights + attn_mask
    return torch.matmul(weights.softmax(-1).to(value.dtype), value)


@contextmanager
def plain_on(device: torch.device) -> Iterator[None]:
    """Use plain attention while training on a CPU."""
    fused = functional.scaled_dot_product_attention
    if device.type == "cpu":
        functional.scaled_dot_product_attention = attend
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = fused
