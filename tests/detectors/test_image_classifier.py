"""A Hugging Face classifier scores pictures, finds what is small, and is refused when it is not whole."""

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.detectors import folders
from tintype.detectors import loading
from tintype.detectors.folders import DetectorBrokenError
from tintype.detectors.image_classifier import ImageClassifier, create
from tintype.detectors.scoring import DetectorFailedError
from tintype.safety.contract import Label


def sexual(detector: ImageClassifier, pixels: np.ndarray) -> float:
    scores = detector.score_image(pixels)
    assert set(scores) == {Label.SEXUAL} == detector.image_labels
    return scores[Label.SEXUAL]


def test_it_scores_what_the_network_says(red_is_sexual: ImageClassifier):
    assert sexual(red_is_sexual, folders.plain(32, 32, folders.RED)) > 0.99
    assert sexual(red_is_sexual, folders.plain(32, 32, folders.GREEN)) < 0.01
    assert sexual(red_is_sexual, folders.plain(32, 32, folders.GREY)) == pytest.approx(0.5, abs=1e-6)


def test_it_scores_pictures_only(red_is_sexual: ImageClassifier):
    assert red_is_sexual.text_labels == frozenset()
    assert red_is_sexual.score_text("a flower") == {}


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 700), (700, 3), (33, 31), (500, 40)])
def test_any_size_and_shape_is_judged(red_is_sexual: ImageClassifier, height: int, width: int):
    assert sexual(red_is_sexual, folders.plain(height, width, folders.RED)) > 0.99
    assert sexual(red_is_sexual, folders.plain(height, width, folders.GREEN)) < 0.01


def test_a_small_region_is_found_in_a_tile_though_the_whole_hides_it(red_is_sexual: ImageClassifier, tmp_path: Path):
    pixels = folders.with_patch(300, 300, size=90, top=5, left=200)
    large = folders.with_patch(96, 96, size=29, top=2, left=64)
    assert sexual(red_is_sexual, large) < 0.1, "seen as a whole alone it counts for little"
    assert sexual(red_is_sexual, pixels) > 0.9


def test_four_threads_get_what_one_gets(red_is_sexual: ImageClassifier):
    rng = np.random.default_rng(5)
    many = [rng.integers(0, 256, (40 + 30 * index, 200, 3), dtype=np.uint8) for index in range(12)]
    alone = [red_is_sexual.score_image(pixels) for pixels in many]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(red_is_sexual.score_image, many)) == alone


def test_it_needs_no_torchvision(made_classifier: Path):
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torchvision', 'timm', 'cv2']))  # so that importing them fails\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from tests.detectors import folders\n"
        "from tintype.detectors import loading\n"
        f"folder = Path({str(made_classifier)!r})\n"
        "detector = loading.load(folder, folders.manifest.read(folder / 'manifest.json'), 'cpu')\n"
        "print(detector.score_image(np.zeros((64, 64, 3), np.uint8)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sexual" in done.stdout


@pytest.mark.parametrize(
    "labels",
    [
        {"normal": None, "porn": "sexual"},
        {"nsfw": "sexual"},
        {"normal": None, "nsfw": None},
        {"normal": None, "nsfw": "x"},
    ],
)
def test_labels_that_are_not_the_networks_are_refused(classifier_folder: Path, labels: dict[str, str | None]):
    manifest = folders.listed(classifier_folder, {"adapter": "image_classifier", "labels": labels})
    with pytest.raises(DetectorBrokenError, match="label"):
        create(classifier_folder, manifest, "cpu")


def test_weights_that_are_not_finite_are_refused(classifier_folder: Path):
    spoil_weights(classifier_folder, lambda weights: weights["classifier.weight"].fill_(float("nan")))
    with pytest.raises(DetectorBrokenError, match="not finite"):
        create(classifier_folder, folders.relisted(classifier_folder), "cpu")


def test_a_missing_weight_is_not_made_up(classifier_folder: Path):
    spoil_weights(classifier_folder, lambda weights: weights.pop("classifier.weight"))
    with pytest.raises(DetectorBrokenError, match="1 missing keys"):
        create(classifier_folder, folders.relisted(classifier_folder), "cpu")


def test_a_weight_of_another_shape_is_refused(classifier_folder: Path):
    spoil_weights(classifier_folder, lambda weights: weights.update({"classifier.weight": torch.zeros(3, 8)}))
    with pytest.raises(DetectorBrokenError):
        create(classifier_folder, folders.relisted(classifier_folder), "cpu")


def spoil_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\xff" * 8 + b"{}"])
def test_damaged_weights_are_refused(classifier_folder: Path, content: bytes):
    (classifier_folder / "model.safetensors").write_bytes(content)
    with pytest.raises(DetectorBrokenError, match="install it again"):
        create(classifier_folder, folders.relisted(classifier_folder), "cpu")


def test_pickled_weights_are_neither_listed_nor_loaded(classifier_folder: Path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (classifier_folder / "sprung",))

    (classifier_folder / "model.safetensors").unlink()
    (classifier_folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DetectorBrokenError, match="can carry code"):
        create(classifier_folder, folders.relisted(classifier_folder), "cpu")
    assert not (classifier_folder / "sprung").exists()


def test_a_config_that_names_code_of_its_own_runs_none(classifier_folder: Path):
    config = json.loads((classifier_folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Net"},
    }
    (classifier_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DetectorBrokenError, match="ValueError"):
        create(classifier_folder, folders.relisted(classifier_folder), "cpu")


@pytest.mark.parametrize(
    "change", [{"size": {}}, {"size": "big"}, {"image_std": [0, 0, 0]}, {"resample": 99}, {"size": 10**9}]
)
def test_a_preprocessing_it_does_not_know_is_refused(classifier_folder: Path, change: dict[str, object]):
    content = json.dumps(folders.preprocessing(32) | change)
    (classifier_folder / "preprocessor_config.json").write_text(content)
    with pytest.raises(DetectorBrokenError, match=r"preprocessor_config\.json"):
        create(classifier_folder, folders.relisted(classifier_folder), "cpu")


def test_an_older_config_of_the_hub_is_understood(classifier_folder: Path):
    config = json.loads((classifier_folder / "config.json").read_text())
    config |= {"label2id": {"normal": "0", "nsfw": "1"}, "torch_dtype": "float32", "transformers_version": "4.31.0"}
    (classifier_folder / "config.json").write_text(json.dumps(config))
    detector = create(classifier_folder, folders.relisted(classifier_folder), "cpu")
    assert sexual(detector, folders.plain(32, 32, folders.RED)) > 0.99


def test_a_network_that_puts_out_no_numbers_has_not_judged(classifier_folder: Path):
    # 3e38 is finite, and its products are not.
    spoil_weights(classifier_folder, lambda weights: weights["classifier.weight"].fill_(3e38))
    detector = create(classifier_folder, folders.relisted(classifier_folder), "cpu")
    with pytest.raises(DetectorFailedError, match="not finite"):
        detector.score_image(folders.plain(32, 32, folders.RED))


def test_a_picture_too_large_for_the_network_to_hold_fails_by_name(red_is_sexual: ImageClassifier, monkeypatch):
    def out_of_memory(**_: object) -> None:
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(red_is_sexual._network, "forward", out_of_memory)
    with pytest.raises(DetectorFailedError, match="no memory left"):
        red_is_sexual.score_image(folders.plain(32, 32, folders.RED))


def test_the_loader_finds_the_adapter_by_its_name(made_classifier: Path):
    detector = loading.load(made_classifier, folders.manifest.read(made_classifier / "manifest.json"), "cpu")
    assert isinstance(detector, ImageClassifier)
