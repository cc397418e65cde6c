"""Words that were learned from pictures (textual inversion): vectors that a prompt calls by a word of its own.

A file has one tensor [vectors, width] or [width] for each text encoder; which one is meant shows in its width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from tintype.engine.loading import ModelBrokenError
from tintype.providers.contract import GenerationRequest

ROLE = "embedding"
"""Companions of this role, or of `embedding:WORD`, hold learned words; without a word the file's name is it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedWord:
    """A word and its vectors by their width. Two are the same only if they are one object."""

    word: str
    by_width: Mapping[int, Tensor]

    def vectors(self, width: int) -> Tensor:
        """Its vectors [vectors, width] for an encoder of that width.

        Raises:
            ModelBrokenError: it was learned for another model.
        """
        if width not in self.by_width:
            known = ", ".join(str(each) for each in sorted(self.by_width))
            raise ModelBrokenError(
                f"the learned word {self.word!r} has vectors of {known} numbers and this model reads {width}; "
                "choose one that was learned for this model"
            )
        return self.by_width[width]


def of(request: GenerationRequest) -> tuple[LearnedWord, ...]:
    """The learned words a request brings.

    Raises:
        ModelBrokenError: a file cannot be read, or holds no vectors.
    """
    found: list[LearnedWord] = []
    for role, files in sorted(request.companions.items()):
        kind, _, word = role.partition(":")
        if kind == ROLE:
            paths = sorted(Path(files.folder).glob("*.safetensors"))
            found.extend(_read(path, word or path.stem, path.stat().st_mtime_ns) for path in paths)
    return tuple(found)


def lengths(words: Sequence[LearnedWord]) -> Mapping[str, int]:
    """How many tokens each word takes."""
    return {each.word: len(next(iter(each.by_width.values()))) for each in words}


@lru_cache(maxsize=64)
def _read(path: Path, word: str, written_ns: int) -> LearnedWord:
    """`written_ns` makes a file that was replaced another one."""
    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelBrokenError(f"{path} cannot be read ({error}); install it anew") from error
    rows = [tensor if tensor.ndim > 1 else tensor[None] for tensor in tensors.values()]
    vectors = {row.shape[1]: row.float() for row in rows if row.ndim == 2}
    if not vectors:
        raise ModelBrokenError(f"{path} holds no vectors; a learned word has one tensor for each text encoder")
    return LearnedWord(word=word, by_width=vectors)
