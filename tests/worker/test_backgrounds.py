"""A new background takes two providers: each in its own slot, and a stop ends either."""

import asyncio
import io
import json
import uuid
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from tests.faults.ledger import files_in, until
from tests.processes import SCRIPTED
from tintype import settings, storage
from tintype.accounts.actors import local_owner
from tintype.catalog.operations import Catalogue
from tintype.db import session as db
from tintype.db.base import new_id
from tintype.generations import operations
from tintype.generations.schemas import EditCreate
from tintype.media import operations as media
from tintype.media.provenance import gate
from tintype.providers.contract import Capability, Checkpoint, Output, Progress, Quote
from tintype.providers.registry import Providers
from tintype.queue import jobs
from tintype.queue.consumer import AgainError
from tintype.safety import registry
from tintype.worker.affinity import Affinity
from tintype.worker.checks import Checks
from tintype.worker.elsewhere import Elsewhere
from tintype.worker.held import Holdings
from tintype.worker.perform import Performer
from tintype.worker.slots import Slots, Turn

SIDE = 64
LANE = jobs.lane("inpaint", "scripted")


class Part:
    """A provider that draws grey or finds the left half in front, once it may; it knows what it was asked."""

    def __init__(self, *, token: str | None = None) -> None:
        self.asked: list[object] = []
        self.cancelled: list[str] = []
        self.may_end = asyncio.Event()
        self.is_closed = False
        self._token = token

    def capabilities(self) -> Capability:
        return Capability(tasks=("inpaint", "remove_background"), families=("*",), concurrency=1, devices=())

    def quote(self, request) -> Quote:
        return Quote(usd=0.0)

    async def generate(self, request, resume=None):
        self.asked.append(request)
        try:
            if self._token is not None:
                yield Checkpoint(token=self._token)
            while not self.may_end.is_set():
                yield Progress(step=0, steps=1)
                await asyncio.sleep(0.01)
            pixels = np.full((request.height, request.width, 3), 128, np.uint8)
            alpha = np.zeros((request.height, request.width), np.uint8)
            alpha[:, : request.width // 2] = 255
            yield Output(index=0, seed=request.seeds[0], pixels=pixels, alpha=alpha if request.mask is None else None)
        finally:
            self.is_closed = True

    async def cancel(self, token: str) -> None:
        self.cancelled.append(token)


@pytest.fixture
def new_performer(database, tmp_path) -> Callable[[Part, Part], Performer]:
    """Makes a worker's performer with a provider that draws and another that finds backgrounds, a slot for each."""
    tasks = {"scripted": ["text_to_image", "inpaint"], "remover": ["remove_background"]}
    for name, provider in (("scripted", "drawer"), ("remover", "cutter")):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        manifest = {**SCRIPTED, "id": name, "provider": provider, "tasks": tasks[name]}
        (folder / "manifest.json").write_text(json.dumps(manifest))

    def make(drawer: Part, cutter: Part) -> Performer:
        providers = Providers(ready={"drawer": drawer, "cutter": cutter}, broken={})
        worker_id = new_id()
        return Performer(
            worker_id=worker_id,
            database=database,
            store=storage.open(settings.Storage(), tmp_path),
            catalogue=Catalogue(tmp_path),
            providers=providers,
            elsewhere=Elsewhere(database=database, providers=providers),
            checks=Checks(database=database, detectors=registry.load()),
            issuer=gate.open(tmp_path, settings.Provenance()),
            slots=Slots({"drawer": 1, "cutter": 1}),
            holdings=Holdings(),
            affinity=Affinity(database=database, worker_id=worker_id),
            worker=settings.Worker(),
            draining=asyncio.Event(),
        )

    return make


async def ask(performer: Performer) -> uuid.UUID:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (0, 255, 0)).save(file, "PNG")
    data = file.getvalue()
    examined = await media.examine(data)
    async with db.transaction(performer.database) as session:
        upload = await media.begin_upload(session, data, examined)
    await media.put_upload(performer.store, upload, data)
    link = "data:image/png;base64,x"
    request = EditCreate(image=link, background="a beach", model="scripted")
    async with db.transaction(performer.database) as session:
        row = await operations.create(session, local_owner(), request, performer.catalogue, {link: upload})
        return row.generation.id


async def status(performer: Performer, generation_id: uuid.UUID) -> str:
    async with db.reading(performer.database) as session:
        return (await operations.get(session, local_owner(), generation_id)).status


