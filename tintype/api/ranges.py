"""Which bytes of a file a request asks for (RFC 9110, sections 13 and 14; one range at a time)."""

import re
from dataclasses import dataclass

ONE_RANGE = re.compile(r"^bytes=(\d{0,18})-(\d{0,18})$")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The headers that decide."""

    range: str | None
    if_none_match: str | None
    if_range: str | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """Bytes `start` up to, not including, `end`."""

    start: int
    end: int
    is_partial: bool


@dataclass(frozen=True)
class Unchanged:
    """The client has it already."""


@dataclass(frozen=True)
class Unsatisfiable:
    """The range begins behind the end."""


def choose(wanted: Wanted, *, etag: str, size_bytes: int) -> Part | Unchanged | Unsatisfiable:
    """What to answer for a file of `size_bytes` whose strong validator is `etag`.

    A range in another unit, several ranges or a malformed one are ignored, as the RFC allows: the whole file follows.
    """
    if wanted.if_none_match is not None and _matches(wanted.if_none_match, etag):
        return Unchanged()
    whole = Part(start=0, end=size_bytes, is_partial=False)
    found = ONE_RANGE.match(wanted.range.replace(" ", "")) if wanted.range else None
    if found is None or found.groups() == ("", ""):
        return whole
    if wanted.if_range is not None and wanted.if_range.strip() != f'"{etag}"':
        return whole
    first, last = found.groups()
    if first == "":
        start, end = max(0, size_bytes - int(last)), size_bytes
        return Part(start=start, end=end, is_partial=True) if int(last) and size_bytes else Unsatisfiable()
    start = int(first)
    end = min(int(last) + 1, size_bytes) if last else size_bytes
    if last and int(last) < start:
        return whole
    return Part(start=start, end=end, is_partial=True) if start < size_bytes else Unsatisfiable()


def _matches(header: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return "*" in tags or etag in tags
