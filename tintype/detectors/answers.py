"""What a guard language model answered, read strictly: what is not exactly an answer is none."""

import re
from dataclasses import dataclass
from typing import Literal, cast

from tintype.detectors.scoring import DetectorFailedError

ANSWER = re.compile(
    r"\s*Safety: (?P<severity>Safe|Unsafe|Controversial)[ \t]*\n"
    r"Categories: (?P<categories>[^\n]+?)[ \t]*"
    r"(?:\nRefusal: (?:Yes|No)[ \t]*)?\s*"
)
"""Qwen3Guard-Gen: a line of severity, a line of categories; `Refusal` follows where an answer was judged."""
NO_CATEGORY = "None"
Severity = Literal["Safe", "Unsafe", "Controversial"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One judgement: `severity` is Safe, Unsafe or Controversial; `categories` is empty exactly if it is Safe."""

    severity: Severity
    categories: tuple[str, ...]


def read(text: str, known: frozenset[str]) -> Answer:
    """The judgement in `text`, which may speak of the categories in `known` only.

    Raises:
        DetectorFailedError: it is not one complete answer without contradiction. What was judged is not repeated.
    """
    match = ANSWER.fullmatch(text)
    if match is None:
        raise DetectorFailedError("the guard's answer is not of the form `Safety: ...`, `Categories: ...`")
    severity, listed = cast("Severity", match["severity"]), match["categories"]
    categories = () if listed == NO_CATEGORY else tuple(part.strip() for part in listed.split(","))
    if not set(categories) <= known:
        raise DetectorFailedError("the guard's answer names a category that its description does not")
    if (severity == "Safe") != (not categories):
        raise DetectorFailedError(
            "the guard's answer contradicts itself: a severity without a category, or the reverse"
        )
    return Answer(severity=severity, categories=categories)
