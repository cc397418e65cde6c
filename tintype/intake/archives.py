"""Archives unpacked where they cannot do harm: real files with plain names, no larger in all than allowed.

Zip (stored, deflated) and tar (plain, gzip) are read. What a header claims counts for nothing: sizes are counted
as bytes come out. A folder appears whole or not at all. Archives inside are refused, never opened.
"""

import os
import shutil
import stat
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from tintype.errors import ConflictError, InvalidRequestError
from tintype.intake import inflating, text

CHUNK_BYTES = 1 << 16
MAX_PARTS = 16
MAX_PART_BYTES = 255
MAX_PATH_BYTES = 1024
# The longest a central directory's entry may be on average: 46 bytes, a name, extra fields.
MAX_ENTRY_BYTES = 46 + 2 * MAX_PATH_BYTES
ARCHIVES = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\xfd7zXZ\0",
    b"BZh",
    b"(\xb5/\xfd",
)
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# macOS adds these to every archive it makes; they hold nothing of the user's.
PASSED_OVER = ("__MACOSX/",)
# What the two readers raise on bytes that lie about themselves; zipfile says NotImplementedError of a compression,
# an encryption or a version that it does not know.
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, OSError, EOFError, ValueError, KeyError),
    *(NotImplementedError, RuntimeError, OverflowError, IndexError, AttributeError, TypeError),
)


class ArchiveInvalidError(InvalidRequestError):
    """This is not an archive that can be unpacked; send a .zip, .tar or .tar.gz with plain files in it."""

    code = "archive_invalid"


class ArchiveTooLargeError(InvalidRequestError):
    """The archive unpacks to more than is allowed; send less at a time."""

    status = 413
    code = "archive_too_large"


class FolderExistsError(ConflictError):
    """The folder to unpack into is already there."""

    code = "folder_exists"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an archive may be and become. `suffixes` (`.png`) is what its files may end in; none is anything."""

    max_archive_bytes: int = 2 << 30
    max_files: int = 2_000
    max_file_bytes: int = 256 << 20
    max_total_bytes: int = 4 << 30
    max_ratio: int = 200
    suffixes: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """What came out: files below `folder`, relative to it, in the archive's order."""

    folder: Path
    files: tuple[Path, ...]
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class _Member:
    name: str
    content: IO[bytes]


def unpack(archive: Path, folder: Path, limits: Limits) -> Unpacked:
    """Unpack `archive` into `folder`, which appears complete at the end. Takes a while: run it in a thread.

    Raises:
        ArchiveInvalidError: it is no archive, is damaged, or holds a link, a device, an archive, or a bad or
            ambiguous name.
        ArchiveTooLargeError: a limit is passed; what was written is gone.
        FolderExistsError: `folder` is there already.
    """
    if folder.exists():
        raise FolderExistsError(f"{folder.name} is already there; delete it or choose another name.")
    if archive.stat().st_size > limits.max_archive_bytes:
        raise ArchiveTooLargeError(
            f"The archive is larger than {limits.max_archive_bytes:,} bytes; send less at a time."
        )
    building = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    try:
        unpacked = _unpack_into(building, archive, limits)
        try:
            building.rename(folder)
        except OSError as error:  # somebody made the folder meanwhile
            raise FolderExistsError(f"{folder.name} is already there; delete it or choose another name.") from error
        return Unpacked(folder=folder, files=unpacked.files, size_bytes=unpacked.size_bytes)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _unpack_into(folder: Path, archive: Path, limits: Limits) -> Unpacked:
    names, files = _Names(limits=limits), list[Path]()
    room = min(limits.max_total_bytes, limits.max_ratio * max(archive.stat().st_size, CHUNK_BYTES))
    total = 0
    with _members(archive, limits, room) as members:
        for member in _reading(members):
            path = names.take(member.name)
            total += _write(folder / path, member, min(limits.max_file_bytes, room - total))
            files.append(path)
    if not files:
        raise ArchiveInvalidError("The archive holds no files.")
    return Unpacked(folder=folder, files=tuple(files), size_bytes=total)


def _reading(members: Iterator[_Member]) -> Iterator[_Member]:
    """The members, with every way in which a reader says that bytes lie told as one fact."""
    while True:
        with _sound():
            member = next(members, None)
        if member is None:
            return
        yield member


@contextmanager
def _sound() -> Generator[None]:
    try:
        yield
    except DAMAGED as error:  # RecursionError, of endless tar headers, is a RuntimeError
        raise ArchiveInvalidError(
            "The archive is damaged or of an unusual kind; make it anew as a plain .zip."
        ) from error


