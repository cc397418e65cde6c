"""Adapter for a Hugging Face image classifier: a folder with config.json, preprocessor_config.json and safetensors."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from tintype.detectors import descriptions, folders, pictures, pretrained, scoring
from tintype.detectors.descriptions import ImageClassifierDescription
from tintype.detectors.folders import Folder, ListedModel
from tintype.safety.contract import Label

BATCH = {"cpu": 4, "cuda": 32}
"""Views computed at once, per kind of device: more takes memory and is no faster (docs/benchmarks)."""
RESAMPLING: Mapping[int, pictures.Resample] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}
"""Pillow's numbers, as preprocessor_config.json writes them."""


class ImageClassifier(pictures.SeesPicturesOnly):
    """Scores a picture by what the network says of the whole and of each tile; the highest counts.

    One picture is computed at a time, whatever the number of threads that ask.
    """

    def __init__(
        self,
        *,
        name: str,
        network: Any,
        classes: tuple[str, ...],
        wanted: pictures.Input,
        described: ImageClassifierDescription,
    ) -> None:
        self.name = name
        self._network = network
        self._classes = classes
        self._wanted = wanted
        self._described = described
        self._batch = BATCH["cuda" if network.device.type == "cuda" else "cpu"]
        self._lock = threading.Lock()

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
        array = pictures.checked(pixels)
        side = min(self._wanted.width, self._wanted.height)
        parts = pictures.views(array.shape[0], array.shape[1], side=side, tiles=self._described.tiles)
        with self._lock:
            logits = np.concatenate(list(self._logits(Image.fromarray(array), parts)))
        probabilities = scoring.activated(logits, "softmax")
        return scoring.collected(probabilities, self._classes, self._described.labels, "softmax")

    def _logits(self, picture: Image.Image, parts: tuple[pictures.View, ...]) -> Any:
        for begin in range(0, len(parts), self._batch):
            values, _ = pictures.prepared(picture, parts[begin : begin + self._batch], self._wanted)
            try:
                with torch.inference_mode():
                    out = self._network(pixel_values=torch.from_numpy(values).to(self._network.device)).logits
                    yield out.float().cpu().numpy()
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise scoring.DetectorFailedError(f"the detector {self.name} could not judge ({reason})") from error


def create(folder: Path, manifest: ListedModel, device: str) -> ImageClassifier:
    """The classifier in `folder`, on `device`.

    Raises:
        DetectorBrokenError: its files are not those of the manifest, or not those of a complete classifier.
    """
    found = folders.verify(folder, manifest)
    described = descriptions.read(found, ImageClassifierDescription)
    wanted = _input(found)
    network = pretrained.network(found, transformers.AutoModelForImageClassification, torch.float32).to(device)
    config = network.config
    classes = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    if problem := scoring.problem_of(classes, described.labels):
        raise found.broken(problem)
    if getattr(config, "problem_type", None) == "multi_label_classification":
        raise found.broken("it is a multi-label classifier; export it to ONNX and use onnx_classifier with sigmoid")
    return ImageClassifier(name=manifest.id, network=network, classes=classes, wanted=wanted, described=described)


def _input(folder: Folder) -> pictures.Input:
    """What preprocessor_config.json asks for.

    Where it asks to cut out the middle, the part is shrunk to that size instead: nothing may be cut off unseen.
    """
    name = "preprocessor_config.json"
    try:
        config = json.loads(folder.read(name))
        size = config["crop_size"] if config.get("do_center_crop") else config["size"]
        height, width = (size, size) if isinstance(size, int) else (size["height"], size["width"])
        normalises, rescales = config.get("do_normalize", True), config.get("do_rescale", True)
        return pictures.Input(
            width=width,
            height=height,
            resample=RESAMPLING[config.get("resample", 2)],
            scale=config.get("rescale_factor", 1 / 255) if rescales else 1.0,
            mean=config["image_mean"] if normalises else (0.0, 0.0, 0.0),
            deviation=config["image_std"] if normalises else (1.0, 1.0, 1.0),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        kind = "unknown values" if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
        raise folder.broken(f"{name} cannot be understood ({kind})") from error
