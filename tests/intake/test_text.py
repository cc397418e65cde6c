"""Text: what would lie to a reader or break what carries it goes, what people write stays."""

import json
import sys
import time
import unicodedata

import pytest
from hypothesis import given, settings, strategies

from tintype.intake import text

KEPT = [
    "a\tb\nc",
    "größe",
    "日本語 の プロンプト",
    "👩‍👩‍👧 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "می‌خواهم",
    "<script>alert(1)</script>",
    "(a:1.2) [b|c] {d}",
    "שלום عالم",
]


@pytest.mark.parametrize("value", KEPT)
def test_what_people_write_stays(value):
    assert text.clean_text(value) == unicodedata.normalize("NFC", value)


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ("a\0b", "ab"),
        ("\x1b[31mred\x07", "[31mred"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("\u2066a\u2069\u200f\u061c", "a"),
        ("\ud83d alone \udc00", " alone "),
        ("\ufffe\uffff\ufdd0\U0001ffff\U0010fffe!", "!"),
        ("\ufeffa", "a"),
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("e\u0301", "é"),
        ("e\0\u0301", "é"),
    ],
)
def test_what_lies_or_breaks_goes(value, clean):
    assert text.clean_text(value) == clean


@settings(max_examples=400, deadline=None)
@given(strategies.text(strategies.characters(categories=None)))
def test_clean_text_can_be_stored_sent_and_cleaned_again(value):
    clean = text.clean_text(value)
    assert text.clean_text(clean) == clean
    assert unicodedata.is_normalized("NFC", clean)
    assert json.loads(json.dumps(clean).encode()) == clean
    assert clean.encode().decode() == clean
    assert not any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n" for char in clean)


def test_every_direction_mark_and_noncharacter_goes():
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        lies = unicodedata.bidirectional(char) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
        if lies or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
            assert text.clean_text(char) == "", hex(code)


def test_a_crowd_of_marks_is_thinned_out_and_costs_no_more_than_other_text():
    crowd = "a" + "\u0315\u0300\u0344" * 100_000
    began = time.perf_counter()
    clean = text.clean_text(crowd)
    assert time.perf_counter() - began < 5  # NFC alone takes minutes
    assert len(unicodedata.normalize("NFD", clean)) == 1 + text.MAX_MARKS
    assert text.clean_text(clean) == clean


def test_a_line_is_one_line_of_a_length():
    assert text.clean_line(" a\n\tb\0 ") == "a b"
    assert text.clean_line("x" * 300) == "x" * 199 + "…"
