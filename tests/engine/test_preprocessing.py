"""What control networks are shown of photographs: edges as OpenCV finds them, depths, strokes; or what to send."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.engine.engines import request
from tintype.engine import loading, preprocessing
from tintype.engine.preprocessing import ControlNotReadyError, depth, edges, estimators, pose, softness
from tintype.providers.contract import Control, ControlType, Hires, ModelFiles

NETWORK = ModelFiles(id="control", family="controlnet", folder="")


def control(kind: ControlType, pixels: np.ndarray, *, is_ready: bool = False) -> Control:
    return Control(type=kind, model=NETWORK, pixels=pixels, is_ready=is_ready)


def shapes(noise: float = 0.0) -> np.ndarray:
    """Discs, bars at every angle and a soft rise, uint8 RGB."""
    picture = np.full((300, 400, 3), (60, 70, 90), np.uint8)
    cv2.circle(picture, (90, 90), 60, (230, 40, 40), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (280, 90), (90, 40), 30, 0, 360, (40, 220, 60), -1, cv2.LINE_AA)
    for index, angle in enumerate(np.linspace(0, np.pi, 9)):
        end = (int(110 + 80 * np.cos(angle)), int(270 - 80 * np.sin(angle)))
        cv2.line(picture, (110, 270), end, (250, 250, 20 * index), 5, cv2.LINE_AA)
    picture[200:280, 240:380] = np.linspace(0, 255, 140, dtype=np.uint8)[None, :, None]
    speckled = picture + np.random.default_rng(2).normal(0, noise, picture.shape)
    return speckled.clip(0, 255).astype(np.uint8)


def agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The least share of either's edge pixels that have one of the other's within a pixel."""
    near = np.ones((3, 3), np.uint8)
    of_ours = cv2.dilate(theirs.astype(np.uint8), near)[ours].mean()
    of_theirs = cv2.dilate(ours.astype(np.uint8), near)[theirs].mean()
    return min(of_ours, of_theirs)


def by_opencv(pixels: np.ndarray) -> np.ndarray:
    blurred = cv2.GaussianBlur(pixels, (5, 5), 1.0, borderType=cv2.BORDER_REPLICATE)
    return cv2.Canny(blurred, edges.LOW, edges.HIGH, apertureSize=3, L2gradient=True) > 0


@pytest.mark.parametrize("noise", [0.0, 6.0])
@pytest.mark.parametrize("turn", [0, 1])
def test_edges_are_where_opencv_finds_them(noise: float, turn: int):
    picture = np.rot90(shapes(noise), turn).copy()
    ours, theirs = edges.find(picture), by_opencv(picture)
    assert theirs.sum() > 1500
    assert agreement(ours, theirs) >= 0.95
    assert 0.9 < ours.sum() / theirs.sum() < 1.1


def test_colours_as_bright_as_each_other_have_edges_between_them():
    picture = np.full((40, 40, 3), (200, 60, 60), np.uint8)
    picture[:, 20:] = (60, 131, 60)
    assert (
        abs(float(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[0, 0]) - cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[0, 30])
        < 3
    )
    assert edges.find(picture)[:, 18:22].any(axis=1).all()


def test_a_weak_edge_counts_only_where_it_goes_on_from_a_strong_one():
    rising = np.full((60, 200), 100, np.float32)
    rising[:30] += np.linspace(0, 80, 200)
    alone = np.full((60, 200), 100, np.float32)
    alone[:30] += 30
    found = edges.find(np.repeat(rising[..., None], 3, axis=2).astype(np.uint8))
    assert found[28:32, 110:].any(axis=0).all()
    assert found[28:32, 80:100].any(axis=0).all()
    assert not edges.find(np.repeat(alone[..., None], 3, axis=2).astype(np.uint8)).any()


def test_edges_are_thin_and_an_even_picture_has_none():
    picture = np.zeros((50, 50, 3), np.uint8)
    picture[:, 25:] = 255
    assert edges.find(picture).sum() == 50
    assert not edges.find(np.full((20, 30, 3), 128, np.uint8)).any()
    assert edges.find(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1)


@pytest.mark.parametrize("kind", ["canny", "scribble", "tile"])
def test_a_photograph_is_made_ready_in_the_size_of_the_picture(kind: ControlType):
    made = preprocessing.prepare(control(kind, shapes()), (256, 320), {})
    assert made.shape == (256, 320, 3)
    assert made.dtype == np.uint8
    if kind != "tile":
        assert set(np.unique(made)) == {0, 255}


