"""Pictures on their way to a provider: read, decoded, judged; none is seen by a provider before that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from tintype import logs, safety, storage
from tintype.catalog.operations import Catalogue, Model
from tintype.db import session as db
from tintype.db.session import Database, WriteSession
from tintype.generations import companions, lineage, validation
from tintype.generations.claims import Claim
from tintype.generations.lineage import Lineage, Source
from tintype.generations.states import Role
from tintype.media import operations as media
from tintype.media.provenance.manifest import Ingredient
from tintype.media.tables import Media
from tintype.safety.contract import Pixels
from tintype.verdicts.operations import Judged
from tintype.worker.checks import Checks

log = logs.get("worker")


@dataclass(frozen=True, kw_only=True)
class Input:
    """A picture that goes into a generation: the bytes as they are stored, and its pixels as `media.decoding` says."""

    role: Role
    media: Media
    data: bytes
    pixels: Pixels

    @property
    def ingredient(self) -> Ingredient:
        """The picture as it is named in the manifest of what comes of it."""
        relation = "parentOf" if self.role == "source" else "inputTo"
        return Ingredient(data=self.data, content_type=self.media.content_type, relation=relation)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything that goes into a generation beside its words, judged; `known` is what the facts of checks rest on."""

    known: Lineage
    pictures: tuple[Input, ...] = ()
    judged: list[Judged] = field(default_factory=list[Judged])

    def pixels_of(self, media_id: str) -> Pixels:
        """The pixels of the picture that parameters name."""
        return next(one.pixels for one in self.pictures if str(one.media.id) == media_id)

    @property
    def ingredients(self) -> list[Ingredient]:
        """The pictures as the manifest names them."""
        return [one.ingredient for one in self.pictures]


async def take_in(
    database: Database, store: storage.Store, catalogue: Catalogue, checks: Checks, claim: Claim
) -> Inputs:
    """Read what goes into a generation and have the detectors judge it; what was found of people is written down.

    An upload that may not come in is deleted, row and files.

    Raises:
        safety.BlockedError: a picture shows what is not used here.
        safety.SafetyUnavailableError: no detector can judge one right now.
        validation.SafetyDetectorMissingError: none is installed, for a picture or for a model.
        lineage.OnePersonError: more than one may show a person.
        lineage.InputGoneError: one has been deleted.
    """
    models = [catalogue.get(name) for name in (claim.model, *companions.ids_of(claim.parameters))]
    validation.check_safety(models, catalogue)
    if not names_pictures(claim.parameters):
        return Inputs(known=_known(models, []))
    sources = await _sources(database, claim)
    validation.check_pictures_safety([(("body", lineage.PLACES[role]), row) for role, row in sources], catalogue)
    judged: list[Judged] = []
    pictures: list[Input] = []
    for role, row in sources:
        data = await storage.get(store, row.key)
        one = Input(role=role, media=row, data=data, pixels=await media.pixels_of(data))
        judged += await _judge(database, store, checks, claim, one)
        pictures.append(one)
    return Inputs(known=_known(models, sources), pictures=tuple(pictures), judged=judged)


def names_pictures(parameters: Mapping[str, Any]) -> bool:
    """Whether resolved parameters name any picture."""
    return any(name in parameters for name in ("image", "controls", "style_image", "option_pictures"))


def _known(models: Sequence[Model], sources: Sequence[Source]) -> Lineage:
    lineage.check_one_person(models, sources, are_judged=True)
    return lineage.of(models, sources)


async def _sources(database: Database, claim: Claim) -> list[Source]:
    rows = await db.persistently(database, lambda session: lineage.inputs_of(session, claim.id))
    sources: list[Source] = [(cast("Role", one.role), row) for one, row in rows if row is not None]
    if len(sources) < len(rows):
        raise lineage.InputGoneError
    return sources


async def _judge(database: Database, store: storage.Store, checks: Checks, claim: Claim, one: Input) -> list[Judged]:
    row = one.media
    try:
        seen = await checks.let_input_through(claim, row, one.pixels, field=lineage.PLACES[one.role])
    except safety.BlockedError:
        if row.source == "uploaded":
            await _delete(database, store, row)
        raise
    if seen.shows_person is not None and seen.shows_person != row.shows_person:
        row.shows_person = shows_person = seen.shows_person
        await db.persistently(database, lambda session: media.note_person(session, row.id, shows_person=shows_person))
    return seen.judged


async def _delete(database: Database, store: storage.Store, row: Media) -> None:
    async def work(session: WriteSession) -> tuple[str, ...]:
        return await media.drop_upload(session, row)

    keys = await db.persistently(database, work)
    try:
        await storage.delete(store, keys)
    except storage.StorageUnavailableError as error:
        log.warning("files stay for now", reason=error.reason)
