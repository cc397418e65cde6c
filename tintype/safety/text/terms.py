"""The words and phrases of the floor, one file per language in `terms/`, and how they are written there.

Languages with spaces between words: `word` stands for itself, `wor*` for every word that begins so, `this|that` for
either, `put ..3 here` for both with at most three words between. Thai and Chinese: a run of letters, wherever it
stands, and `a..3b` for both with at most three letters between. All of it is folded like the texts it is looked for in.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources

from tintype.safety.text import folding

LANGUAGES = ("en", "ru", "th", "es", "zh")
HEAD = 3
"""Letters that must stand before a `*`; literals are found by so many of their first letters."""
LEAST_WITHIN = 4
"""Letters of a word that is looked for in the middle of others."""


class Group(StrEnum):
    """What a term says."""

    SEXUAL = "sexual"
    SUGGESTIVE = "suggestive"
    MINOR = "minor"
    SEXUAL_MINOR = "sexual_minor"
    """Says both at once."""
    UNDRESS = "undress"
    FACE_SWAP = "face_swap"
    HARMLESS = "harmless"
    """Contains a term of another group and means something else; what lies inside it does not count."""
    CLOTHES = "clothes"
    """In a negative prompt: wants no clothes."""
    ADULT = "adult"
    """In a negative prompt: wants nobody grown up."""


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """Steps in a row: any of `literals`, at most `gap` other words after the step before."""

    group: Group
    steps: tuple[tuple[int, frozenset[str]], ...]


@dataclass(frozen=True, kw_only=True)
class Literal:
    """A folded word, or with `is_prefix` the beginning of words; `groups` are those it belongs to by itself."""

    stem: str
    is_prefix: bool
    groups: frozenset[Group]

    def fits(self, word: str) -> bool:
        """Whether `word` is this one, or begins so."""
        return word.startswith(self.stem) if self.is_prefix else word == self.stem


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """All terms of all languages, laid out to be looked up.

    A literal's name is its stem, followed by `*` if it is a prefix.
    """

    starting: Mapping[str, tuple[Phrase, ...]]
    """The phrases whose first step a literal is, by its name."""
    headed: Mapping[str, Mapping[str, Literal]]
    """The literals by their first three letters and then by name."""
    within: Mapping[str, tuple[Literal, ...]]
    """The literals that stand alone and have at least four letters, by their first four."""
    drawn_out: Mapping[str, frozenset[str]]
    """The names of the literals that a word with every repeated letter once may stand for, by their own such form."""
    runs: tuple[tuple[Group, str], ...]
    """Terms of languages without spaces."""
    gapped: tuple[tuple[Group, re.Pattern[str]], ...]
    harmless: re.Pattern[str]

    def literals(self, word: str) -> frozenset[str]:
        """The names of the literals that a folded word is."""
        found = {name for name, literal in self.headed.get(word[:HEAD], NO_LITERALS).items() if literal.fits(word)}
        if calm := folding.calmed(word):
            found.update(self.drawn_out.get(calm, ()))
            for n in range(HEAD - 1, len(calm) + 1):
                found.update(self.drawn_out.get(f"{calm[:n]}*", ()))
        return frozenset(found)

    def groups_alone(self, word: str, *, beyond: int = 0) -> frozenset[Group]:
        """The groups a folded word belongs to by itself, by more than its first `beyond` letters."""
        literals = self.headed.get(word[:HEAD], NO_LITERALS).values()
        long_enough = (literal for literal in literals if len(literal.stem) > beyond)
        return NO_GROUPS.union(*(literal.groups for literal in long_enough if literal.fits(word)))

    def groups_within(self, letters: str) -> frozenset[Group]:
        """The groups of the words, of at least four letters each, that stand anywhere in a row of letters."""
        found = self.groups_alone(letters)
        for start in range(len(letters) - LEAST_WITHIN + 1):
            for literal in self.within.get(letters[start : start + LEAST_WITHIN], ()):
                if letters.startswith(literal.stem, start):
                    found |= literal.groups
        return found


NO_LITERALS: Mapping[str, Literal] = {}
NO_GROUPS = frozenset[Group]()


@cache
def vocabulary() -> Vocabulary:
    """Every term, read once."""
    phrases = [phrase for language in ("en", "ru", "es") for phrase in _phrases(language)]
    pieces = [piece for language in ("th", "zh") for piece in _pieces(language)]
    starting: dict[str, list[Phrase]] = {}
    alone: dict[str, set[Group]] = {}
    for phrase in phrases:
        for name in phrase.steps[0][1]:
            starting.setdefault(name, []).append(phrase)
            if len(phrase.steps) == 1:
                alone.setdefault(name, set()).add(phrase.group)
    literals = {
        name: Literal(stem=name.rstrip("*"), is_prefix=name.endswith("*"), groups=frozenset(alone.get(name, ())))
        for name in {name for phrase in phrases for _, step in phrase.steps for name in step}
    }
    headed: dict[str, dict[str, Literal]] = {}
    within: dict[str, list[Literal]] = {}
    drawn_out: dict[str, set[str]] = {}
    for name, literal in literals.items():
        headed.setdefault(literal.stem[:HEAD], {})[name] = literal
        drawn_out.setdefault(folding.collapsed(name), set()).add(name)
        if literal.groups and len(literal.stem) >= LEAST_WITHIN:
            within.setdefault(literal.stem[:LEAST_WITHIN], []).append(literal)
    harmless = sorted((text for group, text in pieces if group is Group.HARMLESS), key=len, reverse=True)
    counted = [(group, text) for group, text in pieces if group is not Group.HARMLESS]
    return Vocabulary(
        starting={name: tuple(found) for name, found in starting.items()},
        headed=headed,
        within={head: tuple(found) for head, found in within.items()},
        drawn_out={form: frozenset(found) for form, found in drawn_out.items()},
        runs=tuple((group, text) for group, text in counted if ".." not in text),
        gapped=tuple((group, _with_gaps(text)) for group, text in counted if ".." in text),
        harmless=re.compile("|".join(_with_gaps(text).pattern for text in harmless)),
    )


def _groups(language: str) -> Iterator[tuple[Group, str]]:
    document: Mapping[str, list[str]] = json.loads(
        resources.files("tintype.safety.text").joinpath("terms", f"{language}.json").read_text("utf-8")
    )
    for name, texts in document.items():
        for text in texts:
            yield Group(name), text


def _phrases(language: str) -> Iterator[Phrase]:
    for group, text in _groups(language):
        steps: list[tuple[int, frozenset[str]]] = []
        gap = 0
        for part in text.split():
            if part.startswith(".."):
                gap = int(part[2:])
                continue
            steps.append((gap, frozenset(_literal(choice) for choice in part.split("|"))))
            gap = 0
        yield Phrase(group=group, steps=tuple(steps))


def _literal(text: str) -> str:
    stem, star = text.removesuffix("*"), text[-1:] == "*"
    folded = folding.fold(stem)
    if folding.WORD.fullmatch(folded) is None or (star and len(folded) < HEAD):
        raise ValueError(f"{text!r} is no word")
    return f"{folded}*" if star else folded


def _pieces(language: str) -> Iterator[tuple[Group, str]]:
    for group, text in _groups(language):
        yield group, folding.fold(text)


def _with_gaps(text: str) -> re.Pattern[str]:
    parts = re.split(r"\.\.(\d)", text)
    return re.compile("".join(f".{{0,{part}}}" if index % 2 else re.escape(part) for index, part in enumerate(parts)))
