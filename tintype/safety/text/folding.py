"""From a text as written to the plain words in it: disguises a reader, or a text encoder, would see through undone.

Everything here takes time linear in the text. Terms go through the same folding as texts, so it may merge letters
freely: what matters is that both sides end up equal.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Control characters and what Unicode calls default-ignorable: zero-width, bidirectional and filling characters."""
ACCENTS = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
"""Combining marks of alphabets; the vowels and tones of Thai are no accents and stay."""
APOSTROPHES = re.compile("['’‘ʼ`´]")
WEIGHTS = re.compile(r":\s{0,3}[-+]?\d{0,3}\.?\d{1,4}\s{0,3}(?=[)\]}>])")
"""`(word:1.3)` and its like: emphasis that some tools write into prompts."""
NEGATIVE_WEIGHTS = re.compile(r":\s{0,3}[-\u2212\u2013]\s{0,3}\d")

UNSEGMENTED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai, kana and Han, as a part of a character class: written without spaces between words."""
WORD = re.compile(f"[^\\W_{UNSEGMENTED}]+")
CHUNK = re.compile(f"[^\\s{UNSEGMENTED}]+")
HAS_UNSEGMENTED = re.compile(f"[{UNSEGMENTED}]")
BETWEEN_UNSEGMENTED = re.compile(f"[^\\w{UNSEGMENTED}]+|_+")

LETTERS_OF_LOOKALIKES = {
    "a": "аαɑᴀɐ", "b": "вβʙьƄ", "c": "сϲᴄ", "d": "ԁᴅđ", "e": "еєεᴇǝə", "f": "ꜰƒ", "g": "ɡɢ", "h": "һнηʜħ",
    "i": "іιıɪ", "j": "јᴊ", "k": "кκᴋ", "l": "ӏʟł", "m": "мμᴍ", "n": "ոɴпŋ", "o": "оοσօᴏø", "p": "рρᴘ", "q": "ԛǫ",
    "r": "ʀгɾ", "s": "ѕꜱʂ", "t": "тτᴛŧ", "u": "υսᴜ", "v": "νѵᴠ", "w": "ԝωᴡ", "x": "хχ", "y": "уγʏү", "z": "ᴢʐ",
}  # fmt: skip
"""Letters of other alphabets that pass for a Latin one, after folding case and accents."""
LOOKALIKES = {ord(alike): letter for letter, alikes in LETTERS_OF_LOOKALIKES.items() for alike in alikes} | {
    start + index: chr(ord("a") + index) for start in (0x1F170, 0x1F150, 0x1F1E6) for index in range(26)
}
DIGITS_AS_LETTERS = str.maketrans("01345678", "oieasgtb")
SIGNS_AS_LETTERS = str.maketrans({"@": "a", "$": "s", "€": "e", "!": "i", "+": "t", "£": "l"})
SECOND_READING = str.maketrans("169", "lbg")
ENDS = "!+,.?:;"
"""Signs that, at the end of a chunk, are punctuation and no letters."""
REPEATED = re.compile(r"(.)\1+")
TRIPLED = re.compile(r"(.)\1\1")
DOUBLED = re.compile(r"(.)\1")
MIXED = re.compile(r"\d[^\W\d]|[^\W\d]\d")
LETTER = f"[^\\W_{UNSEGMENTED}]"
SPELLED = re.compile(f"(?<!{LETTER}){LETTER}(?:[^\\w\\n]{LETTER}(?!{LETTER})){{2,}}")
"""Three or more letters that stand alone, one sign between each two: a word spelled out; more than one parts words."""
LETTER_RUN = 3
"""From so many single letters in a row on they are read as a word spelled out."""


def fold(text: str) -> str:
    """`text` with one form for each letter: compatibility forms, case, accents and look-alikes folded."""
    text = INVISIBLE.sub("", text)
    if not text.isascii():
        text = ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    text = text.casefold()
    if not text.isascii():
        text = ACCENTS.sub("", text).translate(LOOKALIKES)
    return text


def has_negative_weights(text: str) -> bool:
    """Whether a weight below zero stands in `text`: it turns a wish to avoid into a wish."""
    return NEGATIVE_WEIGHTS.search(unicodedata.normalize("NFKC", INVISIBLE.sub("", text))) is not None


def readings(folded: str) -> list[list[str]]:
    """The ways to read a folded text as a row of words.

    As it stands; with punctuation inside words dropped and digits and signs read as letters (twice, where a digit
    may be two letters); with letters that stand alone joined.
    """
    text = WEIGHTS.sub(" ", APOSTROPHES.sub("", folded))
    glued = [word for chunk in CHUNK.findall(text) if (word := _glued(chunk))]
    rows = [WORD.findall(text)]
    spelled = SPELLED.sub(lambda run: lettered("".join(WORD.findall(run[0]))), text)
    if spelled != text:
        rows.append(WORD.findall(spelled))
    for second in (False, True):
        row = [lettered(word, second=second) for word in glued]
        if row not in rows:
            rows.append(row)
    return rows


def unsegmented(folded: str) -> str:
    """Thai and Chinese with everything between their letters dropped that is neither letter nor digit; else nothing."""
    if not HAS_UNSEGMENTED.search(folded):
        return ""
    return BETWEEN_UNSEGMENTED.sub("", folded)


def spelled_out(words: Iterable[str]) -> Iterator[str]:
    """Each run of words of one letter, joined: `n o i s e` gives `noise`."""
    run: list[str] = []
    for word in words:
        if len(word) == 1:
            run.append(word)
            continue
        if len(run) >= LETTER_RUN:
            yield "".join(run)
        run.clear()
    if len(run) >= LETTER_RUN:
        yield "".join(run)


def calmed(word: str) -> str | None:
    """`word` with every repeated letter once, if it is drawn out (`nooo`, `nnooiissee`); None if it is not."""
    if DOUBLED.search(word) and (TRIPLED.search(word) or len(DOUBLED.findall(word)) >= 2):
        return collapsed(word)
    return None


def collapsed(word: str) -> str:
    """`word` with every repeated letter once."""
    return REPEATED.sub(r"\1", word)


def lettered(word: str, *, second: bool = False) -> str:
    """`word` with its digits read as letters, if it has letters too; `second` takes the rarer letter where two fit."""
    if word.isalpha() or not MIXED.search(word):
        return word
    return (word.translate(SECOND_READING) if second else word).translate(DIGITS_AS_LETTERS)


def _glued(chunk: str) -> str:
    """What stands between two spaces as one word: signs inside it read as letters, punctuation dropped."""
    if chunk.isalpha():
        return chunk
    return "".join(WORD.findall(chunk.rstrip(ENDS).translate(SIGNS_AS_LETTERS)))
