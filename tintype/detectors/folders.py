"""The folder of an installed detector: what must lie in it, and the proof that it is what its manifest says."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from tintype.errors import SetupError

DESCRIPTION = "detector.json"
NEVER_LOADED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".py", ".so"})
"""Endings of files that can carry code; a detector's folder may not list them."""
UNLISTED = frozenset({"manifest.json"})
"""What may lie in the folder without standing in the manifest, beside hidden files and Markdown."""
BLOCK_BYTES = 1 << 20


class DetectorBrokenError(SetupError):
    """The detector's files cannot be used."""

    code = "detector_broken"

    def __init__(self, detector: str, reason: str) -> None:
        super().__init__(f"the detector {detector} cannot be used: {reason}; delete it and install it again")


class ListedFile(Protocol):
    """One file of a manifest: `path` inside the folder, `size` in bytes, `sha256` in hexadecimal."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...


class ListedModel(Protocol):
    """What a detector's loading needs of a catalogue manifest."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def files(self) -> Sequence[ListedFile]: ...


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A detector's folder whose files were found to be those of its manifest; made by `verify`."""

    id: str
    path: Path
    sha256: tuple[tuple[str, str], ...]

    def read(self, name: str) -> bytes:
        """The content of the listed file `name`, checked once more: these bytes are the ones the manifest names.

        Raises:
            DetectorBrokenError: the manifest does not list it, or it changed since it was verified.
        """
        expected = dict(self.sha256).get(name)
        if expected is None:
            raise self.broken(f"{name} is not in its manifest")
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise self.broken(f"{name}: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise self.broken(f"{name} changed while it was loaded")
        return content

    def broken(self, reason: str) -> DetectorBrokenError:
        """The fact that this detector cannot be used, and why."""
        return DetectorBrokenError(self.id, reason)


def verify(folder: Path, manifest: ListedModel) -> Folder:
    """The folder, proven: every listed file is there with its SHA-256, and nothing a loader could pick up besides.

    Raises:
        DetectorBrokenError: it is not a detector, or a file is missing, changed, unlisted or of a kind that can
            carry code.
    """
    if manifest.kind != "detector":
        raise DetectorBrokenError(manifest.id, f"its manifest is of a {manifest.kind}")
    listed = {file.path: file for file in manifest.files}
    if DESCRIPTION not in listed:
        raise DetectorBrokenError(manifest.id, f"its manifest lists no {DESCRIPTION}")
    for name, file in listed.items():
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise DetectorBrokenError(manifest.id, f"{name} leads out of its folder")
        if PurePosixPath(name).suffix.lower() in NEVER_LOADED:
            raise DetectorBrokenError(manifest.id, f"{name} can carry code; only safetensors and ONNX are loaded")
        _require_unchanged(folder / name, file, manifest.id)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in listed and not _is_ignored(name):
            raise DetectorBrokenError(manifest.id, f"{name} is not in its manifest")
    return Folder(id=manifest.id, path=folder, sha256=tuple((name, file.sha256) for name, file in listed.items()))


def _is_ignored(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return name in UNLISTED or name.endswith(".md") or any(part.startswith(".") for part in parts)


def _require_unchanged(path: Path, file: ListedFile, detector: str) -> None:
    try:
        if path.stat().st_size != file.size:
            raise DetectorBrokenError(detector, f"{file.path} has {path.stat().st_size} bytes instead of {file.size}")
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise DetectorBrokenError(detector, f"{file.path}: {error.strerror}") from error
    if digest.hexdigest() != file.sha256:
        raise DetectorBrokenError(detector, f"{file.path} is not the file its manifest names (SHA-256 differs)")
