"""From an installed folder to a detector that can be asked.

Adapters are found by name under the entry-point group `tintype.detector_adapters`: a function
`create(folder, manifest, device) -> Detector`. Another package may add one.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tintype import settings
from tintype.detectors import descriptions, folders
from tintype.detectors.folders import DetectorBrokenError, ListedModel
from tintype.safety import policy
from tintype.safety.contract import Detector, Label

ADAPTERS = "tintype.detector_adapters"
DETECTOR = "detector"


class _File(BaseModel):
    model_config = ConfigDict(frozen=True)

    path: str
    size: int = Field(ge=0)
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Manifest(BaseModel):
    """The part of a catalogue manifest that concerns loading; the catalogue checks the rest."""

    model_config = ConfigDict(frozen=True)

    id: str
    kind: str
    files: tuple[_File, ...] = ()


class Together:
    """Several detectors as one: a label scores as high as any of them says."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._detectors = tuple(detectors)

    @property
    def text_labels(self) -> frozenset[Label]:
        """What any of them scores in texts."""
        return frozenset[Label]().union(*(detector.text_labels for detector in self._detectors))

    @property
    def image_labels(self) -> frozenset[Label]:
        """What any of them scores in pictures."""
        return frozenset[Label]().union(*(detector.image_labels for detector in self._detectors))

    def score_text(self, text: str) -> Mapping[Label, float]:
        """The highest score per label; raises what any of them raises."""
        return policy.highest([detector.score_text(text) for detector in self._detectors if detector.text_labels])

    def score_image(self, pixels: NDArray[np.uint8]) -> Mapping[Label, float]:
        """The highest score per label; raises what any of them raises."""
        return policy.highest([detector.score_image(pixels) for detector in self._detectors if detector.image_labels])


def load(folder: Path, manifest: ListedModel, device: str) -> Detector:
    """The detector in `folder`, on `device` (a name torch knows); its files are checked against `manifest` first.

    Raises:
        DetectorBrokenError: its files cannot be used, or no installed adapter reads them.
    """
    if manifest.kind != DETECTOR:
        raise DetectorBrokenError(manifest.id, f"its manifest is of a {manifest.kind}")
    try:
        content = json.loads((folder / folders.DESCRIPTION).read_bytes())
        name = descriptions.Adapter.model_validate(content).adapter
    except (OSError, ValueError, RecursionError) as error:
        raise DetectorBrokenError(manifest.id, f"{folders.DESCRIPTION} does not name its adapter ({error})") from error
    points = adapters()
    if name not in points:
        known = ", ".join(sorted(points)) or "none"
        raise DetectorBrokenError(manifest.id, f"there is no adapter {name[:80]!r}, installed: {known}")
    return points[name].load()(folder, manifest, device)


def adapters() -> dict[str, EntryPoint]:
    """Every installed adapter by name, without importing any."""
    return {point.name: point for point in entry_points(group=ADAPTERS)}


def found(models: Path) -> tuple[tuple[Path, ListedModel], ...]:
    """The detectors' folders below `models`, with their manifests.

    Raises:
        DetectorBrokenError: a manifest cannot be read; it might be a detector's, so it is not passed over.
    """
    result: list[tuple[Path, ListedModel]] = []
    for path in sorted(models.glob("*/manifest.json")):
        try:
            content = json.loads(path.read_bytes())
            if content["kind"] == DETECTOR:
                result.append((path.parent, _Manifest.model_validate(content)))
        except ValidationError as error:
            raise DetectorBrokenError(path.parent.name, f"manifest.json: {error.errors()[0]['msg']}") from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DetectorBrokenError(path.parent.name, f"manifest.json cannot be read ({error})") from error
    return tuple(result)


def create() -> Detector | None:
    """Every detector installed among this machine's models, as one; None where there is none.

    Raises:
        DetectorBrokenError: one of them cannot be used; a check that cannot run must stop what needs it.
    """
    detectors = [load(folder, manifest, _device()) for folder, manifest in found(settings.home() / "models")]
    return Together(detectors) if detectors else None


def _device() -> str:
    """Where detectors compute: on the engine's device if it names one; `auto` takes CUDA, then the CPU."""
    import torch

    configured = settings.load(settings.Engine).device
    if configured == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return configured if configured.startswith("cuda") else "cpu"
