"""Ages below 18 that a text states, in figures and in words."""

import re
from collections.abc import Iterable

from tintype.safety.text.folding import fold

ADULT_YEARS = 18
IN_WORDS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "diez": 10, "once": 11, "doce": 12, "trece": 13, "catorce": 14, "quince": 15, "dieciséis": 16, "diecisiete": 17,
    "десять": 10, "одиннадцать": 11, "двенадцать": 12, "тринадцать": 13, "четырнадцать": 14, "пятнадцать": 15,
    "шестнадцать": 16, "семнадцать": 17, "десяти": 10, "тринадцати": 13, "четырнадцати": 14, "пятнадцати": 15,
    "шестнадцати": 16, "семнадцати": 17,
    "สิบ": 10, "สิบเอ็ด": 11, "สิบสอง": 12, "สิบสาม": 13, "สิบสี่": 14, "สิบห้า": 15, "สิบหก": 16, "สิบเจ็ด": 17,
    "五": 5, "六": 6, "七": 7, "八": 8, "九": 9, "十": 10, "十一": 11, "十二": 12, "十三": 13, "十四": 14, "十五": 15,
    "十六": 16, "十七": 17,
}  # fmt: skip
YEARS = {fold(word): years for word, years in IN_WORDS.items()}
LONGEST_FIRST = tuple(sorted(YEARS, key=len, reverse=True))
THAI_TENS = "|".join(fold(word) for word in ("ยี่", "สาม", "สี่", "ห้า", "หก", "เจ็ด", "แปด", "เก้า"))
TENS = re.compile(rf"(?:ty[\s-]?|[一二三四五六七八九百几]|{THAI_TENS})$")
"""Before a number in words: it goes on from here (`twenty-one`)."""
UNIT = re.compile(
    r"y ?o\b|yrs?\b|years?[\s-]{0,2}(?:olds?\b|of\s)|anos?\b|ปี|ขวบ|周岁|岁|歲"
    rf"|{fold('лет')}(?:{fold('н')}|\b)|{fold('год')}(?:{fold('а')}|{fold('иков')}|{fold('ика')})?\b"
)
UNIT_BEGINNINGS = ("yo", "y o", "yr", "year", "ano", "ปี", "ขวบ", "岁", "歲", fold("лет"), fold("год"))
"""Looked for first: most texts hold none of them, and looking for a fixed text is many times faster."""
FIGURE = re.compile(r"\d")
BETWEEN = " \t\n-‐‑‒–—._/,:"
FIGURES = re.compile(r"(?<![\d.,])\d{1,2}$")
REACH = 24
"""How far before its unit a number may begin."""
ANNOUNCED = re.compile(
    r"(?:\bage[ds]?\b|\b(?:is|girl|boy)\b|\bedad(?:\sde)?\b|\bcumple\b|"
    rf"{fold('возраст')}\w{{0,3}}|{fold('อายุ')}|年龄|年齡|年仅|芳龄)"
    r"[\s\-._/,:=]{0,3}(?P<years>\d{1,2})(?![\d%.]|\s?(?:mm|k|px|cm|m|kg|x|st)\b)"
)


def is_below_18(readings: Iterable[str]) -> bool:
    """Whether any of these folded readings of a text names an age below 18."""
    return any(_states_minority(text) for text in readings)


def _states_minority(text: str) -> bool:
    if FIGURE.search(text) and any(int(found["years"]) < ADULT_YEARS for found in ANNOUNCED.finditer(text)):
        return True
    if not any(beginning in text for beginning in UNIT_BEGINNINGS):
        return False
    return any(_years_before(text, unit.start()) < ADULT_YEARS for unit in UNIT.finditer(text))


def _years_before(text: str, end: int) -> int:
    """The number that ends right before `end`; a grown-up age if there is none."""
    before = text[max(0, end - REACH) : end].rstrip(BETWEEN)
    if figures := FIGURES.search(before):
        return int(figures[0])
    if not before.endswith(LONGEST_FIRST):
        return ADULT_YEARS
    word = next(word for word in LONGEST_FIRST if before.endswith(word))
    return ADULT_YEARS if TENS.search(before.removesuffix(word)) else YEARS[word]