def test_what_is_ready_is_only_resampled():
    ready = np.random.default_rng(1).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    for kind in ("canny", "depth", "pose", "scribble", "tile"):
        given = control(kind, ready, is_ready=True)  # pyright: ignore[reportArgumentType]
        assert np.array_equal(preprocessing.prepare(given, (64, 48), {}), ready)
        assert preprocessing.prepare(given, (32, 24), {}).shape == (32, 24, 3)


def test_strokes_are_fewer_and_broader_than_edges():
    picture = shapes(6.0)
    strokes, lines = edges.scribble(picture), edges.find(picture)
    thinned = cv2.erode(strokes.astype(np.uint8), np.ones((3, 3), np.uint8))
    assert thinned.sum() > 0.2 * lines.sum()
    assert cv2.connectedComponents(strokes.astype(np.uint8))[0] <= cv2.connectedComponents(lines.astype(np.uint8))[0]


def test_softening_takes_details_and_leaves_colours():
    picture = shapes(12.0)
    soft = softness.soften(picture)
    assert np.abs(soft.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))).max() < 0.5
    assert soft[100:190, 160:200].std(axis=(0, 1)).max() < 0.5 * picture[100:190, 160:200].std(axis=(0, 1)).min()


@pytest.mark.parametrize(
    ("kind", "what"), [("pose", "install a pose estimator"), ("depth", "install a depth estimator")]
)
def test_what_cannot_be_made_here_says_what_to_send(kind: ControlType, what: str):
    with pytest.raises(ControlNotReadyError, match=what):
        preprocessing.prepare(control(kind, shapes()), (64, 64), {})


def install_estimator(folder: Path, **changes: object) -> ModelFiles:
    torch.manual_seed(5)
    backbone = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=28,
        patch_size=14,
        initializer_range=0.3,
        out_indices=[1, 2],
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        initializer_range=0.3,
        **changes,
    )
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    processor = {
        "size": {"height": 84, "width": 84},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": 14,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return ModelFiles(id="estimator", family="depth", folder=str(folder))


def test_depths_are_those_of_the_network_over_the_whole_range(tmp_path: Path):
    estimator, picture = install_estimator(tmp_path / "estimator"), shapes()
    made = preprocessing.prepare(control("depth", picture), (84, 112), {preprocessing.DEPTH_ESTIMATOR: estimator})
    network = transformers.AutoModelForDepthEstimation.from_pretrained(estimator.folder)
    resized = cv2.resize(picture, (112, 84), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    given = (resized - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    with torch.no_grad():
        plain = network(torch.from_numpy(given.transpose(2, 0, 1)[None])).predicted_depth[0].numpy()
    expected = 255 * (plain - plain.min()) / (plain.max() - plain.min())
    assert made.shape == (84, 112, 3)
    assert made.min() == 0
    assert made.max() == 255
    assert np.corrcoef(made[..., 0].ravel(), expected.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("picture", "reading", "expected"),
    [
        ((300, 400), {"size": {"height": 518, "width": 518}}, (518, 518)),
        ((300, 400), {"size": 384, "keep_aspect_ratio": True, "ensure_multiple_of": 32}, (288, 384)),
        ((1200, 900), {"size": 518, "keep_aspect_ratio": True, "ensure_multiple_of": 14}, (686, 518)),
        ((40, 40), {}, (384, 384)),
    ],
)
def test_a_photograph_is_brought_to_the_size_the_estimator_wants(
    picture: tuple[int, int], reading: dict[str, object], expected: tuple[int, int]
):
    given = depth._prepared(np.zeros((*picture, 3), np.uint8), reading)
    assert tuple(given.shape) == (1, 3, *expected)


def test_an_estimator_without_all_its_weights_is_not_used(tmp_path: Path):
    estimator = install_estimator(tmp_path / "estimator")
    loaded = load_file(tmp_path / "estimator" / "model.safetensors")
    loaded.pop(sorted(loaded)[-1])
    save_file(loaded, tmp_path / "estimator" / "model.safetensors")
    companions = {preprocessing.DEPTH_ESTIMATOR: estimator}
    with pytest.raises(loading.ModelBrokenError, match="lacks weights"):
        preprocessing.prepare(control("depth", shapes()), (64, 64), companions)


def test_a_picture_without_depth_is_far_all_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    estimator = install_estimator(tmp_path / "estimator")
    network, reading = estimators.load(Path(estimator.folder), transformers.AutoModelForDepthEstimation)
    monkeypatch.setattr(network, "forward", lambda given: type("Found", (), {"predicted_depth": torch.ones(1, 8, 8)}))
    assert estimators.load(Path(estimator.folder), transformers.AutoModelForDepthEstimation)[1] == reading
    assert not depth.estimate(shapes(), (16, 16), Path(estimator.folder)).any()
    rising = torch.arange(1.0, 65.0).reshape(1, 8, 8)
    monkeypatch.setattr(network, "forward", lambda given: type("Found", (), {"predicted_depth": rising}))
    near_last = depth.estimate(shapes(), (8, 8), Path(estimator.folder))
    assert near_last[0, 0] == 0
    assert near_last[-1, -1] == 255
    monkeypatch.setattr(network.config, "depth_estimation_type", "metric")
    near_first = depth.estimate(shapes(), (8, 8), Path(estimator.folder))
    assert near_first[0, 0] == 255
    assert near_first[-1, -1] == 0


def test_what_takes_a_network_is_drawn_ahead_in_the_largest_size_that_is_wanted(tmp_path: Path):
    companions = {preprocessing.DEPTH_ESTIMATOR: install_estimator(tmp_path / "estimator")}
    given = tuple(control(kind, shapes()) for kind in ("canny", "depth"))
    larger = Hires(scale=1.5, steps=4, strength=0.5)
    wanted = request(width=64, height=48, controls=given, companions=companions, hires=larger)
    edged, deep = preprocessing.draw_ahead(wanted).controls
    assert edged is given[0]
    assert deep.is_ready
    assert np.array_equal(deep.pixels, preprocessing.prepare(given[1], (72, 96), companions))


def install_pose_estimator(folder: Path) -> ModelFiles:
    backbone = transformers.VitPoseBackboneConfig(
        image_size=[64, 48],
        patch_size=[16, 16],
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        mlp_ratio=2,
    )
    config = transformers.VitPoseConfig(backbone_config=backbone, use_simple_decoder=True, num_labels=17)
    transformers.VitPoseForPoseEstimation(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 64, "width": 48}}))
    return ModelFiles(id="pose", family="pose", folder=str(folder))


