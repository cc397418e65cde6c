"""Tiny detectors, made once for all tests that leave them as they are."""

import shutil
from pathlib import Path

import pytest

from tests.detectors import folders
from tintype.detectors.image_classifier import ImageClassifier
from tintype.detectors.image_classifier import create as create_classifier


@pytest.fixture(scope="session")
def made_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the hand-set ViT; not to be changed."""
    folder = tmp_path_factory.mktemp("classifier") / "stand-in"
    folders.classifier(folder)
    return folder


@pytest.fixture
def classifier_folder(made_classifier: Path, tmp_path: Path) -> Path:
    """A copy of the hand-set ViT's folder, to be spoilt."""
    return Path(shutil.copytree(made_classifier, tmp_path / "stand-in"))


@pytest.fixture(scope="session")
def red_is_sexual(made_classifier: Path) -> ImageClassifier:
    """The hand-set ViT, loaded."""
    return create_classifier(made_classifier, folders.manifest.read(made_classifier / "manifest.json"), "cpu")
