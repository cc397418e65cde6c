"""Weights are checked by their safetensors header alone: no tensor is read, nothing of the file is ever run.

The rules are those of the safetensors library and stricter: it takes a key that is there twice, we do not. So
what passes here opens there, and both see the same tensors.
"""

import json
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from tintype.errors import InvalidRequestError

# Bits of one element, for every type that safetensors 0.8 knows.
DTYPE_BITS: Mapping[str, int] = {
    name: bits
    for bits, names in {
        4: "F4",
        6: "F6_E2M3 F6_E3M2",
        8: "BOOL U8 I8 F8_E4M3 F8_E5M2 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
        16: "I16 U16 F16 BF16",
        32: "I32 U32 F32",
        64: "I64 U64 F64 C64",
    }.items()
    for name in names.split()
}
MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 50_000
MAX_DIMENSIONS = 16
MAX_ELEMENTS = 1 << 48
MAX_NAME_CHARS = 1024
MAX_METADATA_ENTRIES = 4096
METADATA = "__metadata__"
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
PICKLES = (b"PK\x03\x04", b"PK\x05\x06", *(b"\x80" + bytes([protocol]) for protocol in range(1, 6)))
OTHERS = {
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a Git LFS pointer and not the weights it stands for; fetch them with `git lfs pull`",
    b"<!DOC": "a web page, as sites send it where a login or an accepted licence is missing",
    b"<html": "a web page, as sites send it where a login or an accepted licence is missing",
}


class WeightsInvalidError(InvalidRequestError):
    """These weights are not a sound safetensors file; fetch the file again, or save it anew with safetensors."""

    code = "weights_invalid"


class PickledWeightsError(InvalidRequestError):
    """This is a pickle under another name; opening one can run any program that its maker put in."""

    status = 415
    code = "weights_pickled"


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor as the header states it; `start` and `end` are bytes behind the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """A sound header: tensors by name, and metadata, which is a stranger's text."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def check(path: Path) -> Header:
    """The header of the safetensors file `path`, every rule checked. Reads at most 16 MiB.

    Raises:
        PickledWeightsError: it is a pickle or a zip of pickles, whatever its name says.
        WeightsInvalidError: a rule is broken; the message says which.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for its other end
            raise WeightsInvalidError(f"{path.name} is not a regular file.")
        with path.open("rb") as file:
            return _header(_text(file, found.st_size), found.st_size)
    except OSError as error:
        raise WeightsInvalidError(f"{path.name} cannot be read: {error.strerror}.") from error


def _text(file: BinaryIO, size: int) -> bytes:
    """The header's bytes, its length checked against the file's."""
    start = file.read(32)
    _refuse_others(start)
    if len(start) < 8:
        raise _broken("it is shorter than the length of a header")
    (length,) = struct.unpack_from("<Q", start)
    if not 2 <= length <= size - 8:
        raise _broken(f"it claims a header of {length:,} bytes and has {size:,} in all")
    if length > MAX_HEADER_BYTES:
        raise _broken(f"its header has {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    file.seek(8)
    text = file.read(length)
    if len(text) != length:
        raise _broken("it was cut while it was read")
    return text


def _refuse_others(start: bytes) -> None:
    if start.startswith(PICKLES):
        raise PickledWeightsError(
            "This file is a pickle, whatever its name says, and opening one can run any program that its maker put"
            " in. Take the .safetensors that most pages offer beside it, or give it under its true ending (.pth,"
            " .ckpt, .bin): then it is converted once, locked away from everything else."
        )
    for magic, what in OTHERS.items():
        if start.lower().startswith(magic.lower()):
            raise WeightsInvalidError(f"These are not safetensors weights but {what}.")


def _header(text: bytes, size: int) -> Header:
    if not text.startswith(b"{"):
        raise _broken("its header does not start with `{`")
    entries = _parsed(text)
    metadata = _metadata(entries.pop(METADATA, {}))
    if len(entries) > MAX_TENSORS:
        raise _broken(f"it lists {len(entries):,} tensors; at most {MAX_TENSORS:,} are read")
    tensors = {name: _tensor(name, entry) for name, entry in entries.items()}
    end = 0
    for first, last, name in sorted((tensor.start, tensor.end, name) for name, tensor in tensors.items()):
        if first != end:
            raise _broken(f"{'a gap lies before' if first > end else 'another overlaps'} tensor {_shown(name)}")
        end = last
    if end != size - 8 - len(text):
        raise _broken(f"its tensors end after {end:,} bytes, its data after {size - 8 - len(text):,}")
    return Header(tensors=tensors, metadata=metadata)


def _parsed(text: bytes) -> dict[str, Any]:
    """The header as JSON without what readers understand differently: keys twice, halves of characters, -0."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise _broken("a key is there twice")
        if any(HALF_CHARACTER.search(part) for pair in pairs for part in pair if isinstance(part, str)):
            raise _broken("it holds half a character")
        return table

    def natural(digits: str) -> int:
        if digits.startswith("-") or len(digits) > 19:
            raise _broken(f"{digits[:24]} is no size")
        return int(digits)

    def never(word: str) -> Any:
        raise _broken(f"{word[:24]} is no size")

    try:
        decoded = text.decode("utf-8")
        parsed = json.loads(
            decoded, object_pairs_hook=unique, parse_int=natural, parse_float=never, parse_constant=never
        )
    except (ValueError, RecursionError) as error:
        raise _broken("its header is not JSON") from error
    if not isinstance(parsed, dict):
        raise _broken("its header is not an object")
    return cast("dict[str, Any]", parsed)


def _metadata(value: Any) -> dict[str, str]:
    entries = cast("dict[str, Any]", value) if isinstance(value, dict) else None
    if entries is None or not all(isinstance(text, str) for text in entries.values()):
        raise _broken("its metadata are not texts by name")
    if len(entries) > MAX_METADATA_ENTRIES or any(len(name) > MAX_NAME_CHARS for name in entries):
        raise _broken("its metadata are too many, or their names too long")
    return entries


def _tensor(name: str, entry: Any) -> Tensor:
    if len(name) > MAX_NAME_CHARS:
        raise _broken("a tensor's name is too long")
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]} if (
            len(cast("dict[str, Any]", entry)) == 3
            and len(shape) <= MAX_DIMENSIONS
            and all(type(side) is int for side in shape)
            and type(start) is type(end) is int
        ):
            pass
        case _:
            raise _broken(f"tensor {_shown(name)} is not described by dtype, shape and data_offsets")
    bits = DTYPE_BITS.get(dtype)
    if bits is None:
        raise _broken(f"tensor {_shown(name)} has the unknown type {_shown(dtype)}")
    elements = 1
    for side in shape:
        elements *= side
        if side > MAX_ELEMENTS or elements > MAX_ELEMENTS:
            raise _broken(f"tensor {_shown(name)} is too large")
    if start > end or elements * bits != (end - start) * 8:
        raise _broken(f"tensor {_shown(name)} has another size than its type and shape say")
    return Tensor(dtype=dtype, shape=tuple(shape), start=start, end=end)


def _shown(text: str) -> str:
    return ascii(text[:80])


def _broken(what: str) -> WeightsInvalidError:
    return WeightsInvalidError(
        f"The file is not sound safetensors weights: {what}. Fetch it again, or save it anew with safetensors."
    )
