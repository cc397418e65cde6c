"""Networks in ONNX classify pictures and find things in them, and are refused when they are not as described."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.detectors import folders
from tintype.detectors import boxes, onnx_boxes, onnx_classifier
from tintype.detectors.boxes import Seen
from tintype.detectors.folders import DetectorBrokenError
from tintype.detectors.pictures import Placement, View
from tintype.detectors.scoring import DetectorFailedError
from tintype.safety.contract import Label


def classifier(folder: Path, **changes: Any) -> onnx_classifier.OnnxClassifier:
    return onnx_classifier.create(folder, folders.onnx_classifier(folder, **changes), "cpu")


def finder(folder: Path, form: str = "rows", **changes: Any) -> onnx_boxes.OnnxBoxes:
    return onnx_boxes.create(folder, folders.boxes(folder, form, **changes), "cpu")


@pytest.mark.parametrize("batch", ["pictures", 1, 3])
def test_a_classifier_scores_pictures_of_any_size(tmp_path: Path, batch: int | str):
    detector = classifier(tmp_path / "stand-in", batch=batch)
    assert detector.image_labels == {Label.SEXUAL}
    assert detector.text_labels == frozenset()
    for height, width in ((32, 32), (1, 5), (400, 200)):
        assert detector.score_image(folders.plain(height, width, folders.RED))[Label.SEXUAL] > 0.99
        assert detector.score_image(folders.plain(height, width, folders.GREEN))[Label.SEXUAL] < 0.01
        assert detector.score_image(folders.plain(height, width, folders.GREY))[Label.SEXUAL] == pytest.approx(
            0.5, abs=0.01
        )


def test_a_small_region_is_found_in_a_tile(tmp_path: Path):
    detector = classifier(tmp_path / "stand-in")
    small = folders.with_patch(96, 96, size=29, top=2, left=64)
    large = folders.with_patch(300, 300, size=90, top=5, left=200)
    assert detector.score_image(small)[Label.SEXUAL] < 0.01
    assert detector.score_image(large)[Label.SEXUAL] > 0.9


def test_four_threads_get_what_one_gets(tmp_path: Path):
    detector = classifier(tmp_path / "stand-in")
    rng = np.random.default_rng(5)
    many = [rng.integers(0, 256, (40 + 30 * index, 200, 3), dtype=np.uint8) for index in range(12)]
    alone = [detector.score_image(pixels) for pixels in many]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(detector.score_image, many)) == alone


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"labels": {"NSFW": "sexual"}}, "labels are given for"),
        ({"labels": {"NSFW": None, "SFW": None}}, "none of its classes has a label"),
        ({"classes": ["NSFW", "SFW", "more"], "labels": {"NSFW": "sexual", "SFW": None, "more": None}}, r"\(1, 2\)"),
        ({"input": {"width": 64, "height": 32}}, "described"),
        ({"input": {"width": 32, "height": 32, "layout": "nhwc"}}, "described"),
        ({"input": {"width": 32, "height": 32, "deviation": [1, 1, 0]}}, "deviation"),
        ({"input": {"width": 32, "height": 32, "crop": True}}, "crop"),
        ({"file": "other.onnx"}, "not in its manifest"),
        ({"file": "../stand-in/model.onnx"}, "not in its manifest"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], what: str):
    with pytest.raises(DetectorBrokenError, match=what):
        classifier(tmp_path / "stand-in", **changes)


def test_values_that_are_no_probabilities_are_no_judgement(tmp_path: Path):
    detector = classifier(tmp_path / "stand-in", activation="none")
    with pytest.raises(DetectorFailedError, match="no probabilities"):
        detector.score_image(folders.plain(32, 32, folders.RED))


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, b"\x08\x08"])
def test_a_damaged_network_is_refused(tmp_path: Path, content: bytes):
    folders.onnx_classifier(tmp_path / "stand-in")
    (tmp_path / "stand-in" / "model.onnx").write_bytes(content)
    with pytest.raises(DetectorBrokenError, match=r"model\.onnx"):
        onnx_classifier.create(tmp_path / "stand-in", folders.relisted(tmp_path / "stand-in"), "cpu")


def test_weights_in_a_side_file_are_not_read(tmp_path: Path):
    folder = tmp_path / "stand-in"
    folders.onnx_classifier(folder)
    model = onnx.load(folder / "model.onnx")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="side.data", size_threshold=0)
    assert (folder / "side.data").exists()
    with pytest.raises(DetectorBrokenError, match=r"model\.onnx"):
        onnx_classifier.create(folder, folders.relisted(folder), "cpu")


def test_a_network_that_puts_out_no_numbers_has_not_judged(tmp_path: Path):
    folder = tmp_path / "stand-in"
    folders.onnx_classifier(folder)
    model = onnx.load(folder / "model.onnx")
    weights = next(part for part in model.graph.initializer if part.name == "weights")
    weights.CopyFrom(onnx.numpy_helper.from_array(np.full((3, 2), np.nan, np.float32), "weights"))
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(DetectorBrokenError, match="not finite"):
        onnx_classifier.create(folder, folders.relisted(folder), "cpu")


@pytest.mark.parametrize("batch", ["pictures", 1, 3])
@pytest.mark.parametrize("form", list(folders.FORMS))
def test_boxes_in_every_form_lie_where_the_things_are(tmp_path: Path, form: str, batch: int | str):
    detector = finder(tmp_path / "stand-in", form, batch=batch)
    pixels = folders.with_patch(48, 96, size=24, top=0, left=24)
    pixels[24:48, 72:96] = folders.RED
    found = detector.find(pixels)
    assert sorted((b.left, b.top, b.right, b.bottom) for b in found) == [(24, 0, 48, 24), (72, 24, 96, 48)]
    assert all(box.label == Label.PERSON and box.score > 0.99 for box in found)
    assert detector.score_image(pixels)[Label.PERSON] > 0.99
    assert detector.find(folders.plain(48, 96, folders.GREEN)) == ()
    assert detector.score_image(folders.plain(48, 96, folders.GREEN))[Label.PERSON] < 0.01


def test_a_thing_too_small_for_the_whole_is_found_in_a_tile(tmp_path: Path):
    detector = finder(tmp_path / "stand-in")
    assert detector.score_image(folders.with_patch(96, 96, size=12, top=0, left=72))[Label.PERSON] < 0.3
    assert detector.score_image(folders.with_patch(384, 384, size=48, top=0, left=288))[Label.PERSON] > 0.8


@pytest.mark.parametrize(
    ("colour", "threshold", "score"), [(102, 0.4, 0.5), (51, 0.4, 0.25), (153, 0.4, 2 / 3), (51, 0.1, 5 / 9)]
)
def test_a_box_at_the_threshold_scores_one_half(tmp_path: Path, colour: int, threshold: float, score: float):
    detector = finder(tmp_path / "stand-in", threshold=threshold)
    pixels = folders.plain(32, 32, (colour, 0, 0))
    assert detector.score_image(pixels)[Label.PERSON] == pytest.approx(score, abs=1e-3)


def test_boxes_are_moved_to_where_their_tile_lies():
    place = Placement(factor_x=0.5, factor_y=0.25, left=100, top=40)
    part, whole = View(100, 40, 164, 168), View(0, 0, 164, 400)
    seen = boxes.placed(np.array([[0, 1, 10, 12.0], [10, 4, 30, 32], [28, 10, 32, 20]]), np.ones(3), place, part, whole)
    assert seen.edges.tolist() == [[100, 44, 120, 88], [120, 56, 160, 168], [156, 80, 164, 120]]
    assert seen.cut.tolist() == [True, True, False], "the right edge of the tile is that of the picture"


def test_one_thing_seen_in_several_tiles_counts_once_and_two_that_touch_count_twice():
    edges = np.array([[0, 0, 100, 200], [2, 1, 101, 199], [0, 100, 98, 200], [90, 0, 190, 200], [300, 0, 310, 20.0]])
    seen = Seen(edges, np.array([0.8, 0.7, 0.95, 0.9, 0.5]), np.array([False, False, True, False, True]))
    assert boxes.distinct(seen, 0.5) == [3, 0, 4]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"labels": {"face": "person"}}, "not among its classes"),
        ({"labels": {}}, "labels"),
        ({"classes": ["person", "dog"]}, "instead of"),
        ({"output": {"form": "rows", "output": "absent"}}, "absent is None"),
        ({"output": {"form": "rows", "output": "turned"}}, "instead of"),
        ({"output": {"form": "grid", "output": "cells", "strides": [8, 16]}}, "16 cells instead of 20"),
        ({"output": {"form": "yunet", "strides": [16]}}, "cls_16"),
        ({"output": {"form": "unheard_of"}}, "unheard_of"),
        ({"threshold": 1}, "threshold"),
    ],
)
def test_boxes_that_are_not_as_described_are_refused(tmp_path: Path, changes: dict[str, Any], what: str):
    with pytest.raises(DetectorBrokenError, match=what):
        finder(tmp_path / "stand-in", **changes)


def test_classes_without_a_label_are_ignored(tmp_path: Path):
    folder = tmp_path / "stand-in"
    detector = finder(folder, "queries", classes=["person"], labels={"person": "person"})
    assert detector.image_labels == {Label.PERSON}
    with pytest.raises(DetectorBrokenError, match="instead of"):
        finder(folder, "queries", output=folders.FORMS["queries"] | {"has_background": True})
