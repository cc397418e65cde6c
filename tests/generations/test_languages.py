"""What a prompt's script says of whether the model reads it."""

import pytest

from tests.processes import SCRIPTED
from tintype.catalog.manifest import Manifest
from tintype.generations import languages


def unread(prompt: str, *read: str) -> str:
    manifest = Manifest.model_validate({**SCRIPTED, "prompt_languages": read})
    return " ".join(warning["message"] for warning in languages.warnings(prompt, manifest))


@pytest.mark.parametrize("prompt", ["a café at night, 4k", "ein Bär", "½ 😀 → ★", ""])
def test_latin_letters_signs_and_nothing_are_fine(prompt: str):
    assert unread(prompt, "en") == ""


@pytest.mark.parametrize(
    ("prompt", "script"),
    [
        ("кот", "Cyrillic"),
        ("แมว", "Thai"),
        ("猫", "Chinese"),
        ("ねこ", "Japanese"),
        ("고양이", "Korean"),
        ("قطة", "Arabic"),
    ],
)
def test_a_script_that_is_not_read_is_named(prompt: str, script: str):
    assert f"{script} script" in unread(f"{prompt}, a cat", "en")


def test_a_model_that_reads_the_language_warns_of_nothing():
    assert unread("猫", "en", "zh") == ""
    assert unread("кот и แมว", "multilingual") == ""
    assert "Thai" in unread("кот и แมว", "ru")
    assert "Cyrillic" not in unread("кот и แมว", "ru")
