"""Parts made to put one person's face onto another: what they are called, and their refusal.

The names are data, `identity_transfer.json`. A name is taken apart where its letters change from small to large, at
signs and at the folders of a path: `words` are runs of such parts from boundary to boundary (a number may follow),
`starts` begin at a boundary, `anywhere` is looked for without any, `spelt` in exactly these letters. So `SurfaceID`,
`pulled`, `troops` and `nuclear-reactor` pass, and so does a detailer of faces, which knows nobody.
"""

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tintype import errors
from tintype.errors import FieldError

PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
LONGEST_RUN = 6
"""Parts that are read as one word at most: `PuL-ID-Flux` has three."""


class IdentityTransferError(errors.InvalidRequestError):
    """Parts that put one person's face onto another are not used here."""

    code = "identity_transfer_refused"


@dataclass(frozen=True, kw_only=True)
class Names:
    """What such parts are called, by where in a name it must stand."""

    words: frozenset[str]
    starts: tuple[str, ...]
    anywhere: tuple[str, ...]
    spelt: tuple[str, ...]


def refuse_identity_transfer(names: Iterable[str], *, field: str = "model") -> None:
    """Let names of nodes, models and files through, unless one is of a part that transfers identity.

    Raises:
        IdentityTransferError: it names which.
    """
    found = [name for name in names if is_identity_transfer(name)]
    if found:
        detail = (
            f"{', '.join(repr(name[:80]) for name in found[:5])} is made to put a person's face onto another picture, "
            "which is not done here; leave it out"
        )
        raise IdentityTransferError(detail, fields=(FieldError(loc=("body", field), msg=detail),))


def is_identity_transfer(name: str) -> bool:
    """Whether a node, model or file is called as such parts are."""
    known = _names()
    plain = unicodedata.normalize("NFKC", name)
    if any(spelling in plain for spelling in known.spelt):
        return True
    parts = [part.lower() for part in PARTS.findall(plain)]
    whole = "".join(parts)
    if any(term in whole for term in known.anywhere):
        return True
    rests = ["".join(parts[start:]) for start in range(len(parts))]
    if any(rest.startswith(known.starts) for rest in rests):
        return True
    runs = {
        "".join(parts[start:end])
        for start in range(len(parts))
        for end in range(start + 1, min(start + LONGEST_RUN, len(parts)) + 1)
    }
    return not known.words.isdisjoint(runs)


@cache
def _names() -> Names:
    data = json.loads((Path(__file__).parent / "identity_transfer.json").read_text())
    return Names(
        words=frozenset(data["words"]),
        starts=tuple(data["starts"]),
        anywhere=tuple(data["anywhere"]),
        spelt=tuple(data["spelt"]),
    )