async def test_a_background_is_looked_for_in_a_slot_of_its_own_provider_and_the_drawers_is_free_meanwhile(
    new_performer,
):
    drawer, cutter = Part(), Part()
    performer = new_performer(drawer, cutter)
    asked = await ask(performer)
    assert await performer.slots.take("cutter", unless=performer.draining)
    performing = asyncio.create_task(performer.perform(LANE, asked))
    await until(lambda: performer.holdings.get(asked), "it is claimed")
    await until(lambda: not performer.slots.is_taken("drawer"), "it leaves the drawer to others")
    assert cutter.asked == []
    performer.slots.give("cutter")
    await until(lambda: cutter.asked, "the background is looked for")
    assert (performer.slots.is_taken("cutter"), performer.slots.is_taken("drawer")) == (True, False)
    cutter.may_end.set()
    await until(lambda: drawer.asked, "it is drawn")
    assert (performer.slots.is_taken("cutter"), performer.slots.is_taken("drawer")) == (False, True)
    mask = drawer.asked[0].mask
    assert (mask[:, : SIDE // 2].max(), mask[:, SIDE // 2 :].min()) == (0, 255)
    drawer.may_end.set()
    await performing
    assert await status(performer, asked) == "completed"
    assert not performer.slots.is_taken("drawer")


@pytest.mark.parametrize("is_waiting", [False, True], ids=["it is looked for", "it waits for a slot"])
@pytest.mark.parametrize(
    ("reason", "end"), [("cancelled", "cancelled"), ("lost", "processing"), ("draining", "queued")]
)
async def test_a_stop_ends_the_search_for_a_background(new_performer, tmp_path, reason, end, is_waiting):
    drawer, cutter = Part(), Part()
    performer = new_performer(drawer, cutter)
    asked = await ask(performer)
    before = files_in(tmp_path / "media")
    if is_waiting:
        assert await performer.slots.take("cutter", unless=performer.draining)
    performing = asyncio.create_task(performer.perform(LANE, asked))
    held = await until(lambda: performer.holdings.get(asked), "it is claimed")
    if is_waiting:
        await until(lambda: not performer.slots.is_taken("drawer"), "it waits for the remover")
    else:
        await until(lambda: cutter.asked, "the background is looked for")
    if reason == "cancelled":
        async with db.transaction(performer.database) as session:
            await operations.cancel(session, local_owner(), asked)
    held.stop(reason)
    (outcome,) = await asyncio.wait_for(asyncio.gather(performing, return_exceptions=True), 5)
    assert isinstance(outcome, AgainError) == (reason == "draining")
    assert await status(performer, asked) == end
    assert (cutter.is_closed, drawer.asked) == (not is_waiting, [])
    assert performer.slots.is_taken("cutter") == is_waiting, "only the other job's slot is still taken"
    assert not performer.slots.is_taken("drawer")
    assert files_in(tmp_path / "media") == before


@pytest.mark.parametrize("reason", ["cancelled", "draining"])
async def test_a_search_that_goes_on_elsewhere_is_ended_there_as_well(new_performer, reason):
    drawer, cutter = Part(), Part(token="far away")
    performer = new_performer(drawer, cutter)
    asked = await ask(performer)
    performing = asyncio.create_task(performer.perform(LANE, asked))
    await until(lambda: cutter.asked, "the background is looked for")
    await asyncio.sleep(0.05)
    if reason == "cancelled":
        async with db.transaction(performer.database) as session:
            await operations.cancel(session, local_owner(), asked)
    performer.holdings.get(asked).stop(reason)
    await asyncio.gather(performing, return_exceptions=True)
    await performer.elsewhere.end_doomed()
    assert cutter.cancelled == ["far away"]


async def test_a_search_that_is_over_is_not_ended_elsewhere(new_performer):
    drawer, cutter = Part(), Part(token="far away")
    drawer.may_end.set()
    cutter.may_end.set()
    performer = new_performer(drawer, cutter)
    asked = await ask(performer)
    await performer.perform(LANE, asked)
    await performer.elsewhere.end_doomed()
    assert (await status(performer, asked), cutter.cancelled) == ("completed", [])
    async with db.reading(performer.database) as session:
        assert (await session.execute(text("SELECT count(*) FROM doomed_work"))).scalar_one() == 0


async def test_two_jobs_that_need_each_others_provider_both_end():
    slots, never = Slots({"a": 1, "b": 1}), asyncio.Event()

    async def job(home: str, other: str) -> None:
        turn = Turn(slots, home)
        assert await turn.begin(unless=never)
        await asyncio.sleep(0.02)
        async with turn.elsewhere(other, unless=never):
            await asyncio.sleep(0.02)
        turn.end()

    await asyncio.wait_for(asyncio.gather(job("a", "b"), job("b", "a"), job("a", "b")), 5)
    assert not slots.is_taken("a")
    assert not slots.is_taken("b")
