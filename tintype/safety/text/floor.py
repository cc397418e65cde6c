"""The detector that is always there: scores texts by words and patterns, 1 for found and 0 for not.

It reads English, Russian, Thai, Spanish and Chinese, and no meaning: it is the floor under detectors that do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from tintype.safety.contract import Label, Pixels, Scores
from tintype.safety.text import ages, folding, terms
from tintype.safety.text.terms import Group, Phrase, Vocabulary

LABELS = frozenset({Label.SEXUAL, Label.SUGGESTIVE, Label.MINOR, Label.UNDRESS, Label.FACE_SWAP})
SAYS: Mapping[Group, tuple[Label, ...]] = {
    Group.SEXUAL: (Label.SEXUAL,),
    Group.SUGGESTIVE: (Label.SUGGESTIVE,),
    Group.MINOR: (Label.MINOR,),
    Group.SEXUAL_MINOR: (Label.SEXUAL, Label.MINOR),
    Group.UNDRESS: (Label.UNDRESS,),
    Group.FACE_SWAP: (Label.FACE_SWAP,),
}
SAYS_NEGATIVE: Mapping[Group, tuple[Label, ...]] = {
    Group.CLOTHES: (Label.SUGGESTIVE,),
    Group.ADULT: (Label.MINOR,),
}
"""To avoid nudity is harmless; to avoid clothes or grown-ups asks for what the prompt does not say."""
LEAST_TORN = 6
"""Letters of a word that is looked for in two pieces; shorter ones arise by chance (`the pen is red`)."""
LEAST_TORN_LETTER = 4
"""The same where one of the pieces is a single letter."""


class WordFloor:
    """The detector named `words`."""

    text_labels = LABELS
    image_labels = frozenset[Label]()

    def score_text(self, text: str) -> Scores:
        """1 for each label that words in `text` speak of."""
        return _scores(text, SAYS, with_ages=True)

    def score_negative(self, text: str) -> Scores:
        """The same for a negative prompt: what matters is what it wants gone."""
        if folding.has_negative_weights(text):
            return self.score_text(text)
        return _scores(text, SAYS_NEGATIVE, with_ages=False)

    def score_image(self, pixels: Pixels) -> Scores:
        """Nothing: there are no words in pixels."""
        del pixels
        return {}


def _scores(text: str, says: Mapping[Group, tuple[Label, ...]], *, with_ages: bool) -> Scores:
    folded = folding.fold(text)
    rows, unspaced = folding.readings(folded), folding.unsegmented(folded)
    labels = {label for group in _groups(rows, unspaced) for label in says.get(group, ())}
    if with_ages and ages.is_below_18({unspaced, *(" ".join(row) for row in rows)}):
        labels.add(Label.MINOR)
    return {label: float(label in labels) for label in LABELS}


def _groups(rows: Iterable[Sequence[str]], unspaced: str) -> frozenset[Group]:
    """The groups of all terms in a text, given its readings."""
    vocabulary = terms.vocabulary()
    groups: set[Group] = set()
    known: dict[str, frozenset[str]] = {}
    for words in rows:
        groups.update(_in_words(words, vocabulary, known))
        groups.update(_hidden(words, vocabulary))
    groups.update(_unsegmented(unspaced, vocabulary))
    return frozenset(groups)


def _in_words(words: Sequence[str], vocabulary: Vocabulary, known: dict[str, frozenset[str]]) -> Iterator[Group]:
    """The groups of phrases in a row of words; words that a harmless phrase explains are passed over."""
    for word in set(words) - known.keys():
        known[word] = vocabulary.literals(word)
    literals = [known[word] for word in words]
    begun = _begun(literals, vocabulary)
    harmless = [(start, phrase) for start, phrase in begun if phrase.group is Group.HARMLESS]
    for position in {at for start, phrase in harmless for at in _matched(phrase, literals, start)}:
        literals[position] = frozenset()
    return (phrase.group for start, phrase in begun if literals[start] and _matched(phrase, literals, start))


def _begun(literals: Sequence[frozenset[str]], vocabulary: Vocabulary) -> list[tuple[int, Phrase]]:
    """Where which phrases begin, as far as all their steps occur somewhere."""
    there = frozenset[str]().union(*literals)
    possible = {
        name: [
            phrase
            for phrase in vocabulary.starting.get(name, ())
            if all(not there.isdisjoint(choices) for _, choices in phrase.steps)
        ]
        for name in there
    }
    return [(start, phrase) for start, names in enumerate(literals) for name in names for phrase in possible[name]]


def _matched(phrase: Phrase, literals: Sequence[frozenset[str]], start: int) -> tuple[int, ...]:
    """Where the steps of `phrase` stand if the first is at `start`; nowhere if a later one is out of reach.

    Every position that a step can take is followed, one way to each, so the work is bounded by the gaps.
    """
    places: list[tuple[int, ...]] = [(start,)]
    for gap, choices in phrase.steps[1:]:
        reached = {
            position: place
            for place in places
            for position in range(place[-1] + 1, min(place[-1] + gap + 2, len(literals)))
            if not choices.isdisjoint(literals[position])
        }
        places = [(*place, position) for position, place in reached.items()]
    return places[0] if places else ()


def _hidden(words: Sequence[str], vocabulary: Vocabulary) -> Iterator[Group]:
    """The groups of words that are spelled out with spaces or torn in two."""
    for run in folding.spelled_out(words):
        for reading in {run, folding.lettered(run), folding.lettered(run, second=True)}:
            yield from vocabulary.groups_within(reading)
    for first, second in set(pairwise(words)):
        length = len(first) + len(second)
        if length >= LEAST_TORN or (length >= LEAST_TORN_LETTER and min(len(first), len(second)) == 1):
            yield from vocabulary.groups_alone(first + second, beyond=len(first))


def _unsegmented(text: str, vocabulary: Vocabulary) -> Iterator[Group]:
    """The groups of terms in a run of Thai or Chinese, except where a harmless one explains the letters."""
    text = vocabulary.harmless.sub("\n", text)
    for group, term in vocabulary.runs:
        if term in text:
            yield group
    for group, pattern in vocabulary.gapped:
        if pattern.search(text):
            yield group
