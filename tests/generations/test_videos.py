"""Requests for videos against the limits of a manifest: lengths become whole numbers of frames, sizes fit pictures."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.videos import MOVING
from tintype.catalog.manifest import Length
from tintype.catalog.operations import Catalogue
from tintype.generations import validation, videos
from tintype.generations.pictures import Picture
from tintype.generations.schemas import VideoCreate
from tintype.media.tables import Media
from tintype.safety import registry


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """The model `moving`, and one that says nothing of last pictures; a detector counts as installed."""
    for name, changes in {"moving": {}, "plain": {"features": []}}.items():
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({**MOVING, "id": name, **changes}))
    monkeypatch.setattr(registry, "has_foreign", lambda: True)
    return Catalogue(tmp_path)


def resolve(catalogue: Catalogue, *, inputs: tuple[Picture, ...] = (), **fields: Any) -> dict[str, Any]:
    asked = VideoCreate.model_validate({"prompt": "a square", "model": "moving", **fields})
    return videos.resolve(asked, catalogue, inputs).parameters


def picture(width: int, height: int, *, role: str = "source") -> Picture:
    place = ("body", "image" if role == "source" else "last_image")
    return Picture(place=place, role=role, media=Media(id=uuid.uuid4(), width=width, height=height))  # type: ignore[arg-type]


def refused(catalogue: Catalogue, **fields: Any) -> dict[Any, str]:
    """What is said of each field of a request that is refused."""
    with pytest.raises(validation.InvalidGenerationError) as caught:
        resolve(catalogue, **fields)
    return {problem.loc[-1]: problem.msg for problem in caught.value.fields}


@pytest.mark.parametrize(
    ("asked", "frames", "fps", "seconds"),
    [
        ({}, 9, 8, 1.125),
        ({"seconds": 1}, 9, 8, 1.125),
        ({"seconds": 2, "fps": 8}, 17, 8, 2.125),
        ({"seconds": 2, "fps": 12}, 25, 12, 2.083),
        ({"frames": 12}, 13, 8, 1.625),
        ({"frames": 49, "fps": 24}, 49, 24, 2.042),
    ],
)
def test_a_length_becomes_the_closest_number_of_frames_that_the_model_makes(catalogue, asked, frames, fps, seconds):
    found = resolve(catalogue, **asked)
    assert (found["frames"], found["fps"], found["seconds"]) == (frames, fps, seconds)
    assert (found["task"], found["num_images"], len(found["seeds"])) == ("text_to_video", 1, 1)


@pytest.mark.parametrize(
    ("asked", "field", "says"),
    [
        ({"seconds": 60}, "seconds", "0.625 to 6.12 seconds at 8"),
        ({"seconds": 0.2}, "seconds", "0.625"),
        ({"frames": 100}, "frames", "send 49"),
        ({"frames": 1}, "frames", "send 5"),
        ({"frames": 9, "seconds": 1}, "frames", "one of them"),
        ({"fps": 100}, "fps", "1 to 60"),
        ({"fps": 60, "output_format": "gif"}, "fps", "1 to 50"),
        ({"width": 63}, "width", "send 56"),
        ({"num_inference_steps": 1000, "guidance_scale": 90}, "guidance_scale", "at most"),
        ({"loras": [{"model_id": "x"}]}, "loras", "does not offer"),
        ({"prompt": ""}, "prompt", "is required"),
        ({"route": "fast"}, "route", "no routes"),
        ({"options": {"step_s": "x"}}, "step_s", ""),
    ],
)
def test_a_broken_limit_is_named_with_what_to_send_instead(catalogue, asked, field, says):
    assert says in refused(catalogue, **asked)[field]


def test_a_last_picture_needs_a_first_one_and_a_model_that_takes_it(catalogue):
    last = picture(64, 64, role="last")
    asked = {"last_image": str(last.media.id)}
    assert "needs `image`" in refused(catalogue, inputs=(last,), **asked)["last_image"]
    first = picture(64, 64)
    both = {**asked, "image": str(first.media.id)}
    assert "does not offer" in refused(catalogue, inputs=(first, last), model="plain", **both)["last_image"]
    found = resolve(catalogue, inputs=(first, last), **both)
    assert (found["task"], found["image"], found["last_image"]) == (
        "image_to_video",
        both["image"],
        asked["last_image"],
    )


@pytest.mark.parametrize(
    ("size", "asked", "expected"),
    [
        ((1200, 800), {}, (72, 48)),
        ((800, 1200), {}, (48, 72)),
        ((64, 64), {}, (64, 64)),
        ((1200, 800), {"width": 128, "height": 128}, (128, 128)),
    ],
)
def test_a_video_from_a_picture_has_its_shape_and_about_as_many_pixels_as_the_model_draws(
    catalogue, size, asked, expected
):
    source = picture(*size)
    found = resolve(catalogue, inputs=(source,), image=str(source.media.id), **asked)
    assert (found["width"], found["height"]) == expected


def test_a_model_that_makes_no_videos_is_refused_with_one_that_does(catalogue):
    assert "'moving'" in refused(catalogue, model="sketch")["model"]
    assert VideoCreate.model_validate({"prompt": "x"}).model is None
    assert videos.resolve(VideoCreate.model_validate({"prompt": "x"}), catalogue, ()).model.id in ("moving", "plain")


@pytest.mark.parametrize("field", [{"num_images": 2}, {"hires": {"scale": 2}}, {"output_format": "webm"}, {"fps": 1.5}])
def test_what_no_video_has_is_refused_by_its_form(field):
    with pytest.raises(ValidationError):
        VideoCreate.model_validate({"prompt": "x", **field})


@pytest.mark.parametrize("wrong", [{"frames": 8}, {"fps": 61}, {"frames": 53}])
def test_a_length_outside_of_its_own_limits_is_no_manifest(wrong):
    with pytest.raises(ValidationError, match="within the limits"):
        Length.model_validate({**MOVING["length"], **wrong})
