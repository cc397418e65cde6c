"""From a provider's video to files: its frames taken out and judged, written anew, signed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tintype import errors
from tintype.catalog.manifest import MAX_FRAMES
from tintype.generations.claims import Claim
from tintype.intake import frames as intake
from tintype.media import storyboards, video_encoding
from tintype.media.provenance import gate
from tintype.media.provenance.manifest import Facts, Ingredient
from tintype.media.settings_text import GenerationSettings
from tintype.providers.contract import Frames, ProviderError, VideoFile, VideoOutput
from tintype.worker import results
from tintype.worker.checks import Checks, Seen
from tintype.worker.inputs import Inputs
from tintype.worker.results import Encoded, Storyboard

LIMITS = intake.Limits(max_frames=MAX_FRAMES)
LEAST_SIDE = 16


@dataclass(frozen=True, kw_only=True)
class Made:
    """A video that may pass, as files, and what was seen in it."""

    seen: Seen
    encoded: Encoded
    settings: GenerationSettings


async def make(checks: Checks, claim: Claim, took: Inputs, output: VideoOutput, issuer: gate.Issuer) -> Made:
    """The files of a video, its poster and its storyboard; nothing is written before its frames were judged.

    Raises:
        safety.BlockedError, safety.SafetyUnavailableError: as for a picture; one frame is enough.
        ProviderError: what the provider gave is no video.
    """
    frames = await _frames_of(output.video)
    seen = await checks.let_frames_through(claim, took.known, frames)
    written = results.settings_of(claim, output)
    extra = {"Frames": str(len(frames.pixels)), "FPS": f"{frames.fps:g}"}
    written = written.model_copy(update={"extra": {**written.extra, **extra}})
    encoded = await asyncio.to_thread(_seal, claim, frames, written, issuer, took.ingredients)
    return Made(seen=seen, encoded=encoded, settings=written)


async def _frames_of(video: Frames | VideoFile) -> Frames:
    if isinstance(video, VideoFile):
        try:
            taken = await intake.take(video.data, LIMITS)
        except errors.InvalidRequestError as error:
            detail = f"the video that came back cannot be read: {error.detail}"
            raise ProviderError(detail, code="video_unreadable", retryable=False) from error
        video = Frames(pixels=taken.pixels, fps=taken.fps)
    shape = video.pixels.shape
    if video.pixels.dtype.name != "uint8" or len(shape) != 4 or shape[3] != 3 or not 1 <= shape[0] <= MAX_FRAMES:
        detail = f"the video that came back is {video.pixels.dtype} {shape}; at most {MAX_FRAMES} frames are taken"
        raise ProviderError(detail, code="video_unusable", retryable=False)
    if min(shape[1:3]) < LEAST_SIDE or not 0 < video.fps <= 1000:
        detail = f"the video that came back has {shape[2]}×{shape[1]} pixels and {video.fps} frames a second"
        raise ProviderError(detail, code="video_unusable", retryable=False)
    return video


def _seal(
    claim: Claim,
    frames: Frames,
    settings: GenerationSettings,
    issuer: gate.Issuer,
    ingredients: Sequence[Ingredient],
) -> Encoded:
    facts = Facts(model=claim.model)
    file_format: video_encoding.Format = claim.parameters["output_format"]
    height, width = video_encoding.size_in(file_format, frames.pixels.shape)
    pixels = frames.pixels[:, :height, :width]
    return Encoded(
        data=gate.seal_video(pixels, frames.fps, file_format, settings, facts, issuer, ingredients),
        content_type=video_encoding.CONTENT_TYPES[file_format],
        thumbnail=gate.seal_thumbnail(pixels[0], facts, issuer, ingredients),
        width=width,
        height=height,
        storyboard=Storyboard(
            data=gate.seal_beside(storyboards.draw(pixels), facts, issuer, ingredients),
            frames=len(pixels),
            fps=frames.fps,
            codec=video_encoding.CODECS[file_format],
        ),
    )
