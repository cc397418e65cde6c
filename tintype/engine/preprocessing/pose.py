"""The pose of the person in a photograph, by ViTPose, drawn as OpenPose draws it; on the host.

The network wants a picture of one person; it is given the whole one, so the person should fill most of it.
"""

import colorsys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tintype.engine.preprocessing import estimators

Joints = Mapping[int, tuple[float, float]]
"""Where joints are, as fractions of width and height, by OpenPose's numbers; those that are not seen are left out."""

HEIGHT, WIDTH = 256, 192
LEAST_SHARE = 0.3
"""A joint of which the network is less sure is not drawn."""
COCO = {
    0: 0,
    6: 2,
    8: 3,
    10: 4,
    5: 5,
    7: 6,
    9: 7,
    12: 8,
    14: 9,
    16: 10,
    11: 11,
    13: 12,
    15: 13,
    2: 14,
    1: 15,
    4: 16,
    3: 17,
}
"""From the order of the joints in COCO, which networks answer in, to OpenPose's."""
NECK, SHOULDERS = 1, (2, 5)
LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10)),
    *((1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
COLOURS = tuple(
    cast("tuple[int, int, int]", tuple(int(255 * part) for part in colorsys.hsv_to_rgb(index / 18, 1, 1)))
    for index in range(18)
)
LIMB_SHADE = 0.6
STROKES = 64
"""A limb is one part in so many of the shorter side wide."""


@torch.inference_mode()
def estimate(pixels: NDArray[np.uint8], folder: Path) -> Joints:
    """Where the joints of the person are.

    Raises:
        ModelBrokenError: the network in `folder` cannot be loaded.
    """
    network, reading = estimators.load(folder, transformers.VitPoseForPoseEstimation)
    wanted = cast("dict[str, int]", reading.get("size", {}))
    height, width = wanted.get("height", HEIGHT), wanted.get("width", WIDTH)
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    across, down = (max(1, round(scale * along)) for along in (pixels.shape[1], pixels.shape[0]))
    given = np.zeros((height, width, 3), np.uint8)
    left, top = (width - across) // 2, (height - down) // 2
    given[top : top + down, left : left + across] = np.asarray(Image.fromarray(pixels).resize((across, down)))
    several = getattr(network.config.backbone_config, "num_experts", 1) > 1
    told: dict[str, Any] = {"dataset_index": torch.zeros(1, dtype=torch.long)} if several else {}
    maps = network(estimators.standardise(given, reading), **told).heatmaps[0].float().numpy()
    found: dict[int, tuple[float, float]] = {}
    for index, joint in COCO.items():
        row, column = np.unravel_index(int(maps[index].argmax()), maps[index].shape)
        if maps[index][row, column] >= LEAST_SHARE:
            x, y = ((float(at) + 0.5) / of for at, of in ((column, maps.shape[2]), (row, maps.shape[1])))
            found[joint] = (x * width - left) / across, (y * height - top) / down
    if all(shoulder in found for shoulder in SHOULDERS):
        one, other = (found[shoulder] for shoulder in SHOULDERS)
        found[NECK] = (one[0] + other[0]) / 2, (one[1] + other[1]) / 2
    return found


def draw(joints: Joints, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The skeleton on black: uint8 RGB of `size`, which is height and width."""
    height, width = size
    picture = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(picture)
    places = {joint: (x * width, y * height) for joint, (x, y) in joints.items()}
    wide = max(2, min(size) // STROKES)
    for index, (one, other) in enumerate(LIMBS):
        if one in places and other in places:
            shade = tuple(int(LIMB_SHADE * part) for part in COLOURS[index])
            pen.line((places[one], places[other]), fill=shade, width=wide)
    for joint, (x, y) in places.items():
        pen.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), fill=COLOURS[joint])
    return np.array(picture)
