"""A detector's folder is proven before it is used, and found by what it says of itself."""

import json
import os
from pathlib import Path

import pytest

from tests.detectors import folders
from tintype.detectors import loading
from tintype.detectors.folders import DetectorBrokenError, verify
from tintype.detectors.loading import Together
from tintype.safety.contract import Label


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    folders.onnx_classifier(tmp_path / "models" / "stand-in")
    return tmp_path / "models" / "stand-in"


def manifest_in(folder: Path) -> folders.Manifest:
    return folders.manifest.read(folder / "manifest.json")


def test_a_changed_file_is_refused_though_its_size_is_right(folder: Path):
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(DetectorBrokenError, match="SHA-256 differs"):
        loading.load(folder, manifest_in(folder), "cpu")


@pytest.mark.parametrize("name", ["model.onnx", "detector.json"])
def test_a_missing_file_is_refused_by_name(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(DetectorBrokenError, match=name):
        loading.load(folder, manifest_in(folder), "cpu")


def test_a_file_nobody_listed_is_refused_but_notes_are_not(folder: Path):
    (folder / "README.md").write_text("What it is.")
    (folder / ".hidden").write_text("")
    assert loading.load(folder, manifest_in(folder), "cpu")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(DetectorBrokenError, match=r"adapter_config\.json is not in its manifest"):
        loading.load(folder, manifest_in(folder), "cpu")


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path):
    manifest = manifest_in(folder)
    os.replace(folder / "model.onnx", tmp_path / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(DetectorBrokenError, match="leads out"):
        verify(folder, manifest)


def test_a_file_that_changes_after_it_was_verified_is_not_read(folder: Path):
    proven = verify(folder, manifest_in(folder))
    (folder / "model.onnx").write_bytes(b"other")
    with pytest.raises(DetectorBrokenError, match="changed while"):
        proven.read("model.onnx")
    with pytest.raises(DetectorBrokenError, match="not in its manifest"):
        proven.read("/etc/hostname")


def test_a_model_that_is_no_detector_is_refused(folder: Path):
    manifest = manifest_in(folder).model_copy(update={"kind": "lora"})
    with pytest.raises(DetectorBrokenError, match="of a lora"):
        loading.load(folder, manifest, "cpu")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"adapter": "unheard_of"}', "no adapter 'unheard_of'.*onnx_classifier"),
        (b"{}", "does not name its adapter"),
        (b"[" * 100000, "does not name its adapter"),
        (b"\xff", "does not name its adapter"),
    ],
)
def test_a_description_without_a_known_adapter_is_refused(folder: Path, content: bytes, what: str):
    (folder / "detector.json").write_bytes(content)
    with pytest.raises(DetectorBrokenError, match=what):
        loading.load(folder, folders.relisted(folder), "cpu")


def test_every_adapter_is_installed_under_its_name():
    assert {"image_classifier", "onnx_boxes", "onnx_classifier", "text_classifier"} <= set(loading.adapters())
    assert all(callable(point.load()) for point in loading.adapters().values())


def test_all_installed_detectors_speak_as_one(folder: Path, monkeypatch: pytest.MonkeyPatch):
    folders.boxes(folder.parent / "finder")
    monkeypatch.setenv("TINTYPE_HOME", str(folder.parents[1]))
    monkeypatch.setenv("TINTYPE_ENGINE_DEVICE", "cpu")
    together = loading.create()
    assert together is not None
    assert together.image_labels == {Label.SEXUAL, Label.PERSON}
    assert together.text_labels == frozenset()
    scores = together.score_image(folders.plain(32, 32, folders.RED))
    assert set(scores) == together.image_labels
    assert min(scores.values()) > 0.99


def test_where_no_detector_is_installed_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "models" / "a-lora").mkdir(parents=True)
    (tmp_path / "models" / "a-lora" / "manifest.json").write_text(json.dumps({"id": "a-lora", "kind": "lora"}))
    monkeypatch.setenv("TINTYPE_HOME", str(tmp_path))
    assert loading.create() is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kind": "detector"}', '{"kind": "detector", "id": 7}'])
def test_a_manifest_that_cannot_be_read_is_not_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch, content: str):
    (folder / "manifest.json").write_text(content)
    monkeypatch.setenv("TINTYPE_HOME", str(folder.parents[1]))
    with pytest.raises(DetectorBrokenError, match=r"manifest\.json"):
        loading.create()


class Fixed:
    """Says the same of everything."""

    def __init__(self, **scores: float) -> None:
        self._scores = {Label(name): score for name, score in scores.items()}
        self.text_labels = self.image_labels = frozenset(self._scores)

    def score_text(self, _text: str) -> dict[Label, float]:
        return self._scores

    def score_image(self, _pixels: object) -> dict[Label, float]:
        return self._scores


def test_the_gravest_score_of_several_detectors_counts():
    together = Together([Fixed(sexual=0.2, person=0.9), Fixed(sexual=0.7), Fixed(minor=0.1)])
    expected = {Label.SEXUAL: 0.7, Label.PERSON: 0.9, Label.MINOR: 0.1}
    assert together.score_text("a flower") == together.score_image(folders.plain(1, 1, folders.RED)) == expected
