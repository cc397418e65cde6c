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
from tintype.providers.contract import Output

THUMBNAIL_TYPE = "image/webp"

log = logs.get("worker")


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A picture as bytes, with its thumbnail."""

    data: bytes
    thumbnail: bytes
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A picture that lies in storage but is not yet anybody's."""

    output: Output
    key: str
    thumbnail_key: str
    size_bytes: int
    sha256: str
    thumbnail_sha256: str
    width: int
    height: int
    settings: GenerationSettings


async def store(
    store: storage.Store, claim: Claim, output: Output, issuer: gate.Issuer, ingredients: Sequence[Ingredient] = ()
) -> Stored:
    """Label, encode and sign one output with its settings, and put it and its thumbnail into storage."""
    written = settings_of(claim, output)
    file_format = claim.parameters["output_format"]
    facts = Facts(model=claim.model)
    encoded = await asyncio.to_thread(_seal, output, file_format, written, facts, issuer, ingredients)
    key, thumbnail_key = files.of_picture(claim.id, attempt=claim.attempt, index=output.index, file_format=file_format)
    stored = Stored(
        output=output,
        key=key,
        thumbnail_key=thumbnail_key,
        size_bytes=len(encoded.data),
        sha256=encoding.content_hash(encoded.data),
        thumbnail_sha256=encoding.content_hash(encoded.thumbnail),
        width=encoded.width,
        height=encoded.height,
        settings=written,
    )
    outcomes = await asyncio.gather(
        storage.put(store, stored.key, encoded.data, encoding.CONTENT_TYPES[file_format]),
        storage.put(store, stored.thumbnail_key, encoded.thumbnail, THUMBNAIL_TYPE),
        return_exceptions=True,  # a put that goes on after the other failed would come after the discard
    )
    for fault in outcomes:
        if fault is not None:
            await discard(store, [stored])
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
        thumbnail=gate.seal_thumbnail(pixels, facts, issuer, ingredients),
        width=width,
        height=height,
    )


async def discard(store: storage.Store, stored: Sequence[Stored]) -> None:
    """Delete files whose generation did not complete with them; what stays now goes after the generation's end."""
    try:
        await storage.delete(store, [key for item in stored for key in (item.key, item.thumbnail_key)])
    except storage.StorageUnavailableError as error:
        log.warning("files stay for now", reason=error.reason)


def settings_of(claim: Claim, output: Output) -> GenerationSettings:
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
        graph=output.graph,
    )


def row(claim: Claim, stored: Stored, known: Lineage, *, shows_person: bool | None) -> Media:
    """The row that makes a stored picture part of its generation, with what is `known` of what went into it."""
    return Media(
        id=new_id(),
        owner_id=claim.owner_id,
        generation_id=claim.id,
        index=stored.output.index,
        source="generated",
        content_type=encoding.CONTENT_TYPES[claim.parameters["output_format"]],
        width=stored.width,
        height=stored.height,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        key=stored.key,
        thumbnail_key=stored.thumbnail_key,
        thumbnail_sha256=stored.thumbnail_sha256,
        seed=stored.output.seed,
        settings={**claim.parameters, "seed": stored.output.seed, "model": claim.model, "style": claim.style},
        shows_person=shows_person,
        person_in_lineage=known.has_person_source,
        is_foreign=known.is_foreign,
        created_at=now(),
    )
