"""A network in ONNX that takes one picture and gives one map of it, run on the host."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tintype.engine.loading import ModelBrokenError
from tintype.inference import onnx
from tintype.providers.contract import ProviderError


class NetworkFailedError(ProviderError):
    """A network could not be run on a picture."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"the network {name} failed ({reason}); try a smaller picture, or install the model anew",
            code="network_failed",
            retryable=False,
        )


class OnnxNetwork:
    """One picture-shaped input, and the first output."""

    def __init__(self, path: Path, height: int, width: int) -> None:
        """Open the network at `path` for pictures of this size.

        Weights in side files are not read: its bytes are opened, not its path.

        Raises:
            ModelBrokenError: it is not a network in ONNX that takes [1, 3, height, width] in float32.
        """
        self._name = path.name
        try:
            self._session: Any = onnx.open_session(path.read_bytes())
        except (OSError, *onnx.FAILURES) as error:
            raise ModelBrokenError(f"{path} cannot be opened ({onnx.first_line(error)})") from error
        inputs = self._session.get_inputs()
        taken = [(each.type, tuple(each.shape)) for each in inputs]
        if len(taken) != 1 or taken[0][0] != "tensor(float)" or not _is_for(taken[0][1], (1, 3, height, width)):
            raise ModelBrokenError(f"{path} takes {taken}, not one float picture [1, 3, {height}, {width}]")
        self._input: str = inputs[0].name
        self._output: str = self._session.get_outputs()[0].name

    def run(self, picture: NDArray[np.float32]) -> NDArray[Any]:
        """The map of one picture [1, 3, height, width]: its last two dimensions are rows and columns, the others 1.

        Raises:
            NetworkFailedError: the run failed, or gave something else.
        """
        try:
            found = self._session.run([self._output], {self._input: picture})[0]
        except onnx.FAILURES as error:
            raise NetworkFailedError(self._name, onnx.first_line(error)) from error
        shape = np.shape(found)
        if len(shape) < 2 or found.size != shape[-1] * shape[-2] or not np.isfinite(found).all():
            raise NetworkFailedError(self._name, f"it gave {shape}, not one finite map")
        return found


def _is_for(taken: tuple[Any, ...], wanted: tuple[int, ...]) -> bool:
    return len(taken) == len(wanted) and all(
        not isinstance(side, int) or side == need for side, need in zip(taken, wanted, strict=True)
    )
