"""What goes into a generation: pictures and models, whether a person is among them, and what came of a picture."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import ARRAY, bindparam, insert, select, text
from sqlalchemy.dialects.postgresql import UUID

from tintype import errors
from tintype.accounts.actors import Actor
from tintype.catalog.operations import Model
from tintype.db.session import ReadSession, WriteSession
from tintype.errors import FieldError
from tintype.generations import pictures
from tintype.generations.pictures import Picture
from tintype.generations.states import Role
from tintype.generations.tables import Generation, GenerationInput
from tintype.media.tables import Media
from tintype.safety import Facts, Stage

Source = tuple[Role, Media]
"""A picture that goes in, and what for."""


class OnePersonError(errors.InvalidRequestError):
    """At most one picture of a request may show a person, so that nobody's face is put onto somebody else."""

    code = "one_person_only"


class MediaInUseError(errors.ConflictError):
    """A generation that has not finished draws from this picture; cancel it first, or wait."""

    code = "media_in_use"


class InputGoneError(errors.ConflictError):
    """A picture that this was made from has been deleted; send a new request with another."""

    code = "input_gone"


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What the server knows of everything that goes into a generation, as `safety.Facts` names it."""

    has_person_source: bool
    has_foreign_source: bool
    model_draws_people: bool

    @property
    def is_foreign(self) -> bool:
        """Whether what comes out may show what only a detector can see."""
        return self.has_person_source or self.has_foreign_source or self.model_draws_people

    def facts(self, stage: Stage) -> Facts:
        """The facts of a check at this stage."""
        return Facts(
            stage=stage,
            has_person_source=self.has_person_source,
            has_foreign_source=self.has_foreign_source,
            model_draws_people=self.model_draws_people,
        )


def of(models: Iterable[Model], inputs: Iterable[Source] = ()) -> Lineage:
    """What is known of these models and pictures; a picture nobody has judged counts as a person's.

    A mask says where to draw and not what, so no person comes in with it.
    """
    models, inputs = tuple(models), tuple(inputs)
    has_person = any(
        role != "mask" and (row.shows_person is not False or row.person_in_lineage) for role, row in inputs
    )
    return Lineage(
        has_person_source=has_person or any(model.manifest.depicts_person for model in models),
        has_foreign_source=any(row.is_foreign for _, row in inputs),
        model_draws_people=any(model.can_draw_people for model in models),
    )


def check_one_person(models: Iterable[Model], inputs: Iterable[Source], *, are_judged: bool) -> None:
    """Refuse several people in one request; a picture nobody could tell of counts once all `are_judged`.

    The same picture twice is one, a LoRA of a person counts as one.

    Raises:
        OnePersonError: it names what to leave out.
    """
    inputs = tuple(inputs)
    shown = {
        row.sha256
        for role, row in inputs
        if role != "mask" and (row.shows_person or (are_judged and row.shows_person is None))
    }
    people = [model.id for model in models if model.manifest.depicts_person]
    if len(shown) + len(people) <= 1:
        return
    what = [f"{len(shown)} of the pictures"] if shown else []
    what += [f"the LoRA {name!r}" for name in people]
    unsure = (
        " (each picture counts as a person's until a detector of people is installed)" if _is_unsure(inputs) else ""
    )
    detail = f"{' and '.join(what)} show a person{unsure}; at most one may, so leave the others out"
    raise OnePersonError(detail, fields=(FieldError(loc=("body", "image"), msg=detail),))


def _is_unsure(inputs: Iterable[Source]) -> bool:
    return any(role != "mask" and row.shows_person is None for role, row in inputs)


async def write(session: WriteSession, generation_id: uuid.UUID, inputs: Sequence[Picture]) -> None:
    """Note which pictures go into a generation, in the transaction of its row."""
    rows = [
        {
            "generation_id": generation_id,
            "position": position,
            "role": picture.role,
            "media_id": picture.media.id,
            "made_by": picture.media.generation_id,
        }
        for position, picture in enumerate(inputs)
    ]
    if rows:
        await session.execute(insert(GenerationInput), rows)


async def inputs_of(
    session: ReadSession | WriteSession, generation_id: uuid.UUID
) -> list[tuple[GenerationInput, Media | None]]:
    """The pictures that go into a generation, in order; None for one that was deleted."""
    rows = await session.execute(
        select(GenerationInput, Media)
        .outerjoin(Media, Media.id == GenerationInput.media_id)
        .where(GenerationInput.generation_id == generation_id)
        .order_by(GenerationInput.position)
    )
    return [(row[0], row[1]) for row in rows]


async def carried_over(session: WriteSession, actor: Actor, generation_id: uuid.UUID) -> list[Picture]:
    """The pictures that went into a generation, locked against deletion, for one like it.

    Raises:
        InputGoneError: one has been deleted.
    """
    found: list[Picture] = []
    for one, _ in await inputs_of(session, generation_id):
        row = await pictures.held(session, actor, one.media_id)
        if row is None:
            raise InputGoneError
        role = cast("Role", one.role)
        found.append(Picture(place=("body", PLACES[role]), role=role, media=row))
    return found


PLACES: dict[Role, str] = {
    "source": "image",
    "mask": "mask",
    "control": "controls",
    "style": "style_image",
    "reference": "references",
    "last": "last_image",
}
"""Under which name of a request a picture of each role stands."""


async def check_not_in_use(session: WriteSession, media_ids: Sequence[uuid.UUID]) -> None:
    """Refuse to delete pictures that a generation waits for or works on; the caller holds their rows.

    Raises:
        MediaInUseError: it names the generation.
    """
    unfinished = (
        select(Generation.id)
        .join(GenerationInput, GenerationInput.generation_id == Generation.id)
        .where(GenerationInput.media_id.in_(media_ids), Generation.completed_at.is_(None))
        .limit(1)
    )
    user = (await session.execute(unfinished)).scalar_one_or_none() if media_ids else None
    if user is not None:
        raise MediaInUseError(f"the generation {user} draws from this picture; cancel it first, or wait until it ended")


MADE_FROM = text(
    """
    WITH RECURSIVE made (id) AS (
        SELECT generation_id FROM generation_inputs WHERE media_id = ANY(:media)
        UNION
        SELECT inputs.generation_id FROM generation_inputs inputs JOIN made ON inputs.made_by = made.id
    )
    SELECT generations.id FROM made JOIN generations USING (id) ORDER BY generations.id DESC
    """
).bindparams(bindparam("media", type_=ARRAY(UUID())))


async def made_from(session: ReadSession | WriteSession, media_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Every generation that these pictures went into, however far back, newest first."""
    return list((await session.execute(MADE_FROM, {"media": list(media_ids)})).scalars())


DEAD_ENDS = text(
    """
    DELETE FROM generation_inputs inputs
    WHERE NOT EXISTS (SELECT FROM generations WHERE generations.id = inputs.generation_id)
      AND NOT EXISTS (SELECT FROM generation_inputs later WHERE later.made_by = inputs.generation_id)
    """
)


async def forget_dead_ends(session: WriteSession) -> None:
    """Drop what is known of the inputs of deleted generations that nothing else came of."""
    await session.execute(DEAD_ENDS)
