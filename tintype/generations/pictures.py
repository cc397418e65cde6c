"""The pictures a request names: where, what for, and which of the actor's they are."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from tintype import errors
from tintype.accounts.actors import Actor
from tintype.catalog.manifest import Manifest
from tintype.catalog.operations import Catalogue
from tintype.db.session import WriteSession
from tintype.errors import FieldError
from tintype.generations.schemas import IS_PICTURE, EditCreate, ImageCreate, Request, UpscaleCreate, VideoCreate
from tintype.generations.states import Role
from tintype.media import operations as media
from tintype.media.operations import Upload
from tintype.media.tables import Media

Place = tuple[str | int, ...]
VIDEO_ROLES: dict[str, Role] = {"image": "source", "last_image": "last"}


class PictureUnknownError(errors.InvalidRequestError):
    """The request names a picture that does not exist, or is not yours."""

    code = "picture_unknown"


@dataclass(frozen=True, kw_only=True)
class Named:
    """A picture as a request names it: at which place of the body, what for, by which text."""

    place: Place
    role: Role
    text: str

    @property
    def media_id(self) -> uuid.UUID | None:
        """The id it is named by; None for a data URL or a link."""
        return None if self.text.startswith(("data:", "http")) else uuid.UUID(self.text)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of the actor's that goes into a generation."""

    place: Place
    role: Role
    media: Media


def named(request: Request, catalogue: Catalogue) -> Iterator[Named]:
    """Every picture that the request names, those in the options of the model it names included."""
    if isinstance(request, VideoCreate):
        for name, role in VIDEO_ROLES.items():
            if (text := getattr(request, name)) is not None:
                yield Named(place=("body", name), role=role, text=text)
    if isinstance(request, EditCreate | UpscaleCreate):
        yield Named(place=("body", "image"), role="source", text=request.image)
    if isinstance(request, EditCreate):
        if isinstance(request.mask, str):
            yield Named(place=("body", "mask"), role="mask", text=request.mask)
        for index, text in enumerate(request.references):
            yield Named(place=("body", "references", index), role="reference", text=text)
    if isinstance(request, ImageCreate):
        for index, control in enumerate(request.controls):
            yield Named(place=("body", "controls", index, "image"), role="control", text=control.image)
        if request.style_image is not None:
            yield Named(place=("body", "style_image"), role="style", text=request.style_image)
    model = catalogue.models().get(request.model) if request.model is not None else None
    for name in picture_options(model.manifest) if model is not None else ():
        text = request.options.get(name)
        if isinstance(text, str) and IS_PICTURE.match(text):
            yield Named(place=("body", "options", name), role="reference", text=text)


def picture_options(manifest: Manifest) -> tuple[str, ...]:
    """The options of a model that are pictures."""
    properties = manifest.options.get("properties", {})
    return tuple(name for name, schema in properties.items() if schema.get("format") == "picture")


async def find(
    session: WriteSession,
    actor: Actor,
    request: Request,
    catalogue: Catalogue,
    brought: Mapping[str, Upload],
) -> list[Picture]:
    """The pictures a request names, locked against deletion; those it brings along become uploads of the actor's.

    `brought` holds what is stored already of data URLs and links, by the text that names it.

    Raises:
        PictureUnknownError: some are not there; all are listed.
    """
    added: dict[str, Media] = {}
    found: list[Picture] = []
    problems: list[FieldError] = []
    for name in named(request, catalogue):
        if name.media_id is None:
            if name.text not in added:
                added[name.text] = await media.add_upload(session, actor, brought[name.text])
            row = added[name.text]
        else:
            row = await held(session, actor, name.media_id)
        if row is None:
            said = f"there is no picture {name.text!r} of yours; send the id of one, or the picture as a data URL"
            problems.append(FieldError(loc=name.place, msg=said))
        elif row.frames is not None:
            said = f"{name.text!r} is a video; send the id of a picture, or the picture as a data URL"
            problems.append(FieldError(loc=name.place, msg=said))
        else:
            found.append(Picture(place=name.place, role=name.role, media=row))
    if problems:
        raise PictureUnknownError("; ".join(problem.msg for problem in problems), fields=tuple(problems))
    return found


async def held(session: WriteSession, actor: Actor, media_id: uuid.UUID) -> Media | None:
    """A picture of the actor's that cannot be deleted before the transaction ends; None where there is none."""
    mine = select(Media).where(Media.id == media_id, Media.owner_id == actor.id)
    return (await session.execute(mine.with_for_update(read=True, key_share=True))).scalar_one_or_none()


def ids_by_place(found: Sequence[Picture]) -> dict[Place, str]:
    """The media id of each place of the body that names a picture."""
    return {picture.place: str(picture.media.id) for picture in found}
