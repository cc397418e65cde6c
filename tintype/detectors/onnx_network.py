"""A network in ONNX, run on the CPU from bytes that were checked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tintype.detectors import scoring
from tintype.detectors.folders import Folder
from tintype.detectors.pictures import Input
from tintype.inference import onnx

BATCH = 4
"""Pictures in one run where the network leaves the number open."""


class OnnxNetwork:
    """One picture-shaped input, named outputs; may be run by several threads at once."""

    def __init__(self, folder: Folder, file: str, wanted: Input) -> None:
        """Open `file`.

        Raises:
            DetectorBrokenError: it is not a network in ONNX whose one input has the described shape. Weights in
                side files are not read.
        """
        self.name = folder.id
        try:
            self._session: Any = onnx.open_session(folder.read(file))
        except onnx.FAILURES as error:
            raise folder.broken(f"{file}: {onnx.first_line(error)}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            raise folder.broken(f"{file} takes {[(i.name, i.type) for i in inputs]} instead of one float picture")
        self._input: str = inputs[0].name
        expected = [3, wanted.height, wanted.width] if wanted.layout == "nchw" else [wanted.height, wanted.width, 3]
        shape = list(inputs[0].shape)
        if len(shape) != 4 or any(isinstance(a, int) and a != e for a, e in zip(shape[1:], expected, strict=True)):
            raise folder.broken(f"{file} takes the shape {shape}, but [pictures, *{expected}] is described")
        self._fixed = shape[0] if isinstance(shape[0], int) else None
        if self._fixed is not None and self._fixed < 1:
            raise folder.broken(f"{file} takes no pictures at all")
        self.batch: int = self._fixed or BATCH
        self.outputs: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())

    def run(self, values: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """Every output by name, for at most `batch` pictures.

        Raises:
            DetectorFailedError: the run failed.
        """
        given = len(values)
        missing = self._fixed - given if self._fixed else 0
        padded = np.concatenate([values, np.zeros((missing, *values.shape[1:]), np.float32)]) if missing else values
        try:
            found = self._session.run(None, {self._input: padded})
        except onnx.FAILURES as error:
            raise scoring.DetectorFailedError(
                f"the detector {self.name} could not judge ({onnx.first_line(error)})"
            ) from error
        for name, value in zip(self.outputs, found, strict=True):
            if not isinstance(value, np.ndarray) or value.shape[:1] != (len(padded),):
                raise scoring.DetectorFailedError(f"the detector {self.name} gave no {name} for each picture")
        return {name: value[:given] for name, value in zip(self.outputs, found, strict=True)}
