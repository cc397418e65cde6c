"""Work elsewhere whose result nobody wants: who is given it to end, when, and what is never ended."""

import uuid

import pytest
from sqlalchemy import text

from tests.queue.test_fences import generation, take  # noqa: F401  a fixture
from tintype.accounts.actors import local_owner
from tintype.db import session as db
from tintype.generations import claims, leftovers, operations
from tintype.generations.leftovers import Work
from tintype.providers.contract import WORK_UNKNOWN, ProviderError
from tintype.providers.registry import Providers
from tintype.worker.elsewhere import Elsewhere


class Service:
    """A provider whose `cancel` does what a test tells it to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fault: Exception | None = None

    async def cancel(self, token: str) -> None:
        self.asked.append(token)
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def elsewhere(database, service) -> Elsewhere:
    return Elsewhere(database=database, providers=Providers(ready={"cloud": service}, broken={}))


async def doomed(database) -> list[tuple[str, str, int]]:
    async with db.reading(database) as session:
        rows = await session.execute(text("SELECT provider, token, tries FROM doomed_work ORDER BY provider, token"))
        return [tuple(row) for row in rows]


async def doom(database, *works: Work) -> None:
    async with db.transaction(database) as session:
        for work in works:
            await leftovers.doom_stray(session, work)


def work(token: str = "a", *, provider: str = "cloud", generation_id: uuid.UUID | None = None) -> Work:
    return Work(provider=provider, token=token, generation_id=generation_id or uuid.uuid4())


async def test_work_is_left_to_workers_that_have_its_provider(database, elsewhere, service):
    await doom(database, work("a"), work("b", provider="other"))
    await elsewhere.end_doomed()
    assert service.asked == ["a"]
    assert await doomed(database) == [("other", "b", 0)]


@pytest.mark.parametrize(
    ("fault", "is_over"),
    [
        (ProviderError("no such work", code=WORK_UNKNOWN, retryable=False), True),
        (ProviderError("wrong key", code="unauthorized", retryable=False), False),
        (ProviderError("busy", code="busy", retryable=True), False),
        (KeyError("a bug of the plug-in's"), False),
        (TimeoutError(), False),
    ],
)
async def test_work_is_asked_about_until_its_provider_says_that_it_is_over(
    database, elsewhere, service, fault, is_over
):
    service.fault = fault
    await doom(database, work())
    await elsewhere.end_doomed()
    assert await doomed(database) == ([] if is_over else [("cloud", "a", 1)])
    await elsewhere.end_doomed()
    assert service.asked == ["a"], "the next try comes after a pause"
    async with db.transaction(database) as session:
        await session.execute(text("UPDATE doomed_work SET due_at = now()"))
    service.fault = None
    await elsewhere.end_doomed()
    assert service.asked == ["a"] if is_over else ["a", "a"]
    assert await doomed(database) == []


async def test_pauses_between_tries_grow_up_to_five_minutes(database):
    await doom(database, work())
    pauses = []
    for _ in range(30):
        async with db.transaction(database) as session:
            await session.execute(text("UPDATE doomed_work SET due_at = now()"))
            assert len(await leftovers.take(session, ["cloud"])) == 1
            pauses.append(
                float(await session.scalar(text("SELECT extract(epoch FROM due_at - now()) FROM doomed_work")))
            )
    assert [round(pause) for pause in pauses[:4]] == [2, 4, 8, 16]
    assert {round(pause) for pause in pauses[8:]} == {300}


async def test_two_workers_do_not_try_at_the_same_time(database):
    await doom(database, work())
    async with db.transaction(database) as first, db.transaction(database) as second:
        taken = [await leftovers.take(session, ["cloud"]) for session in (first, second)]
    assert [len(works) for works in taken] == [1, 0]


async def test_work_begun_by_an_attempt_that_is_over_is_ended_unless_a_later_attempt_goes_on_with_it(
    database,
    generation,  # noqa: F811
):
    zombie = await take(database, generation.id, dead_after_s=60)
    second = await take(database, generation.id, dead_after_s=0)
    async with db.transaction(database) as session:
        assert await claims.checkpoint(session, second, work("current", generation_id=generation.id))
        for token in ("current", "stray"):
            assert not await claims.checkpoint(session, zombie, work(token, generation_id=generation.id))
    assert await doomed(database) == [("cloud", "stray", 0)]


async def test_work_whose_generation_was_deleted_before_its_token_was_stored_is_ended(
    database,
    elsewhere,
    service,
    generation,  # noqa: F811
):
    held = await take(database, generation.id, dead_after_s=60)
    async with db.transaction(database) as session:
        await operations.remove(session, local_owner(), generation.id)
    async with db.transaction(database) as session:
        assert not await claims.checkpoint(session, held, work(generation_id=generation.id))
    await elsewhere.end_doomed()
    assert service.asked == ["a"]


async def test_work_whose_token_could_not_be_stored_while_the_database_was_away_is_ended(
    database,
    elsewhere,
    service,
    generation,  # noqa: F811
):
    held = await take(database, generation.id, dead_after_s=60)
    stored, lost = (work(token, generation_id=generation.id) for token in ("stored", "lost"))
    async with db.transaction(database) as session:
        assert await claims.checkpoint(session, held, stored)
    elsewhere.strays.update({stored, lost})  # of neither did the answer to the commit arrive
    await elsewhere.end_doomed()
    assert service.asked == ["lost"]
    assert elsewhere.strays == set()


async def test_a_completed_generation_leaves_no_work_to_end(database, generation):  # noqa: F811
    held = await take(database, generation.id, dead_after_s=60)
    async with db.transaction(database) as session:
        assert await claims.checkpoint(session, held, work(generation_id=generation.id))
    async with db.transaction(database) as session:
        await claims.complete(session, held, [], cost_usd=0)
    async with db.transaction(database) as session:
        await operations.remove(session, local_owner(), generation.id)
    assert await doomed(database) == []
