"""Prompts as CLIP's text encoders take them: chunks of tokens, each with a weight. Needs tokenizers, no weights.

A CLIP encoder reads 77 tokens: a first, a last, and 75 of the prompt. A longer prompt becomes several chunks that are
read one by one and stand one behind the other. A chunk ends at the last comma of its last 20 tokens where there is one,
so that what belongs together is read together.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import transformers

from tintype.engine import emphasis

REACH = 20
"""So many tokens back, a comma is looked for."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token and its weight. `learned` names a vector, by word and row, that stands in its place; `id` is then 0."""

    id: int
    weight: float = 1.0
    learned: tuple[str, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What an encoder reads at once, filled up to its length, first and last token included."""

    tokens: tuple[Token, ...]

    @property
    def ids(self) -> list[int]:
        """The tokens' ids."""
        return [token.id for token in self.tokens]

    @property
    def weights(self) -> list[float]:
        """The tokens' weights."""
        return [token.weight for token in self.tokens]


@lru_cache(maxsize=16)
def tokenizer(folder: Path) -> Any:
    """The CLIP tokenizer in a folder. The same for the same folder, so it must not be changed."""
    return transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def split(prompt: str, tokenizer: Any, *, learned: Mapping[str, int], chunks: int = 1) -> tuple[Chunk, ...]:
    """The prompt in chunks, at least `chunks` of them; those that are too many are empty.

    `learned` has the number of vectors of each word that was learned (textual inversion).
    """
    room = tokenizer.model_max_length - 2
    comma = tokenizer(",", add_special_tokens=False).input_ids[0]
    filled: list[list[Token]] = []
    for part in emphasis.parse(prompt):
        units = [unit for fragment in part for unit in _units(fragment, tokenizer, learned)]
        filled.extend(_fill(units, room, comma))
    filled.extend([] for _ in range(chunks - len(filled)))
    return tuple(_frame(tokens, tokenizer) for tokens in filled)


def _units(fragment: emphasis.Fragment, tokenizer: Any, learned: Mapping[str, int]) -> Iterator[list[Token]]:
    """What must not be divided: single tokens, and all vectors of a learned word."""
    words = sorted(learned, key=len, reverse=True)
    pattern = "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words)
    by_folded = {word.casefold(): word for word in words}
    for text in re.split(f"({pattern})", fragment.text, flags=re.IGNORECASE) if words else [fragment.text]:
        if (word := by_folded.get(text.casefold())) is not None:
            yield [Token(id=0, weight=fragment.weight, learned=(word, row)) for row in range(learned[word])]
        else:
            for number in tokenizer(text, add_special_tokens=False).input_ids:
                yield [Token(id=number, weight=fragment.weight)]


def _fill(units: Sequence[list[Token]], room: int, comma: int) -> list[list[Token]]:
    chunks: list[list[list[Token]]] = [[]]
    for unit in units:
        if sum(map(len, chunks[-1])) + len(unit) > room:
            chunks.append(_cut(chunks[-1], comma))
        chunks[-1].append(unit[:room])
    return [[token for unit in chunk for token in unit] for chunk in chunks]


def _cut(full: list[list[Token]], comma: int) -> list[list[Token]]:
    """Take from a full chunk, and return, what stands behind the last comma near its end."""
    nearest = max(0, len(full) - REACH)
    commas = [index for index in range(nearest, len(full)) if full[index][0].id == comma]
    end = commas[-1] + 1 if commas else len(full)
    behind = full[end:]
    del full[end:]
    return behind


def _frame(tokens: list[Token], tokenizer: Any) -> Chunk:
    first, last, filler = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    framed = (Token(id=first), *tokens, Token(id=last))
    return Chunk(tokens=framed + (Token(id=filler),) * (tokenizer.model_max_length - len(framed)))
