"""The networks through which pictures steer others: loaded when a request first brings one, the latest ones kept."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tintype.engine import loading
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
        self._loaded: OrderedDict[str, Any] = OrderedDict()

    def take_in(self, files: ModelFiles) -> Any:
        """The network in these files; from here on it can be had by the name of its model.

        Raises:
            ModelBrokenError: it cannot be loaded.
        """
        self._folders[files.id] = Path(files.folder)
        return self.get(files.id)

    def get(self, name: str) -> Any:
        """A network that was taken in."""
        if name not in self._loaded:
            network = self._load(self._folders[name])
            self._loaded[name] = network if self._adopt is None else self._adopt(network)
            if len(self._loaded) > KEPT:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def forget(self) -> None:
        """Let go of every network; each is loaded again when it is needed."""
        self._loaded.clear()

    def _load(self, folder: Path) -> Any:
        named = str(loading.config(folder / "config.json").get("_class_name"))
        if named not in self._kinds:
            raise ModelBrokenError(f"{folder}: {named} cannot steer this model; use one of {', '.join(self._kinds)}")
        return loading.network(folder, named, dtype=self._device.dtype, device=self._device.name)


def weight_bytes(brought: Sequence[ModelFiles]) -> int:
    """The weights of what a request brings beside its model: what the catalogue says, else their size on disk."""
    return sum(
        files.memory_bytes or sum(path.stat().st_size for path in Path(files.folder).rglob("*.safetensors"))
        for files in brought
    )
