"""Whether a model reads the script that a prompt is written in; what it does not read says nothing to it."""

import unicodedata

from tintype.catalog.manifest import Manifest

SCRIPTS = {
    "CYRILLIC": ("Cyrillic", ("ru", "uk", "be", "bg", "sr", "mk", "kk")),
    "THAI": ("Thai", ("th",)),
    "CJK": ("Chinese", ("zh", "ja")),
    "HIRAGANA": ("Japanese", ("ja",)),
    "KATAKANA": ("Japanese", ("ja",)),
    "HANGUL": ("Korean", ("ko",)),
    "ARABIC": ("Arabic", ("ar", "fa", "ur")),
    "HEBREW": ("Hebrew", ("he",)),
    "GREEK": ("Greek", ("el",)),
    "DEVANAGARI": ("Devanagari", ("hi", "mr", "ne")),
}
"""By how Unicode begins the names of a script's letters: what people call it, and languages written in it."""

NAMES = {"en": "English", "zh": "Chinese", "ru": "Russian", "th": "Thai", "es": "Spanish", "ja": "Japanese"}
"""What people call a language; others are called by their code."""


def warnings(prompt: str, manifest: Manifest) -> list[dict[str, str]]:
    """What to tell whoever asked, each with a `code` and a `message`; nothing where the model reads every script."""
    languages = manifest.prompt_languages
    unread = [name for name, written in _scripts(prompt) if not set(written) & set(languages)]
    if not unread or "multilingual" in languages:
        return []
    read = " and ".join(NAMES.get(each, each) for each in languages)
    message = (
        f"{manifest.id!r} reads {read} only: what is written in {' and '.join(unread)} script says "
        "nothing to it. Write the prompt in a language it reads."
    )
    return [{"code": "language_unread", "message": message}]


def _scripts(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """The scripts of `SCRIPTS` that letters of the text belong to, each once, in their order."""
    starts = (unicodedata.name(letter, "").split(maxsplit=1)[:1] for letter in text if letter.isalpha())
    return list(dict.fromkeys(SCRIPTS[start[0]] for start in starts if start and start[0] in SCRIPTS))