def _write(path: Path, member: _Member, room: int) -> int:
    """Write one file as it comes out; stops at the first byte over `room`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with path.open("xb") as file:
        while True:
            with _sound():
                chunk = member.content.read(CHUNK_BYTES)
            if not chunk:
                return size
            if size == 0 and chunk.startswith(ARCHIVES):
                raise ArchiveInvalidError(f"{_shown(member.name)} is an archive inside the archive; unpack it first.")
            size += len(chunk)
            if size > room:
                raise ArchiveTooLargeError(
                    f"{_shown(member.name)} unpacks to more than is allowed; send less at a time."
                )
            file.write(chunk)


@contextmanager
def _members(archive: Path, limits: Limits, room: int) -> Generator[Iterator[_Member]]:
    with archive.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            _check_directory(file, limits)
            with _sound():
                opened = zipfile.ZipFile(file)
            with opened:
                yield _zip_members(opened)
        elif start.startswith(b"\x1f\x8b"):
            # Headers come out of the same stream: they may take half a kilobyte and padding each on top.
            most = room + limits.max_files * 4 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE
            yield _tar_members(inflating.Inflated(file, max_bytes=most), limits)
        else:
            yield _tar_members(file, limits)


def _check_directory(file: IO[bytes], limits: Limits) -> None:
    """Refuse a directory too long for the files allowed before it is read whole into memory."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - 22 - 0xFFFF)
    file.seek(start)
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise ArchiveInvalidError("The archive is cut off: its directory is missing. Send it again.")
    entries, length = struct.unpack_from("<HI", tail, at + 10)
    if (
        entries > limits.max_files
        or length > limits.max_files * MAX_ENTRY_BYTES
        or b"PK\x06\x07" in tail[max(0, at - 20) : at]
    ):
        raise _too_many(limits)


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for entry in archive.infolist():
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.is_dir() and kind in (0, stat.S_IFDIR):
            continue
        if kind not in (0, stat.S_IFREG):
            raise _special(entry.filename)
        if entry.flag_bits & 0x41:
            raise ArchiveInvalidError(f"{_shown(entry.filename)} is encrypted; make the archive without a password.")
        if entry.compress_type not in ZIP_METHODS:
            raise ArchiveInvalidError(f"{_shown(entry.filename)} is compressed in an unusual way; use plain zip.")
        if entry.filename.startswith(PASSED_OVER):
            continue
        # `orig_filename` is the name before zipfile cut it at a NUL.
        with archive.open(entry) as content:
            yield _Member(name=entry.orig_filename, content=content)


def _tar_members(file: IO[bytes] | inflating.Inflated, limits: Limits) -> Iterator[_Member]:
    whole = inflating.Forwards(file)
    with tarfile.open(fileobj=cast("IO[bytes]", whole), mode="r:") as archive:
        seen = 0
        while (entry := archive.next()) is not None:
            seen += 1
            if seen > 2 * limits.max_files:  # folders and links count here, too: tarfile keeps them all
                raise _too_many(limits)
            if entry.isdir():
                continue
            if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.issparse():
                raise _special(entry.name)
            content = archive.extractfile(entry)
            if content is not None and not Path(entry.name).name.startswith("._"):
                yield _Member(name=entry.name.removeprefix("./"), content=content)
    if whole.last.strip(b"\0"):  # tarfile takes a header it cannot read for the end
        raise tarfile.ReadError("not the end of an archive")


def _too_many(limits: Limits) -> ArchiveTooLargeError:
    return ArchiveTooLargeError(f"The archive lists more than {limits.max_files:,} files; send less at a time.")


def _special(name: str) -> ArchiveInvalidError:
    return ArchiveInvalidError(f"{_shown(name)} is a link, a device or sparse; only plain files are unpacked.")


@dataclass(kw_only=True)
class _Names:
    """The names taken so far, as a file system sees them that ignores case and accents' spelling."""

    limits: Limits
    _files: set[str] = field(default_factory=set[str])
    _folders: dict[str, str] = field(default_factory=dict[str, str])

    def take(self, name: str) -> Path:
        """The path for `name` below the folder, which no other has."""
        if len(self._files) >= self.limits.max_files:
            raise _too_many(self.limits)
        parts = self._parts(name)
        path = "/".join(parts)
        key = path.casefold()
        if self.limits.suffixes and Path(path).suffix.lower() not in self.limits.suffixes:
            allowed = ", ".join(sorted(self.limits.suffixes))
            raise ArchiveInvalidError(f"{_shown(name)} is not one of {allowed}; leave it out.")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder.casefold() in self._files or self._folders.setdefault(folder.casefold(), folder) != folder:
                raise ArchiveInvalidError(f"Two names fall together at {_shown(folder)}; rename one.")
        if key in self._files or key in self._folders:
            raise ArchiveInvalidError(f"Two files are called {_shown(name)}; rename one.")
        self._files.add(key)
        return Path(path)

    def _parts(self, name: str) -> list[str]:
        whole = unicodedata.normalize("NFC", name)
        parts = whole.split("/")
        if (
            text.clean_text(whole) != whole
            or any(character in whole for character in "\\:\n\t")
            or len(parts) > MAX_PARTS
            or len(whole.encode()) > MAX_PATH_BYTES
            or any(not part.strip(". ") or len(part.encode()) > MAX_PART_BYTES for part in parts)
        ):
            raise ArchiveInvalidError(f"{_shown(name)} is not a plain name below the archive; rename it.")
        return parts


def _shown(name: str) -> str:
    return ascii(name[:80])
