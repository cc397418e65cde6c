"""Content Credentials (C2PA): writes a signed manifest into finished files."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tintype import __version__
from tintype.errors import TintypeError, UnavailableError
from tintype.media import settings_text
from tintype.media.provenance import contexts
from tintype.media.provenance.credentials import Credentials
from tintype.media.xmp import SourceType

if TYPE_CHECKING:
    import c2pa

AGENT = {"name": "Tintype", "version": __version__}
MODEL_KEY = "dev.tintype.model"
TITLE = "picture"  # never a prompt or a file name: whoever gets the file reads it
MAX_INGREDIENTS = 16

Relation = Literal["parentOf", "inputTo"]


class SigningError(TintypeError):
    """The picture could not be signed, so it is not given out; look at the signing certificate (docs/provenance.md)."""

    code = "signing_failed"


class TimestampError(UnavailableError):
    """The time stamp authority gave no time stamp; try again, or unset TINTYPE_PROVENANCE_TSA_URL."""

    code = "timestamp_unavailable"


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """A picture that went into another: its bytes as they were uploaded, so that its own marks travel along.

    Without bytes it is only named, as is one that the C2PA library cannot read.
    `parentOf` is the one picture that was edited, `inputTo` any other (a reference, a control image, a mask).
    """

    data: bytes
    content_type: str
    relation: Relation


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a manifest says made the picture: the model's id and version."""

    model: str
    model_version: str | None = None


def source_type(ingredients: Sequence[Ingredient]) -> SourceType:
    """Edited if one of the ingredients is a parent, else created."""
    return SourceType.EDITED if any(one.relation == "parentOf" for one in ingredients) else SourceType.CREATED


def sign(
    data: bytes, content_type: str, facts: Facts, credentials: Credentials, ingredients: Sequence[Ingredient] = ()
) -> bytes:
    """The same file with a signed manifest in it; nothing may change it afterwards.

    Raises:
        ValueError: there are two parents, or more than 16 ingredients.
        SigningError, TimestampError: no signature can be made.
    """
    target = io.BytesIO()
    _sign(io.BytesIO(data), target, content_type, facts, credentials, ingredients)
    return target.getvalue()


def sign_file(
    source: Path,
    target: Path,
    content_type: str,
    facts: Facts,
    credentials: Credentials,
    ingredients: Sequence[Ingredient] = (),
) -> None:
    """As `sign`, from file to file: for videos, which may be larger than memory. What is left of a failure is removed.

    Raises:
        OSError: a file cannot be read or written.
    """
    try:
        with source.open("rb") as reading, target.open("w+b") as writing:
            _sign(reading, writing, content_type, facts, credentials, ingredients)
    except (OSError, ValueError, TintypeError):
        target.unlink(missing_ok=True)
        raise


def _sign(
    source: Any,
    target: Any,
    content_type: str,
    facts: Facts,
    credentials: Credentials,
    ingredients: Sequence[Ingredient],
) -> None:
    import c2pa

    if len(ingredients) > MAX_INGREDIENTS or sum(one.relation == "parentOf" for one in ingredients) > 1:
        raise ValueError(f"a picture has at most one parent and {MAX_INGREDIENTS} ingredients")
    try:
        builder = _builder(content_type, facts, credentials, ingredients)
        builder.sign(content_type, source, target)
    except c2pa.C2paError as error:
        if credentials.tsa_url and str(error).startswith("Signature"):  # the key itself was tried at the start
            raise TimestampError from error
        raise SigningError(f"the picture could not be signed: {str(error)[:300]}") from error


def _builder(
    content_type: str, facts: Facts, credentials: Credentials, ingredients: Sequence[Ingredient]
) -> "c2pa.Builder":
    """A builder with all ingredients in it; those that the library cannot read are only named."""
    import c2pa

    context = contexts.signing(credentials)
    unreadable = {index for index, one in enumerate(ingredients) if not one.data}
    while True:
        named = [_ingredient(index, ingredients[index]) for index in sorted(unreadable)]
        builder = c2pa.Builder(_definition(content_type, facts, ingredients, named), context=context)
        for index, one in enumerate(ingredients):
            if index in unreadable:
                continue
            try:
                builder.add_ingredient(_ingredient(index, one), one.content_type, io.BytesIO(one.data))
            except c2pa.C2paError:
                unreadable.add(index)
                break  # what a builder holds after a failure is not said: a new one
        else:
            return builder


def _definition(
    content_type: str, facts: Facts, ingredients: Sequence[Ingredient], named: list[dict[str, Any]]
) -> dict[str, Any]:
    made = source_type(ingredients)
    parameters: dict[str, Any] = {MODEL_KEY: _plain(facts.model)}
    if facts.model_version:
        parameters[f"{MODEL_KEY}_version"] = _plain(facts.model_version)
    said = {"digitalSourceType": made.value, "softwareAgent": AGENT}
    parents, inputs = (
        [_label(index) for index, one in enumerate(ingredients) if one.relation == relation]
        for relation in ("parentOf", "inputTo")
    )
    if inputs:
        parameters["ingredientIds"] = inputs
    if made == SourceType.EDITED:
        actions = [
            {"action": "c2pa.opened", "parameters": {"ingredientIds": parents}, "softwareAgent": AGENT},
            {"action": "c2pa.edited", "parameters": parameters, **said},
        ]
    else:
        actions = [{"action": "c2pa.created", "parameters": parameters, **said}]
    return {
        "claim_generator_info": [AGENT],
        "title": TITLE,
        "format": content_type,
        "ingredients": named,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }


def _ingredient(index: int, one: Ingredient) -> dict[str, Any]:
    """Neutral: the file name of an upload may be private."""
    return {
        "title": f"source {index + 1}",
        "relationship": one.relation,
        "label": _label(index),
        "format": one.content_type,
    }


def _plain(text: str) -> str:
    return settings_text.clean(text[:200]).replace("\0", "\ufffd")


def _label(index: int) -> str:
    return f"source{index + 1}"
