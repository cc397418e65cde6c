"""Adapter for an image classifier exported to ONNX."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tintype.detectors import descriptions, folders, pictures, scoring
from tintype.detectors.descriptions import OnnxClassifierDescription
from tintype.detectors.folders import ListedModel
from tintype.detectors.onnx_network import OnnxNetwork
from tintype.safety.contract import Label


class OnnxClassifier(pictures.SeesPicturesOnly):
    """Scores a picture by what the network says of the whole and of each tile; the highest counts."""

    def __init__(self, *, name: str, network: OnnxNetwork, described: OnnxClassifierDescription) -> None:
        self.name = name
        self._network = network
        self._described = described

    @property
    def image_labels(self) -> frozenset[Label]:
        """What its classes speak of."""
        return scoring.labels_of(self._described.labels)

    def score_image(self, pixels: NDArray[np.uint8]) -> Mapping[Label, float]:
        """The score per label.

        Raises:
            PictureUnfitError: not uint8 RGB of shape [height, width, 3].
            DetectorFailedError: the network could not judge it.
        """
        array, said = pictures.checked(pixels), self._described
        side = min(said.input.width, said.input.height)
        parts = pictures.views(array.shape[0], array.shape[1], side=side, tiles=said.tiles)
        picture = Image.fromarray(array)
        step = self._network.batch
        rows = [self._classify(picture, parts[begin : begin + step]) for begin in range(0, len(parts), step)]
        probabilities = scoring.activated(np.concatenate(rows), said.activation)
        return scoring.collected(probabilities, said.classes, said.labels, said.activation)

    def _classify(self, picture: Image.Image, parts: tuple[pictures.View, ...]) -> NDArray[np.float32]:
        values, _ = pictures.prepared(picture, parts, self._described.input)
        out = self._network.run(values)[self._network.outputs[0]]
        expected = (len(parts), len(self._described.classes))
        if out.shape != expected:
            raise scoring.DetectorFailedError(f"the detector {self.name} gave {out.shape} instead of {expected}")
        return out


def create(folder: Path, manifest: ListedModel, device: str) -> OnnxClassifier:
    """The classifier in `folder`, on the CPU whatever `device` says.

    Raises:
        DetectorBrokenError: its files are not those of the manifest, or not what they are described as.
    """
    found = folders.verify(folder, manifest)
    described = descriptions.read(found, OnnxClassifierDescription)
    detector = OnnxClassifier(
        name=manifest.id, network=OnnxNetwork(found, described.file, described.input), described=described
    )
    try:
        detector.score_image(np.zeros((described.input.height, described.input.width, 3), np.uint8))
    except scoring.DetectorFailedError as error:
        raise found.broken(error.detail) from error
    return detector
