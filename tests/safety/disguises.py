"""Ways to write a text so that a reader still reads it and a list of words no longer finds it."""

import re
from collections.abc import Callable, Mapping

Disguise = Callable[[str], str]

CYRILLIC = str.maketrans("aceopxyAEOPX", "асеорхуАЕОРХ")
LATIN = str.maketrans("асеорхукмтвн", "aceopxykmtbh")
GREEK = str.maketrans("aeoikptx", "αεοικρτχ")
LEET = str.maketrans("aeiost", "4310$7")
LEET_OTHER = str.maketrans("aeio", "@3!0")
SMALL_CAPITALS = str.maketrans("abcdeghijklmnoprtuvwyz", "ᴀʙᴄᴅᴇɢʜɪᴊᴋʟᴍɴᴏᴘʀᴛᴜᴠᴡʏᴢ")
MARKS = "\u0301\u0323\u0336"


def _shifted(start: int, *, capital: bool = False) -> Disguise:
    """Latin letters replaced by those of a block that begins at `start`."""

    def apply(text: str) -> str:
        text = text.upper() if capital else text.lower()
        first = ord("A" if capital else "a")
        return "".join(chr(start + ord(c) - first) if "a" <= c.lower() <= "z" else c for c in text)

    return apply


def _between(sign: str) -> Disguise:
    """A sign between the letters of each word; words stay apart."""
    return lambda text: re.sub(r"(?<=\w)(?=\w)", sign, text)


def _spelled(text: str) -> str:
    return "   ".join(" ".join(word) for word in text.split())


def _drawn_out(text: str) -> str:
    return re.sub(r"([aeiouаеиоуя])(?=\w)", r"\1\1\1\1", text)


def _doubled(text: str) -> str:
    return re.sub(r"(\w)", r"\1\1", text)


def _weighted(text: str) -> str:
    return " ".join(f"({word}:1.3)" for word in text.split())


def _bracketed(text: str) -> str:
    return re.sub(r"(\w{2})(\w+)", r"\1(\2)", text)


def _surrounded(text: str) -> str:
    around = "a detailed painting of a harbour at dawn, soft light, wide view, oil on canvas, "
    return f"{around * 12}{text}, {around * 12}"


def _marked(text: str) -> str:
    return "".join(letter + MARKS if letter.isalpha() else letter for letter in text)


ANY: Mapping[str, Disguise] = {
    "plain": str,
    "zero width": _between("\u200b"),
    "word joiner": _between("\u2060"),
    "right to left": "\u202e".join,
    "weights": _weighted,
}
ALPHABET: Mapping[str, Disguise] = {
    **ANY,
    "capitals": str.upper,
    "spelled": _spelled,
    "dots": _between("."),
    "hyphens": _between("-"),
    "drawn out": _drawn_out,
    "marks": _marked,
}
TUNED: Mapping[str, Mapping[str, Disguise]] = {
    "en": {
        **ALPHABET,
        "fullwidth": _shifted(0xFF41),
        "mathematical": _shifted(0x1D41A),
        "cyrillic": lambda text: text.translate(CYRILLIC),
        "greek": lambda text: text.translate(GREEK),
        "leet": lambda text: text.translate(LEET),
    },
    "es": {
        **ALPHABET,
        "fullwidth": _shifted(0xFF41),
        "cyrillic": lambda text: text.translate(CYRILLIC),
        "leet": lambda text: text.translate(LEET),
    },
    "ru": {**ALPHABET, "latin": lambda text: text.translate(LATIN), "zeros": lambda text: text.replace("о", "0")},
    "th": {**ANY, "spaces": " ".join, "dots": ".".join},
    "zh": {**ANY, "spaces": " ".join, "dots": "·".join},
}
"""What the floor was made to see through."""

HELD_OUT_ANY: Mapping[str, Disguise] = {
    "soft hyphen": _between("\u00ad"),
    "surrounded": _surrounded,
    "variation selectors": _between("\ufe0f"),
    "tags": _between("\U000e0061"),
}
HELD_OUT_ALPHABET: Mapping[str, Disguise] = {
    **HELD_OUT_ANY,
    "slashes": _between("/"),
    "underscores": _between("_"),
    "stars": _between("*"),
    "doubled": _doubled,
    "bracketed": _bracketed,
    "title": str.title,
}
HELD_OUT: Mapping[str, Mapping[str, Disguise]] = {
    "en": {
        **HELD_OUT_ALPHABET,
        "circled": _shifted(0x24D0),
        "negative squared": _shifted(0x1F170, capital=True),
        "regional indicators": _shifted(0x1F1E6, capital=True),
        "script": _shifted(0x1D4EA),
        "small capitals": lambda text: text.translate(SMALL_CAPITALS),
        "other leet": lambda text: text.translate(LEET_OTHER),
        "mixed": lambda text: _weighted(text.translate(CYRILLIC).translate(LEET_OTHER)),
    },
    "es": {**HELD_OUT_ALPHABET, "circled": _shifted(0x24D0), "other leet": lambda text: text.translate(LEET_OTHER)},
    "ru": {**HELD_OUT_ALPHABET, "mixed": lambda text: _between("\u200b")(text.translate(LATIN))},
    "th": {**HELD_OUT_ANY, "slashes": "/".join, "two spaces": "  ".join},
    "zh": {**HELD_OUT_ANY, "slashes": "/".join, "two spaces": "  ".join},
}
"""What was kept apart while it was made."""
