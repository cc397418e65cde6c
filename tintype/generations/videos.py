"""From a request for a video to resolved parameters, against the manifest of its model."""

from collections.abc import Iterator, Sequence
from typing import Any

from tintype.catalog.manifest import Length, Limits, Manifest, Task
from tintype.catalog.operations import Catalogue
from tintype.errors import FieldError
from tintype.generations import edits, pictures, validation
from tintype.generations.pictures import Picture
from tintype.generations.schemas import Drawing, ImageCreate, VideoCreate
from tintype.generations.validation import Resolved, field, invalid
from tintype.media import video_encoding


def resolve(request: VideoCreate, catalogue: Catalogue, inputs: Sequence[Picture]) -> Resolved:
    """Check a request for a video and fill in what it leaves out; its length becomes a whole number of frames.

    Raises:
        ModelUnknownError, SafetyDetectorMissingError, InvalidGenerationError: as for pictures.
    """
    task: Task = "text_to_video" if request.image is None else "image_to_video"
    model = edits.model_for(request.model, None, catalogue, task)
    validation.check_safety([model], catalogue)
    manifest = model.manifest
    assert manifest.limits is not None
    assert manifest.length is not None
    width, height = _size(request, manifest, manifest.limits, inputs)
    fps = request.fps or manifest.length.fps
    frames = _frames(request, manifest.length, fps)
    drawing = _as_drawing(request, width, height)
    problems = [
        *_problems(request, manifest),
        *_length_problems(request, manifest.length, fps, manifest.id),
        *validation.size_problems(width, height, manifest.limits, manifest),
        *validation.taken_problems(request, manifest),
        *validation.drawing_problems(drawing, model, catalogue),
    ]
    if problems:
        raise invalid(problems)
    parameters = validation.filled_in(task, drawing, None, manifest, catalogue, inputs) | {
        "output_format": request.output_format,
        "frames": frames,
        "fps": fps,
        "seconds": round(frames / fps, 3),
        **_named(inputs),
    }
    return Resolved(model=model, style=None, prompt=request.prompt, parameters=parameters)


def _as_drawing(request: VideoCreate, width: int, height: int) -> ImageCreate:
    """What a video has in common with a picture, checked already."""
    shared = {name: getattr(request, name) for name in Drawing.model_fields}
    shared |= {"prompt": request.prompt, "width": width, "height": height}
    return ImageCreate.model_construct(None, **shared)


def _named(inputs: Sequence[Picture]) -> dict[str, Any]:
    by_place = pictures.ids_by_place(inputs)
    return {name: by_place["body", name] for name in pictures.VIDEO_ROLES if ("body", name) in by_place}


def _size(request: VideoCreate, manifest: Manifest, limits: Limits, inputs: Sequence[Picture]) -> tuple[int, int]:
    """As asked for, else the model's own; from a picture as many pixels as that at most, in the picture's shape."""
    defaults = manifest.defaults
    assert defaults is not None
    source = next((picture.media for picture in inputs if picture.role == "source"), None)
    if source is None or request.width is not None or request.height is not None:
        return request.width or defaults.width, request.height or defaults.height
    most = min(limits.max_pixels, defaults.width * defaults.height)
    return edits.fitted(source.width, source.height, limits.model_copy(update={"max_pixels": most}))


def _frames(request: VideoCreate, length: Length, fps: int) -> int:
    if request.frames is not None:
        return length.nearest(request.frames)
    return length.nearest(request.seconds * fps) if request.seconds is not None else length.frames


def _problems(request: VideoCreate, manifest: Manifest) -> Iterator[FieldError]:
    if not request.prompt and request.image is None:
        yield field("prompt", "is required; say what to show, or send a picture to begin with")
    if request.last_image is not None and request.image is None:
        yield field("last_image", "needs `image` beside it, the picture to begin with")
    if request.last_image is not None and "last_image" not in manifest.features:
        yield field("last_image", f"{manifest.id!r} does not offer this; leave it out or choose another model")


def _length_problems(request: VideoCreate, length: Length, fps: int, model_id: str) -> Iterator[FieldError]:
    if request.frames is not None and request.seconds is not None:
        yield field("frames", "says the same as `seconds`; send one of them")
    most_fps = min(length.max_fps, video_encoding.MOST_FPS[request.output_format])
    if not length.min_fps <= fps <= most_fps:
        shown = f"{model_id!r} makes {request.output_format!r} of {length.min_fps} to {most_fps} frames a second"
        yield field("fps", f"{shown}; send that")
    least, most = length.nearest(0), length.nearest(length.max_frames)
    if request.frames is not None and not least <= request.frames <= most:
        yield field("frames", f"{model_id!r} makes {least} to {most} frames; send {length.nearest(request.frames)}")
    half = 0.5 / fps
    if request.seconds is not None and not least / fps - half <= request.seconds <= most / fps + half:
        said = f"{model_id!r} makes {least / fps:.3g} to {most / fps:.3g} seconds at {fps} frames a second; send that"
        yield field("seconds", said)
