"""Weights of words: what brackets and numbers in a prompt mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.engine import emphasis


def read(prompt: str) -> list[tuple[str, float]]:
    (part,) = emphasis.parse(prompt)
    return [(fragment.text, round(fragment.weight, 4)) for fragment in part]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat, sitting", [("a cat, sitting", 1.0)]),
        ("a (red) cat", [("a ", 1.0), ("red", 1.1), (" cat", 1.0)]),
        ("((red))", [("red", 1.21)]),
        ("[red]", [("red", 0.9091)]),
        ("(red:1.3)", [("red", 1.3)]),
        ("(red: .5 )", [("red", 0.5)]),
        ("(a (b:2):1.5)", [("a ", 1.5), ("b", 3.0)]),
        ("([a])", [("a", 1.0)]),
        (r"a \(b\) \[c\] \\d", [(r"a (b) [c] \d", 1.0)]),
        ("a (b", [("a ", 1.0), ("b", 1.1)]),
        ("a b) c]", [("a b) c]", 1.0)]),
        ("(a] b)", [("a] b", 1.1)]),
        ("ratio 3:2", [("ratio 3:2", 1.0)]),
        ("a:1.3)", [("a:1.3)", 1.0)]),
        ("[a:1.3)]", [("a:1.3)", 0.9091)]),
        ("back\\slash", [("back\\slash", 1.0)]),
        ("", []),
    ],
)
def test_brackets_and_numbers_weigh_the_words_between_them(prompt: str, expected: list[tuple[str, float]]):
    assert read(prompt) == expected


def test_break_divides_the_prompt_where_it_is_a_word():
    parts = emphasis.parse("a cat BREAK a (dog) BREAKFAST")
    assert [[fragment.text for fragment in part] for part in parts] == [["a cat "], [" a ", "dog", " BREAKFAST"]]


@given(st.text(alphabet=st.characters(exclude_characters="()[]\\"), max_size=200).filter(lambda s: "BREAK" not in s))
def test_a_prompt_without_brackets_stays_as_it_was_written(prompt: str):
    assert read(prompt) == ([(prompt, 1.0)] if prompt else [])


@given(st.text(alphabet="()[]\\:.1aB K", max_size=60))
def test_no_prompt_is_refused_and_no_letter_is_lost(prompt: str):
    text = "".join(fragment.text for part in emphasis.parse(prompt) for fragment in part)
    assert text.count("a") == prompt.count("a")