def test_a_pose_is_drawn_where_the_network_sees_joints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The weights are random; what they answer is set here, their shapes are theirs."""
    estimator = install_pose_estimator(tmp_path / "pose")
    network, _ = estimators.load(Path(estimator.folder), transformers.VitPoseForPoseEstimation)
    answered: list[tuple[int, ...]] = []
    forward = network.forward

    def see(given: torch.Tensor) -> object:
        found = forward(given)
        answered.append(tuple(found.heatmaps.shape))
        found.heatmaps = torch.zeros_like(found.heatmaps)
        found.heatmaps[0, 5, 6, 8] = 0.9  # the left shoulder
        found.heatmaps[0, 6, 6, 3] = 0.9  # the right one
        found.heatmaps[0, 9, 10, 8] = 0.1  # a wrist, hardly seen
        return found

    monkeypatch.setattr(network, "forward", see)
    photograph = np.zeros((200, 150, 3), np.uint8)
    joints = pose.estimate(photograph, Path(estimator.folder))
    assert answered == [(1, 17, 16, 12)]
    assert set(joints) == {1, 2, 5}
    assert joints[5] == pytest.approx((8.5 / 12, 6.5 / 16))
    assert joints[1] == pytest.approx((6 / 12, 6.5 / 16))
    made = preprocessing.prepare(control("pose", photograph), (256, 192), {preprocessing.POSE_ESTIMATOR: estimator})
    assert made.shape == (256, 192, 3)
    assert tuple(made[104, 136]) == pose.COLOURS[5]
    assert tuple(made[104, 56]) == pose.COLOURS[2]
    assert made[104, 116].any()
    assert not made[150:].any()


def test_joints_are_found_in_a_wide_picture_at_their_own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    estimator = install_pose_estimator(tmp_path / "pose")
    network, _ = estimators.load(Path(estimator.folder), transformers.VitPoseForPoseEstimation)
    forward = network.forward

    def see(given: torch.Tensor) -> object:
        found = forward(given)
        found.heatmaps = torch.nn.functional.avg_pool2d(given[:, :1], 4).repeat(1, 17, 1, 1)
        return found

    monkeypatch.setattr(network, "forward", see)
    photograph = np.zeros((120, 240, 3), np.uint8)
    photograph[80:100, 180:200] = 255
    x, y = pose.estimate(photograph, Path(estimator.folder))[0]
    assert x == pytest.approx(190 / 240, abs=0.06)
    assert y == pytest.approx(90 / 120, abs=0.12)
