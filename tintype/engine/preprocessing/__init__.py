"""What networks that steer are shown of a photograph: its edges, its depths, a pose, its coarse colours."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tintype.engine import pictures
from tintype.engine.preprocessing import depth, edges, pose, softness
from tintype.providers.contract import Control, GenerationRequest, ModelFiles, ProviderError

DEPTH_ESTIMATOR = "depth_estimator"
POSE_ESTIMATOR = "pose_estimator"
"""The companions that read depths, and where joints are, off a photograph."""
NETWORKS = {"depth": DEPTH_ESTIMATOR, "pose": POSE_ESTIMATOR}


class ControlNotReadyError(ProviderError):
    """A photograph was given where only a drawing made elsewhere will do."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(
            f"the {kind} control cannot be made of a photograph here; {what}",
            code="control_not_ready",
            retryable=False,
        )


def draw_ahead(request: GenerationRequest) -> GenerationRequest:
    """The request with the drawings made that take a network, in the largest size they are wanted in.

    That takes a while and may be done in any thread, so that nobody's steps wait for it.

    Raises:
        ControlNotReadyError, ModelBrokenError: as from `prepare`.
    """
    scale = 1.0 if request.hires is None else request.hires.scale
    size = round(request.height * scale), round(request.width * scale)
    drawn = tuple(
        replace(control, pixels=prepare(control, size, request.companions), is_ready=True)
        if control.type in NETWORKS and not control.is_ready
        else control
        for control in request.controls
    )
    return replace(request, controls=drawn)


def prepare(control: Control, size: tuple[int, int], companions: Mapping[str, ModelFiles]) -> NDArray[np.uint8]:
    """The picture that the control's network is shown: uint8 RGB of `size`, which is height and width.

    One that is ready is only resampled. Networks that this takes are among the `companions`, and run on the host.

    Raises:
        ControlNotReadyError: it has to be made ready elsewhere; says of what kind.
        ModelBrokenError: the files of a companion cannot be used.
    """
    pixels = pictures.resize(control.pixels, size)
    if control.is_ready:
        return pixels
    match control.type:
        case "canny":
            return _in_white(edges.find(pixels))
        case "scribble":
            return _in_white(edges.scribble(pixels))
        case "tile":
            return softness.soften(pixels)
        case "depth":
            if (estimator := companions.get(DEPTH_ESTIMATOR)) is None:
                raise ControlNotReadyError(
                    "depth", "install a depth estimator, or send a picture of depths, near bright, that `is_ready`"
                )
            return _in_grey(depth.estimate(control.pixels, size, Path(estimator.folder)))
        case "pose":
            if (estimator := companions.get(POSE_ESTIMATOR)) is None:
                raise ControlNotReadyError(
                    "pose", "install a pose estimator, or send a skeleton as OpenPose draws it that `is_ready`"
                )
            return pose.draw(pose.estimate(control.pixels, Path(estimator.folder)), size)


def _in_white(drawn: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return _in_grey(np.where(drawn, np.uint8(255), np.uint8(0)))


def _in_grey(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(values[..., None], 3, axis=2)
