"""Cross-attention of a UNet that also looks at a style picture (IP-Adapter, arXiv 2308.06721), line by line.

What a style picture adds to a layer depends on nothing that changes from step to step: keys and values of all layers
are computed once, stand one behind the other in one tensor, and travel with the line. So no layer remembers a style.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Style:
    """The styles of a batch: `states` [lines, tokens, numbers of all layers], `strengths` [lines, 1, 1]."""

    states: Tensor
    strengths: Tensor


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the keys and values of one layer stand among all: each `width` numbers, from `start` on."""

    start: int
    width: int

    def keys(self, states: Tensor) -> Tensor:
        """Its keys [lines, tokens, width]."""
        return states[..., self.start : self.start + self.width]

    def values(self, states: Tensor) -> Tensor:
        """Its values [lines, tokens, width]."""
        return states[..., self.start + self.width : self.start + 2 * self.width]


class StyleAttention:
    """What diffusers calls an attention processor; without a style it computes what theirs does."""

    def __init__(self, place: Place | None) -> None:
        self._place = place

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        style: Style | None = None,
    ) -> Tensor:
        """The layer's output for `hidden_states` [lines, positions, channels]."""
        query, keys, values = _project(attn, hidden_states, encoder_hidden_states)
        query = _heads(query, attn)
        attended = _attend(query, keys, values, attn)
        if style is not None and self._place is not None:
            keys, values = self._place.keys(style.states), self._place.values(style.states)
            attended = attended + style.strengths * _attend(query, keys, values, attn)
        for layer in attn.to_out:
            attended = layer(attended)
        return attended


def _project(attn: Any, hidden_states: Tensor, words: Tensor | None) -> tuple[Tensor, ...]:
    """Queries, keys and values; where projections are joined, by fewer products."""
    if words is None and hasattr(attn, "to_qkv"):
        return attn.to_qkv(hidden_states).chunk(3, dim=-1)
    read = hidden_states if words is None else words
    if hasattr(attn, "to_kv"):
        return (attn.to_q(hidden_states), *attn.to_kv(read).chunk(2, dim=-1))
    return attn.to_q(hidden_states), attn.to_k(read), attn.to_v(read)


def _attend(query: Tensor, keys: Tensor, values: Tensor, attn: Any) -> Tensor:
    found = torch.nn.functional.scaled_dot_product_attention(query, _heads(keys, attn), _heads(values, attn))
    return found.transpose(1, 2).flatten(2)


def _heads(states: Tensor, attn: Any) -> Tensor:
    return states.unflatten(2, (attn.heads, -1)).transpose(1, 2)


def install(unet: Any) -> Mapping[str, Place]:
    """Give every attention layer of the UNet such a processor; where each cross-attention layer stands, by name."""
    places = dict(_places(unet))
    unet.set_attn_processor({name: StyleAttention(places.get(name)) for name in unet.attn_processors})
    return places


def _places(unet: Any) -> Iterator[tuple[str, Place]]:
    start = 0
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            width = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            yield name, Place(start=start, width=width)
            start += 2 * width
