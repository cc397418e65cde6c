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


def clean_text(text: str) -> str:
    """`text` in NFC without control, direction and half characters and noncharacters; tab and newline stay.

    Every way of ending a line becomes a newline. Cleaning what is clean changes nothing.
    """
    return unicodedata.normalize("NFC", UNWANTED.sub("", NEW_LINES.sub("\n", text)))


def clean_line(text: str, *, max_chars: int = 200) -> str:
    """`text` cleaned, as one line of at most `max_chars`: for names, and for strangers' words in messages."""
    line = " ".join(clean_text(text[: 8 * max_chars]).split())
    return line if len(line) <= max_chars else line[: max_chars - 1] + "…"
