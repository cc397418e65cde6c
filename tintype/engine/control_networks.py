"""The networks through which pictures steer others: loaded when a request first brings one, the latest ones kept."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tintype.engine import beside, loading
from tintype.engine.devices import Device
from tintype.engine.loading import ModelBrokenError
from tintype.providers.contract import ModelFiles

KEPT = 4
"""So many networks stay loaded."""


class ControlNetworks:
    """Those of one model; each is of one of the classes `kinds`, and goes through `adopt` once it is loaded."""

    def __init__(self, kinds: Sequence[str], device: Device, *, adopt: Callable[[Any], Any] | None = None) -> None:
        self._kinds = kinds
        self._device = device
        self._adopt = adopt
        self._folders: dict[str, Path] = {}
        self._loaded = device.beside.shelf(KEPT, beside.module_bytes)

    def take_in(self, files: ModelFiles) -> Any:
        """The network in these files; from here on it can be had by the name of its model.

        Raises:
            ModelBrokenError: it cannot be loaded.
        """
        self._folders[files.id] = Path(files.folder)
        return self.get(files.id)

    def get(self, name: str) -> Any:
        """A network that was taken in."""
        folder = self._folders[name]
        return self._loaded.get(str(folder), lambda: self._load(folder))

    def _load(self, folder: Path) -> Any:
        named = str(loading.config(folder / "config.json").get("_class_name"))
        if named not in self._kinds:
            raise ModelBrokenError(f"{folder}: {named} cannot steer this model; use one of {', '.join(self._kinds)}")
        network = loading.network(folder, named, dtype=self._device.dtype, device=self._device.name)
        return network if self._adopt is None else self._adopt(network)


def weight_bytes(brought: Sequence[ModelFiles]) -> int:
    """The weights of what a request brings beside its model: what the catalogue says, else their size on disk."""
    return sum(
        files.memory_bytes or sum(path.stat().st_size for path in Path(files.folder).rglob("*.safetensors"))
        for files in brought
    )
