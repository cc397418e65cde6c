"""What can be done with the catalogue: list it, look a model up, check its files."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tintype import errors, logs, settings
from tintype.catalog import manifest
from tintype.catalog.manifest import Manifest
from tintype.safety import identity

BUILTIN = Path(__file__).parent / "builtin"
WORKFLOWS = Path(__file__).parent / "workflows"
"""Workflows that ship with Tintype. They are no models of its own: what they draw is looked at like all else."""

DEFAULT_MODEL = "sketch"
MANIFEST_NAME = "manifest.json"
CHUNK_BYTES = 1 << 20
LOOK_S = 0.25
"""How long a look at the folders holds: several are asked for with every job."""

log = logs.get("catalog")


class UnknownModelError(errors.NotFoundError):
    """No model with this id is installed."""

    code = "model_unknown"


@dataclass(frozen=True, kw_only=True)
class Model:
    """An installed model: its manifest and the folder that holds its files."""

    manifest: Manifest
    folder: Path

    @property
    def id(self) -> str:
        """The slug it is asked for by."""
        return self.manifest.id

    @property
    def can_draw_people(self) -> bool:
        """Whether what it draws must be looked at: yes, except for what ships with Tintype and says it draws none.

        A manifest that came from elsewhere cannot vouch for itself: that would be a switch.
        """
        return self.manifest.draws_people or self.folder.parent != BUILTIN


def folders(home: Path) -> tuple[Path, ...]:
    """Where models lie: those in the package, then those the user installed (which win).

    The workflows in the package are there only where a ComfyUI is set up to run them.
    """
    try:
        has_comfyui = bool(settings.load(settings.Comfy).urls)
    except errors.SetupError:  # any setting may be wrong; whoever reads it says so, and the other models stay
        has_comfyui = False
    return BUILTIN, *((WORKFLOWS,) if has_comfyui else ()), home / "models"


@dataclass(frozen=True, kw_only=True)
class Found:
    """The models in the folders by id, and why each other manifest is left out."""

    models: Mapping[str, Model]
    left_out: Mapping[Path, str]


def look(home: Path) -> Found:
    """Every model there is. One with a broken manifest, or made to transfer identity, is logged and left out."""
    models: dict[str, Model] = {}
    left_out: dict[Path, str] = {}
    for root in folders(home):
        for path in sorted(root.glob(f"*/{MANIFEST_NAME}")):
            try:
                model = Model(manifest=manifest.read(path), folder=path.parent)
                identity.refuse_identity_transfer(_names_in(model))
            except (manifest.ManifestError, identity.IdentityTransferError) as error:
                log.error("model left out", manifest=str(path), error=error.detail)
                left_out[path] = error.detail
                continue
            models[model.id] = model
    return Found(models=models, left_out=left_out)


def _names_in(model: Model) -> tuple[str, ...]:
    """Every name that says what a model is for."""
    said = model.manifest
    sources = [file.source for file in said.files if file.source is not None]
    return (said.id, said.name, *(file.path for file in said.files), *sources, *said.dependencies, model.folder.name)


def installed(home: Path) -> Mapping[str, Model]:
    """Every installed model by id."""
    return look(home).models


class Catalogue:
    """The installed models, read again when a manifest appears, changes or goes.

    A look at the folders holds for `LOOK_S`; asking for a model that it did not show looks again.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._roots = folders(home)
        self._seen: frozenset[tuple[str, int]] = frozenset()
        self._models: Mapping[str, Model] = {}
        self._looked = -LOOK_S

    def models(self) -> Mapping[str, Model]:
        """Every installed model by id."""
        if time.monotonic() - self._looked >= LOOK_S:
            self._look()
        return self._models

    def _look(self) -> None:
        seen = frozenset(
            (str(path), changed_ns)
            for root in self._roots
            for path in root.glob(f"*/{MANIFEST_NAME}")
            if (changed_ns := _changed_ns(path)) is not None
        )
        if seen != self._seen:
            self._models = installed(self._home)
            self._seen = seen
        self._looked = time.monotonic()

    def get(self, model_id: str) -> Model:
        """The model `model_id`.

        Raises:
            UnknownModelError: it is not installed; the message names what is.
        """
        if model_id not in self.models():
            self._look()
        models = self._models
        if model_id not in models:
            raise UnknownModelError(
                f"no model {model_id[:80]!r} is installed; installed: {', '.join(sorted(models)) or 'none'}"
            )
        return models[model_id]


def _changed_ns(path: Path) -> int | None:
    """When the file changed last; None when it has just been removed."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


@dataclass(frozen=True, kw_only=True)
class FileProblem:
    """A file of a model that is not as its manifest says."""

    path: Path
    problem: str


def verify(model: Model, *, hashes: bool = True) -> tuple[FileProblem, ...]:
    """Compare the model's files with its manifest, by size and (unless `hashes` is off) by SHA-256."""
    problems: list[FileProblem] = []
    for file in model.manifest.files:
        path = model.folder / file.path
        if not path.is_file():
            problems.append(FileProblem(path=path, problem="is missing"))
        elif path.stat().st_size != file.size:
            problems.append(FileProblem(path=path, problem=f"has {path.stat().st_size} bytes, not {file.size}"))
        elif hashes and sha256(path) != file.sha256:
            problems.append(FileProblem(path=path, problem="has another content than the manifest says"))
    return tuple(problems)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
