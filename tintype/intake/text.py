"""Text as it may be stored and shown: what is invisible and changes how a line reads or breaks what carries it is gone.

This is not escaping: whoever writes text into HTML, XML, a header or a shell escapes it there.
"""

import re
import unicodedata

NEW_LINES = re.compile("\r\n|[\r\x85\u2028\u2029]")
# Controls except tab and newline (NUL is what PostgreSQL cannot keep), DEL and C1.
CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
# Marks, embeddings, overrides and isolates: with them `photo\u202egnp.exe` reads as `photoexe.png`.
DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# Half characters, the byte order mark, interlinear anchors. Joiners stay: emoji and Persian need them.
BROKEN = "\ud800-\udfff\ufeff\ufff9-\ufffb"
NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
UNWANTED = re.compile(f"[{CONTROLS}{DIRECTION}{BROKEN}{NONCHARACTERS}]")
MAX_MARKS = 30
"""Of one character, as in Unicode's stream-safe format: NFC takes quadratic time over a crowd of combining marks."""
# Where there may be more: marks are neither letters nor spaces, and one stands for two at most.
MANY_MARKS = re.compile(r"\w?[^\w\s\x00-\u02ff]{12,}")


def clean_text(text: str) -> str:
    """`text` in NFC without control, direction and half characters and noncharacters; tab and newline stay.

    Every way of ending a line becomes a newline, and no character keeps more than `MAX_MARKS` combining marks.
    Cleaning what is clean changes nothing.
    """
    seen = UNWANTED.sub("", NEW_LINES.sub("\n", text))
    return unicodedata.normalize("NFC", MANY_MARKS.sub(_with_few_marks, seen))


def _with_few_marks(run: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for char in run[0]:
        parts = unicodedata.normalize("NFD", char)
        marks = marks + len(parts) if unicodedata.combining(parts[0]) else len(parts) - 1
        if marks <= MAX_MARKS:
            kept.append(char)
    return "".join(kept)


def clean_line(text: str, *, max_chars: int = 200) -> str:
    """`text` cleaned, as one line of at most `max_chars`: for names, and for strangers' words in messages."""
    line = " ".join(clean_text(text[: 8 * max_chars]).split())
    return line if len(line) <= max_chars else line[: max_chars - 1] + "…"
