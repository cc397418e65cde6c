"""From a provider's output to stored files: encode, name, store; and take back what nobody will ever see."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tintype import __version__, logs, storage
from tintype.db.base import new_id, now
from tintype.generations.claims import Claim
from tintype.generations.lineage import Lineage
from tintype.media import encoding, files
from tintype.media.provenance import gate
from tintype.media.provenance.manifest import Facts, Ingredient
from tintype.media.settings_text import GenerationSettings
from tintype.media.tables import Media
from tintype.providers.contract import Output, VideoOutput

THUMBNAIL_TYPE = "image/webp"

log = logs.get("worker")


@dataclass(frozen=True, kw_only=True)
class Storyboard:
    """What a video has beside a picture: its storyboard, a WebP, and what its row says of it."""

    data: bytes
    frames: int
    fps: float
    codec: str


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A picture or video as bytes, with its thumbnail."""

    data: bytes
    content_type: str
    thumbnail: bytes
    width: int
    height: int
    storyboard: Storyboard | None = None


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A picture or video that lies in storage but is not yet anybody's."""

    index: int
    seed: int
    key: str
    thumbnail_key: str
    encoded: Encoded
    settings: GenerationSettings

    @property
    def storyboard_key(self) -> str | None:
        """Where a video's storyboard lies."""
        return files.of_storyboard(self.key) if self.encoded.storyboard else None

    @property
    def keys(self) -> list[str]:
        """Where all its files lie."""
        return [key for key in (self.key, self.thumbnail_key, self.storyboard_key) if key is not None]


async def store(
    store: storage.Store, claim: Claim, output: Output, issuer: gate.Issuer, ingredients: Sequence[Ingredient] = ()
) -> Stored:
    """Label, encode and sign one picture with its settings, and put it and its thumbnail into storage."""
    written = settings_of(claim, output)
    file_format = claim.parameters["output_format"]
    facts = Facts(model=claim.model)
    encoded = await asyncio.to_thread(_seal, output, file_format, written, facts, issuer, ingredients)
    return await put(store, claim, output, encoded, written)


async def put(
    store: storage.Store, claim: Claim, output: Output | VideoOutput, encoded: Encoded, written: GenerationSettings
) -> Stored:
    """Put the files of an output into storage, all or none."""
    key, thumbnail_key = files.of_picture(
        claim.id, attempt=claim.attempt, index=output.index, file_format=claim.parameters["output_format"]
    )
    stored = Stored(
        index=output.index,
        seed=output.seed,
        key=key,
        thumbnail_key=thumbnail_key,
        encoded=encoded,
        settings=written,
    )
    parts = [(encoded.data, encoded.content_type), (encoded.thumbnail, THUMBNAIL_TYPE)]
    if encoded.storyboard is not None:
        parts.append((encoded.storyboard.data, THUMBNAIL_TYPE))
    outcomes = await asyncio.gather(
        *(storage.put(store, name, *part) for name, part in zip(stored.keys, parts, strict=True)),
        return_exceptions=True,  # a put that goes on after the other failed would come after the discard
    )
    for fault in outcomes:
        if fault is not None:
            await discard(store, stored.keys)
            raise fault
    return stored


def _seal(
    output: Output,
    file_format: encoding.Format,
    settings: GenerationSettings,
    facts: Facts,
    issuer: gate.Issuer,
    ingredients: Sequence[Ingredient],
) -> Encoded:
    pixels = output.pixels if output.alpha is None else encoding.over_white(output.pixels, output.alpha)
    height, width = pixels.shape[:2]
    return Encoded(
        data=gate.seal(pixels, file_format, settings, facts, issuer, ingredients, alpha=output.alpha),
        content_type=encoding.CONTENT_TYPES[file_format],
        thumbnail=gate.seal_thumbnail(pixels, facts, issuer, ingredients),
        width=width,
        height=height,
    )


def keys_of(row: Media) -> list[str]:
    """Where the files of a picture or video lie."""
    return [key for key in (row.key, row.thumbnail_key, row.storyboard_key) if key is not None]


async def discard(store: storage.Store, keys: Sequence[str]) -> None:
    """Delete files whose generation did not complete with them; what stays now goes after the generation's end."""
    try:
        await storage.delete(store, keys)
    except storage.StorageUnavailableError as error:
        log.warning("files stay for now", reason=error.reason)


def settings_of(claim: Claim, output: Output | VideoOutput) -> GenerationSettings:
    """What is written into the file: enough to make the picture again."""
    parameters = claim.parameters
    return GenerationSettings(
        prompt=parameters["drawn"]["prompt"],
        negative_prompt=parameters["drawn"]["negative_prompt"],
        steps=parameters["num_inference_steps"],
        sampler=parameters["sampler"] or None,
        guidance_scale=parameters["guidance_scale"],
        seed=output.seed,
        width=parameters["width"],
        height=parameters["height"],
        model=claim.model,
        style=claim.style,
        tool="Tintype",
        tool_version=__version__,
    )


def row(claim: Claim, stored: Stored, known: Lineage, *, shows_person: bool | None) -> Media:
    """The row that makes a stored picture part of its generation, with what is `known` of what went into it."""
    encoded, storyboard = stored.encoded, stored.encoded.storyboard
    return Media(
        id=new_id(),
        owner_id=claim.owner_id,
        generation_id=claim.id,
        index=stored.index,
        source="generated",
        content_type=encoded.content_type,
        width=encoded.width,
        height=encoded.height,
        size_bytes=len(encoded.data),
        sha256=encoding.content_hash(encoded.data),
        key=stored.key,
        thumbnail_key=stored.thumbnail_key,
        thumbnail_sha256=encoding.content_hash(encoded.thumbnail),
        seed=stored.seed,
        settings={**claim.parameters, "seed": stored.seed, "model": claim.model, "style": claim.style},
        shows_person=shows_person,
        person_in_lineage=known.has_person_source,
        is_foreign=known.is_foreign,
        frames=storyboard.frames if storyboard else None,
        fps=storyboard.fps if storyboard else None,
        codec=storyboard.codec if storyboard else None,
        storyboard_key=stored.storyboard_key,
        storyboard_sha256=encoding.content_hash(storyboard.data) if storyboard else None,
        created_at=now(),
    )
