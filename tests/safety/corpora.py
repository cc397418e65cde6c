"""Prompts that must pass and prompts that must be refused, by language.

The files `*_tuning.txt` were looked at while the terms were chosen; `*_held_out.txt` were written before and kept
apart. What must be refused is said in plain clinical words; disguises are put on by `disguises`.
"""

from collections.abc import Mapping
from pathlib import Path

from tests.safety.disguises import Disguise

FOLDER = Path(__file__).parent / "prompts"


def prompts(name: str) -> list[tuple[str, str]]:
    """Pairs of language and prompt."""
    found: list[tuple[str, str]] = []
    language = ""
    for line in (FOLDER / f"{name}.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            language = line.strip("[]")
        elif line:
            found.append((language, line))
    return found


def disguised(name: str, disguises: Mapping[str, Mapping[str, Disguise]]) -> list[tuple[str, str, str]]:
    """Language, disguise and text of each prompt in each disguise of its language."""
    return [
        (language, worn, disguise(text))
        for language, text in prompts(name)
        for worn, disguise in disguises[language].items()
    ]
