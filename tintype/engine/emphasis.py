"""What weights a prompt gives its words: `(more)`, `((much more))`, `[less]`, `(exactly:1.3)`, `\\(as written\\)`.

The notation is the one people know from AUTOMATIC1111's web UI: round brackets multiply by 1.1, square brackets
divide by it, a number after a colon replaces the 1.1. A bracket that is never closed holds to the end; one that was
never opened is an ordinary character. The word BREAK in capitals begins a new chunk of tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

STRONGER = 1.1
TOKENS = re.compile(
    r"""
    \\(?P<escaped>[()\[\]\\])
    | (?P<opened>[(\[])
    | :\s*(?P<factor>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)
    | (?P<closed>[)\]])
    | \b(?P<pause>BREAK)\b
    | (?P<plain>[^\\()\[\]:B]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """A stretch of text and the weight of its words; 1 is as written."""

    text: str
    weight: float


@dataclass
class _Piece:
    text: str
    weight: float = 1.0


Part = tuple[Fragment, ...]


def parse(prompt: str) -> tuple[Part, ...]:
    """The prompt's parts, which BREAK divides, each as fragments of equal weight; there is always at least one part."""
    parts: list[list[_Piece]] = [[]]
    opened: list[tuple[str, list[_Piece]]] = []
    for token in TOKENS.finditer(prompt):
        if bracket := token["opened"]:
            opened.append((bracket, []))
        elif (factor := token["factor"]) and opened and opened[-1][0] == "(":
            _close(parts, opened, float(factor))
        elif (bracket := token["closed"]) and opened and opened[-1][0] == {")": "(", "]": "["}[bracket]:
            _close(parts, opened, STRONGER if bracket == ")" else 1 / STRONGER)
        elif token["pause"] and not opened:
            parts.append([])
        else:
            _last(parts, opened).append(_Piece(token["escaped"] or token[0]))
    while opened:
        _close(parts, opened, STRONGER if opened[-1][0] == "(" else 1 / STRONGER)
    return tuple(_join(part) for part in parts)


def _last(parts: list[list[_Piece]], opened: Sequence[tuple[str, list[_Piece]]]) -> list[_Piece]:
    return opened[-1][1] if opened else parts[-1]


def _close(parts: list[list[_Piece]], opened: list[tuple[str, list[_Piece]]], factor: float) -> None:
    _, pieces = opened.pop()
    for piece in pieces:
        piece.weight *= factor
    _last(parts, opened).extend(pieces)


def _join(pieces: Sequence[_Piece]) -> Part:
    joined: list[Fragment] = []
    for piece in pieces:
        if joined and joined[-1].weight == piece.weight:
            joined[-1] = Fragment(text=joined[-1].text + piece.text, weight=piece.weight)
        else:
            joined.append(Fragment(text=piece.text, weight=piece.weight))
    return tuple(joined)
