"""Which network a file of weights holds, and its weights by the names that `networks` uses.

The same ESRGAN is about in three ways of naming: that of its first release (`model.1.sub.0.RDB1.conv1.0.weight`), that
of its second (`RRDB_trunk.0.RDB1.conv1.weight`) and that of Real-ESRGAN (`body.0.rdb1.conv1.weight`).
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tintype.engine.enlarging.networks import Compact, Dense, Enlarger

Shapes = Mapping[str, tuple[int, ...]]

WRAPPERS = re.compile(r"^(?:module\.|params_ema\.|params\.|generator\.)+")
DENSE = re.compile(r"^(?:model\.1\.sub|RRDB_trunk|body)\.(\d+)\.(?:RDB|rdb)(\d)\.conv(\d)\.(?:0\.)?(weight|bias)$")
AFTER = re.compile(r"^(?:model\.1\.sub\.\d+|trunk_conv|conv_body)\.(weight|bias)$")
DOUBLING = re.compile(r"^(?:upconv|conv_up)(\d)\.(weight|bias)$")
END = re.compile(r"^(conv_first|HRconv|conv_hr|conv_last)\.(weight|bias)$")
PLACED = re.compile(r"^model\.(\d+)\.(weight|bias)$")
COMPACT = re.compile(r"^body\.(\d+)\.(weight|bias)$")

ENDS = {"conv_first": "first", "HRconv": "fine", "conv_hr": "fine", "conv_last": "last"}
COLOURS = (1, 3, 4)
"""Grey, colours, colours and how opaque they are."""
NEEDED = ("first.weight", "blocks.0.dense.0.convs.0.weight", "after.weight", "fine.weight", "last.weight")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a file holds; `names` leads from the file's names to those of the network."""

    enlarger: Enlarger
    names: Mapping[str, str]


def recognise(shapes: Shapes) -> Layout | None:
    """The layout of weights with these names and shapes; None where they are of another kind of network."""
    bare = {name: WRAPPERS.sub("", name) for name in shapes}
    if all(COMPACT.match(own) for own in bare.values()):
        return _compact(shapes, bare)
    by_place = _by_place(bare.values())
    names = {name: ours for name, own in bare.items() if (ours := _dense_name(own, by_place)) is not None}
    found = {ours: shapes[name] for name, ours in names.items()}
    if len(found) < len(shapes) or any(name not in found for name in NEEDED):
        return None
    taken, given = found["first.weight"][1], found["last.weight"][0]
    folding = math.isqrt(taken // given) or 1
    enlarger = Dense(
        colours=taken // folding**2,
        features=found["first.weight"][0],
        growth=found[NEEDED[1]][0],
        blocks=_count(found, "blocks"),
        doublings=_count(found, "doublings"),
        folding=folding,
    )
    is_usable = enlarger.factor > 0 and given == enlarger.colours in COLOURS
    return Layout(enlarger=enlarger, names=names) if is_usable else None


def _by_place(names: Iterable[str]) -> Mapping[int, str]:
    """The layers of the first release, which are numbered: the last two come after all doublings."""
    places = sorted({int(match[1]) for name in names if (match := PLACED.match(name))})
    if len(places) < 3 or places[0] != 0:
        return {}
    doublings = {place: f"doublings.{index}" for index, place in enumerate(places[1:-2])}
    return {0: "first", **doublings, places[-2]: "fine", places[-1]: "last"}


def _dense_name(own: str, by_place: Mapping[int, str]) -> str | None:
    if match := DENSE.match(own):
        block, dense, conv, kind = match.groups()
        return f"blocks.{block}.dense.{int(dense) - 1}.convs.{int(conv) - 1}.{kind}"
    if match := AFTER.match(own):
        return f"after.{match[1]}"
    if match := DOUBLING.match(own):
        return f"doublings.{int(match[1]) - 1}.{match[2]}"
    if match := END.match(own):
        return f"{ENDS[match[1]]}.{match[2]}"
    if (match := PLACED.match(own)) and int(match[1]) in by_place:
        return f"{by_place[int(match[1])]}.{match[2]}"
    return None


def _count(found: Iterable[str], part: str) -> int:
    return len({name.split(".")[1] for name in found if name.startswith(f"{part}.")})


def _compact(shapes: Shapes, bare: Mapping[str, str]) -> Layout | None:
    """Convolutions and activations in turn, as `body`; activations without weights cannot be told apart."""
    found = {own: shapes[name] for name, own in bare.items()}
    places = sorted({int(own.split(".")[1]) for own in found})
    last = places[-1]
    if places != list(range(last + 1)) or last < 2 or last % 2 or f"body.{last}.weight" not in found:
        return None
    features, colours = found["body.0.weight"][:2]
    factor = math.isqrt(found[f"body.{last}.weight"][0] // colours)
    if not factor or colours not in COLOURS:
        return None
    return Layout(
        enlarger=Compact(colours=colours, features=features, layers=(last - 2) // 2, factor=factor), names=bare
    )
