"""Reads prompts with CLIP's text encoders: one chunk at a time, so that no other prompt changes a word; and remembers.

Weights multiply what an encoder says of a token; the chunk is then scaled back to the mean it had before, so that
weights shift attention between words and do not make the whole prompt louder. (So does AUTOMATIC1111's web UI.)
"""

from collections import OrderedDict
from collections.abc import Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tintype.engine import clip_tokens, learned_words
from tintype.engine.clip_tokens import Chunk
from tintype.engine.learned_words import LearnedWord
from tintype.providers.contract import GenerationRequest

REMEMBERED = 256


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A text encoder with its tokenizer. `layer` says which states are read: the last, normed, or the one before."""

    network: Any
    tokenizer: Any
    layer: Literal["last", "penultimate"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A prompt as it was read: `tokens` [1, 77 × chunks, width]; `pooled` [1, width] where an encoder gives it."""

    tokens: Tensor
    pooled: Tensor | None


class Reader:
    """One or two encoders, whose readings stand side by side."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self._encoders = encoders
        self._remembered: OrderedDict[Hashable, Reading] = OrderedDict()

    def read(
        self,
        prompt: str,
        *,
        chunks: int = 1,
        skipped: int = 0,
        learned: Sequence[LearnedWord] = (),
        under: str = "",
    ) -> Reading:
        """The reading of a prompt in at least `chunks` chunks.

        `skipped` layers at the encoders' ends are left out. `under` is what else the reading depends on.
        """
        key = (prompt, chunks, skipped, learned, under)
        if (known := self._remembered.get(key)) is not None:
            self._remembered.move_to_end(key)
            return known
        readings = [_read(encoder, prompt, chunks, skipped, learned) for encoder in self._encoders]
        reading = Reading(
            tokens=torch.cat([each.tokens for each in readings], dim=-1),
            pooled=next((each.pooled for each in readings if each.pooled is not None), None),
        )
        self._remembered[key] = reading
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return reading

    def read_both(self, request: GenerationRequest, *, chunks: int, adapters: str) -> tuple[Reading, Reading]:
        """The prompt of a request and its negative prompt; `adapters` tells apart LoRAs in force in the encoders."""
        learned, skipped = learned_words.of(request), request.options.get("clip_skip", 0)
        with_words, without = (
            self.read(prompt, chunks=chunks, skipped=skipped, learned=learned, under=adapters)
            for prompt in (request.prompt, request.negative_prompt)
        )
        return with_words, without

    def forget(self) -> None:
        """Let go of every reading."""
        self._remembered.clear()


def count_chunks(prompt: str, tokenizers: Sequence[Any], learned: Sequence[LearnedWord]) -> int:
    """How many chunks a prompt takes, with the tokenizer that needs most."""
    lengths = learned_words.lengths(learned)
    return max(len(clip_tokens.split(prompt, tokenizer, learned=lengths)) for tokenizer in tokenizers)


def _read(encoder: Encoder, prompt: str, chunks: int, skipped: int, learned: Sequence[LearnedWord]) -> Reading:
    split = clip_tokens.split(prompt, encoder.tokenizer, learned=learned_words.lengths(learned), chunks=chunks)
    width = encoder.network.get_input_embeddings().weight.shape[1]
    vectors = {each.word: each.vectors(width) for each in learned}
    readings = [_read_chunk(encoder, chunk, skipped, vectors) for chunk in split]
    return Reading(tokens=torch.cat([each.tokens for each in readings], dim=1), pooled=readings[0].pooled)


def _read_chunk(encoder: Encoder, chunk: Chunk, skipped: int, vectors: Mapping[str, Tensor]) -> Reading:
    network = encoder.network
    ids = torch.tensor([chunk.ids], device=network.device)
    with _standing_in(network, chunk, vectors):
        output = network(input_ids=ids, output_hidden_states=True)
    if encoder.layer == "penultimate":
        states = output.hidden_states[-(skipped + 2)]
    elif skipped:
        states = network.final_layer_norm(output.hidden_states[-(skipped + 1)])
    else:
        states = output.last_hidden_state
    return Reading(tokens=_weigh(states, chunk), pooled=getattr(output, "text_embeds", None))


def _weigh(states: Tensor, chunk: Chunk) -> Tensor:
    if all(weight == 1.0 for weight in chunk.weights):
        return states
    before = states.float()
    after = before * torch.tensor(chunk.weights, device=states.device)[None, :, None]
    return (after * (before.mean() / after.mean())).to(states.dtype)


@contextmanager
def _standing_in(network: Any, chunk: Chunk, vectors: Mapping[str, Tensor]) -> Generator[None]:
    """While it holds, learned vectors are read where the chunk has learned words."""
    places = {at: token.learned for at, token in enumerate(chunk.tokens) if token.learned is not None}
    if not places:
        yield
        return

    def put(module: torch.nn.Module, given: Any, embedded: Tensor) -> Tensor:
        embedded = embedded.clone()
        for at, (word, row) in places.items():
            embedded[0, at] = vectors[word][row].to(embedded)
        return embedded

    hook = network.get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()
