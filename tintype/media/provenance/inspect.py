"""What a file that came in says about how it was made: manifest, XMP label, invisible mark, settings of any tool."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tintype import settings
from tintype.errors import TintypeError
from tintype.intake import frames as intake
from tintype.intake import video
from tintype.media import decoding, embedded, recall, xmp
from tintype.media.provenance import credentials, findings, gate, mark
from tintype.media.provenance.findings import Failure, Manifest
from tintype.media.settings_text import GenerationSettings
from tintype.media.xmp import Label

LIMITS = decoding.Limits()
MOST_VIDEO_BYTES = 512 << 20
STARTS = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"WEBP", 8, "image/webp"),
    (b"GIF8", 0, "image/gif"),
)
WEBP_MOVES = 0x02
LOOKED_AT_FRAMES = 24
"""The mark is the same in each frame and what moves is not, so it stands out where as many are laid over each other."""
AVIF_BRANDS = (b"avif", b"avis")
MADE_BY_MACHINE = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia")


class MarkRead(BaseModel):
    """The invisible mark: `absent` says little, since small or much changed pictures lose it; `score` in deviations."""

    model_config = ConfigDict(frozen=True)

    state: Literal["created", "edited", "absent", "not_looked_for"]
    score: float | None = None
    reason: str | None = Field(default=None, description="Why it was not looked for.")


class SettingsRead(BaseModel):
    """The settings found in the file and whose way of writing them it was, or why there are none."""

    model_config = ConfigDict(frozen=True)

    source: str | None = None
    settings: GenerationSettings | None = None
    reason: str | None = None


class Inspection(BaseModel):
    """Everything a file says about how it was made. Only a `trusted` manifest is proof; all else can be forged.

    `is_labelled` says whether any of manifest, XMP or mark calls it made or edited by a machine. That none does proves
    nothing: labels are easily stripped.
    """

    model_config = ConfigDict(frozen=True)

    content_type: str | None
    size_bytes: int
    sha256: str
    is_labelled: bool
    manifest: Manifest
    xmp: Label | None
    mark: MarkRead
    settings: SettingsRead


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What files are judged by: the roots (PEM) whose signatures count, the keys under which a mark is looked for."""

    roots: str = ""
    mark_keys: tuple[bytes, ...] = (gate.COMMON_KEY,)


def trust(home: Path, chosen: settings.Provenance) -> Trust:
    """What this installation judges files by: its own root and the operator's, its own key and the common one.

    Raises:
        CertificateError: the operator's list of roots cannot be read.
    """
    return Trust(roots=credentials.trusted_roots(home, chosen), mark_keys=gate.mark_keys(chosen))


def inspect(data: bytes, trusted: Trust) -> Inspection:
    """Look at a file; never raises, whatever it is. Takes up to some seconds: run it in a thread.

    Of what is over 30 MiB (a video: 512), or neither by its first bytes, only size and hash are told.
    """
    size, digest = len(data), hashlib.sha256(data).hexdigest()
    content_type = type_of(data)
    most = MOST_VIDEO_BYTES if content_type == "video/mp4" else LIMITS.max_bytes
    if size > most or content_type is None:
        reason = "the file is too large" if content_type else f"the file is none of {decoding.ACCEPTED}, MP4, GIF"
        return Inspection(
            content_type=content_type,
            size_bytes=size,
            sha256=digest,
            is_labelled=False,
            manifest=Manifest(state="unread", reasons=(Failure(code="file.unread", explanation=reason),)),
            xmp=None,
            mark=MarkRead(state="not_looked_for", reason=reason),
            settings=SettingsRead(reason=reason),
        )
    said = findings.read(data, content_type, trusted.roots)
    label = xmp.label_in(embedded.read(data).xmp)
    found = _mark(data, trusted.mark_keys)
    types = [*said.source_types, *([label.source_type] if label else [])]
    return Inspection(
        content_type=content_type,
        size_bytes=size,
        sha256=digest,
        is_labelled=any(_is_by_machine(name) for name in types) or found.state in ("created", "edited"),
        manifest=said,
        xmp=label,
        mark=found,
        settings=_settings(data),
    )


def type_of(data: bytes) -> str | None:
    """The content type by the file's first bytes; None for what is no picture or video Tintype looks into."""
    for start, at, content_type in STARTS:
        if data[at : at + len(start)] == start:
            return content_type
    if data[4:8] == b"ftyp" and data[8:12] in AVIF_BRANDS:
        return "image/avif"
    if data[4:8] == b"ftyp" and data[8:12] in video.BRANDS:
        return "video/mp4"
    return None


def _is_by_machine(source_type: str) -> bool:
    return source_type.rpartition("/")[2] in MADE_BY_MACHINE


def _mark(data: bytes, keys: tuple[bytes, ...]) -> MarkRead:
    try:
        pixels = _overlaid(data) if _moves(data) else decoding.decode(data, LIMITS).pixels
    except TintypeError as error:
        return MarkRead(state="not_looked_for", reason=error.detail)
    if min(pixels.shape[:2]) < mark.SIDE:
        return MarkRead(state="not_looked_for", reason=f"the picture is smaller than {mark.SIDE} pixels a side")
    found = mark.detect(pixels, *keys)
    states: dict[mark.Message | None, Literal["created", "edited", "absent"]]
    states = {mark.Message.CREATED: "created", mark.Message.EDITED: "edited", None: "absent"}
    return MarkRead(state=states[found.message], score=round(found.score, 1))


def _moves(data: bytes) -> bool:
    """Whether it is a video or an animation."""
    is_webp = data[8:16] == b"WEBPVP8X" and len(data) > 20 and bool(data[20] & WEBP_MOVES)
    return is_webp or type_of(data) in ("video/mp4", "image/gif")


def _overlaid(data: bytes) -> decoding.Pixels:
    """The mean of a video's first frames."""
    frames = intake.unpack(data, intake.Limits(wall_s=60), first=LOOKED_AT_FRAMES).pixels
    return np.rint(frames.mean(axis=0)).astype(np.uint8)


def _settings(data: bytes) -> SettingsRead:
    found = recall.recall(data)
    if isinstance(found, recall.NothingFound):
        return SettingsRead(reason=found.reason)
    return SettingsRead(source=found.source, settings=found.settings)
