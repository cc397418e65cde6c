"""Finds the detectors installed beside Tintype. A broken one is reported, and stops what needs a detector."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from tintype import logs
from tintype.safety.contract import Detector

GROUP = "tintype.detectors"

log = logs.get("safety")


@dataclass(frozen=True, kw_only=True)
class Detectors:
    """The detectors that loaded, by name, and why each of the others did not.

    None of the others is left out quietly: while one is broken, whatever needs a detector is refused.
    """

    ready: Mapping[str, Detector] = field(default_factory=dict[str, Detector])
    broken: Mapping[str, str] = field(default_factory=dict[str, str])


def names() -> dict[str, EntryPoint]:
    """Every declared detector, without importing any."""
    return {point.name: point for point in entry_points(group=GROUP)}


@cache
def has_foreign() -> bool:
    """Whether a package beside Tintype declares a detector; Tintype's own entry stands for those in the catalogue."""
    return any(point.dist is not None and point.dist.name != "tintype" for point in entry_points(group=GROUP))


def load() -> Detectors:
    """Import and make every declared detector. They may import torch: worker processes only."""
    ready: dict[str, Detector] = {}
    broken: dict[str, str] = {}
    for name, point in names().items():
        try:
            detector = _made(point)
        except Exception as error:  # noqa: BLE001  a plug-in may raise anything; the others are still reported
            broken[name] = f"{type(error).__name__}: {error}"
            log.error("detector is broken", detector=name, error=broken[name], trace=traceback.format_exc())
        else:
            if detector is not None:
                ready[name] = detector
    return Detectors(ready=ready, broken=broken)


def _made(point: EntryPoint) -> Detector | None:
    detector: Detector | None = point.load()()
    if detector is not None and not detector.text_labels and not detector.image_labels:
        raise TypeError("it scores neither texts nor pictures")
    return detector
