"""The gate: the one way by which a picture or a video leaves.

In this order: the visible label, if the operator wants one; the invisible mark; the file, with its XMP label and the
settings; the signed manifest last, which nothing may change afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tintype import __version__, settings
from tintype.media import encoding, video_encoding, xmp
from tintype.media.provenance import credentials as certificates
from tintype.media.provenance import findings, manifest, mark, visible
from tintype.media.provenance.credentials import Credentials
from tintype.media.provenance.manifest import Facts, Ingredient
from tintype.media.provenance.visible import VisibleLabel
from tintype.media.settings_text import GenerationSettings

COMMON_KEY = b"tintype invisible mark 1"
"""The mark's key unless the operator sets one: every installation finds what any other marked."""

MESSAGES = {xmp.SourceType.CREATED: mark.Message.CREATED, xmp.SourceType.EDITED: mark.Message.EDITED}


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """Who labels: what is signed with, the key of the invisible mark, the visible label."""

    credentials: Credentials
    mark_key: bytes = field(default=COMMON_KEY, repr=False)
    visible_label: VisibleLabel | None = None


def open(home: Path, chosen: settings.Provenance) -> Issuer:  # noqa: A001
    """What this installation labels with, tried out once; call it when a process starts.

    Raises:
        CertificateError, VisibleLabelError: a setting is wrong; says which and what to do.
        SigningError: the trial picture could not be signed.
    """
    issuer = Issuer(
        credentials=certificates.load(home, chosen),
        mark_key=mark_keys(chosen)[0],
        visible_label=visible.load(chosen),
    )
    offline = replace(issuer, credentials=replace(issuer.credentials, tsa_url=None))
    trial = seal(np.zeros((8, 8, 3), np.uint8), "png", None, Facts(model="trial"), offline)
    found = findings.read(trial, "image/png")
    if found.state not in ("trusted", "untrusted"):
        reasons = "; ".join(reason.explanation for reason in found.reasons)
        raise certificates.CertificateError(f"a trial signature is {found.state} ({reasons}): use another certificate")
    return issuer


def mark_keys(chosen: settings.Provenance) -> tuple[bytes, ...]:
    """The keys of marks that count as ours, the one to mark with first."""
    if chosen.mark_key is None:
        return (COMMON_KEY,)
    return chosen.mark_key.get_secret_value().encode(), COMMON_KEY


def seal(
    pixels: NDArray[np.uint8],
    format: encoding.Format,  # noqa: A002
    settings: GenerationSettings | None,
    facts: Facts,
    issuer: Issuer,
    ingredients: Sequence[Ingredient] = (),
    *,
    alpha: NDArray[np.uint8] | None = None,
) -> bytes:
    """The file that leaves: `pixels` (uint8 [h, w, 3], sRGB) labelled, marked, encoded and signed.

    `alpha` (uint8 [h, w]) makes it transparent, which JPEG cannot be. Without `settings` prompt and settings stay out
    of it; everything that says how it came to be stays in. It counts as edited where one of `ingredients` is a parent.
    Takes a while: run it in a thread.

    Raises:
        ValueError: the pixels do not fit the format, or there are two parents.
        SigningError, TimestampError: it cannot be signed; then nothing leaves.
    """
    made = manifest.source_type(ingredients)
    marked = _marked(pixels, made, issuer)
    data = encoding.encode(marked, format, settings, _label(made, facts), alpha=alpha)
    return manifest.sign(data, encoding.CONTENT_TYPES[format], facts, issuer.credentials, ingredients)


def seal_video(
    frames: NDArray[np.uint8],
    fps: float,
    format: video_encoding.Format,  # noqa: A002
    settings: GenerationSettings | None,
    facts: Facts,
    issuer: Issuer,
    ingredients: Sequence[Ingredient] = (),
) -> bytes:
    """As `seal`, of a video: `frames` are uint8 [n, h, w, 3], each labelled and marked as a picture would be."""
    made = manifest.source_type(ingredients)
    marked = (_marked(frame, made, issuer) for frame in frames)
    data = video_encoding.encode(marked, frames.shape, fps, format, settings, _label(made, facts))
    return manifest.sign(data, video_encoding.CONTENT_TYPES[format], facts, issuer.credentials, ingredients)


def _marked(pixels: NDArray[np.uint8], made: xmp.SourceType, issuer: Issuer) -> NDArray[np.uint8]:
    return mark.embed(visible.draw(pixels, issuer.visible_label), MESSAGES[made], issuer.mark_key)


def _label(made: xmp.SourceType, facts: Facts) -> xmp.Label:
    return xmp.Label(source_type=made, system=f"Tintype {__version__}", model=facts.model)


def seal_thumbnail(
    pixels: NDArray[np.uint8], facts: Facts, issuer: Issuer, ingredients: Sequence[Ingredient] = ()
) -> bytes:
    """A small WebP of a picture that leaves, labelled as that is; ingredients are only named in it."""
    return seal_beside(encoding.shrink(pixels), facts, issuer, ingredients)


def seal_beside(
    pixels: NDArray[np.uint8], facts: Facts, issuer: Issuer, ingredients: Sequence[Ingredient] = ()
) -> bytes:
    """A WebP that stands for something that leaves, as large as it is; ingredients are only named in it."""
    named = [Ingredient(data=b"", content_type=one.content_type, relation=one.relation) for one in ingredients]
    return seal(pixels, "webp", None, facts, issuer, named)
