"""Adapter for detectors in ONNX that give boxes with scores: persons, faces."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tintype.detectors import boxes, descriptions, folders, pictures, scoring
from tintype.detectors.boxes import Box, Seen
from tintype.detectors.descriptions import OnnxBoxesDescription
from tintype.detectors.folders import ListedModel
from tintype.detectors.onnx_network import OnnxNetwork
from tintype.safety.contract import Label

MOST_CANDIDATES = 1000
"""Of more boxes than that the surest count: a network that finds everything everywhere must not take minutes."""


class OnnxBoxes(pictures.SeesPicturesOnly):
    """Finds things in the whole picture and in its tiles, each once; a label scores as its surest box."""

    def __init__(self, *, name: str, network: OnnxNetwork, described: OnnxBoxesDescription) -> None:
        self.name = name
        self._network = network
        self._described = described

    @property
    def image_labels(self) -> frozenset[Label]:
        """What its classes speak of."""
        return frozenset(self._described.labels.values())

    def score_image(self, pixels: NDArray[np.uint8]) -> Mapping[Label, float]:
        """Per label, how sure its surest box is: 0.5 at the threshold, 0 where there is none.

        Raises:
            PictureUnfitError: not uint8 RGB of shape [height, width, 3].
            DetectorFailedError: the network could not judge it.
        """
        scores = dict.fromkeys(self.image_labels, 0.0)
        for name, seen in self._found(pixels, from_score=0.0).items():
            label = self._described.labels[name]
            scores[label] = max(scores[label], self._sureness(float(seen.scores.max(initial=0.0))))
        return scores

    def find(self, pixels: NDArray[np.uint8]) -> tuple[Box, ...]:
        """Every thing that was found, from the threshold on, the surest first; its length counts them.

        Raises:
            PictureUnfitError: not uint8 RGB of shape [height, width, 3].
            DetectorFailedError: the network could not judge it.
        """
        said, result = self._described, list[Box]()
        for name, seen in self._found(pixels, from_score=said.threshold).items():
            for index in boxes.distinct(seen, said.same_from):
                left, top, right, bottom = (float(value) for value in seen.edges[index])
                box = Box(
                    name=name,
                    label=said.labels[name],
                    score=float(seen.scores[index]),
                    left=left,
                    top=top,
                    right=right,
                    bottom=bottom,
                )
                result.append(box)
        return tuple(sorted(result, key=lambda box: -box.score))

    def _sureness(self, score: float) -> float:
        threshold = self._described.threshold
        return score / threshold / 2 if score < threshold else 1 - (1 - score) / (1 - threshold) / 2

    def _found(self, pixels: NDArray[np.uint8], *, from_score: float) -> dict[str, Seen]:
        """What was seen in all views, per class with a label."""
        array, said = pictures.checked(pixels), self._described
        side = min(said.input.width, said.input.height)
        parts = pictures.views(array.shape[0], array.shape[1], side=side, tiles=said.tiles)
        views = self._views(Image.fromarray(array), parts)
        edges = np.concatenate([view.edges for view in views])
        scores = np.concatenate([view.scores for view in views])
        cut = np.concatenate([view.cut for view in views])
        result: dict[str, Seen] = {}
        for name in said.labels:
            column = scores[:, said.classes.index(name)]
            chosen = np.flatnonzero(column >= from_score)
            chosen = chosen[np.argsort(-column[chosen], kind="stable")][:MOST_CANDIDATES]
            result[name] = Seen(edges[chosen], column[chosen], cut[chosen])
        return result

    def _views(self, picture: Image.Image, parts: tuple[pictures.View, ...]) -> list[Seen]:
        seen: list[Seen] = []
        step = self._network.batch
        for begin in range(0, len(parts), step):
            some = parts[begin : begin + step]
            values, placements = pictures.prepared(picture, some, self._described.input)
            outputs = self._network.run(values)
            for index, (part, place) in enumerate(zip(some, placements, strict=True)):
                edges, scores = boxes.read(outputs, index, self._described)
                seen.append(boxes.placed(edges, scores, place, part, parts[0]))
        return seen


def create(folder: Path, manifest: ListedModel, device: str) -> OnnxBoxes:
    """The detector in `folder`, on the CPU whatever `device` says.

    Raises:
        DetectorBrokenError: its files are not those of the manifest, or not what they are described as.
    """
    found = folders.verify(folder, manifest)
    described = descriptions.read(found, OnnxBoxesDescription)
    network = OnnxNetwork(found, described.file, described.input)
    detector = OnnxBoxes(name=manifest.id, network=network, described=described)
    try:
        detector.score_image(np.zeros((described.input.height, described.input.width, 3), np.uint8))
    except scoring.DetectorFailedError as error:
        raise found.broken(error.detail) from error
    return detector
