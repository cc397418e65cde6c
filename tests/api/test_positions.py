"""Places in line: right for any priorities, in one query for a whole page, and quick however long the line is."""

import random
import time

from sqlalchemy import event, insert

from tintype.accounts import actors
from tintype.catalog.operations import Catalogue
from tintype.db import session as db
from tintype.db.base import new_id, now
from tintype.generations import events, queries
from tintype.generations import operations as generations
from tintype.generations.schemas import ImageCreate
from tintype.generations.tables import Generation


def row(*, model: str = "a", priority: int = 0, status: str = "queued") -> dict:
    is_over = status not in ("queued", "processing")
    times = {"created_at": now(), "completed_at": now() if is_over else None}
    same = {"owner_id": actors.local_owner().id, "kind": "image", "prompt": "", "parameters": {}, "cost_usd": 0.0}
    return {**same, **times, "id": new_id(), "model": model, "priority": priority, "status": status}


async def add(database: db.Database, rows: list[dict]) -> None:
    async with db.transaction(database) as session:
        await session.execute(insert(Generation), rows)


async def listed(database: db.Database, limit: int) -> tuple[dict, int]:
    """The places of a page's generations, and how many statements that took."""
    statements = []
    event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    async with db.reading(database) as session:
        actor, wanted = actors.local_owner(), queries.Filter()
        rows, _ = await queries.page(session, actor, wanted, limit=limit, cursor=None)
        before = len(statements)
        places = await queries.positions(session, rows)
    return places, len(statements) - before


async def test_every_place_of_a_page_is_right_and_one_query_tells_them(database):
    chance = random.Random(5)
    statuses = ["queued"] * 4 + ["processing", "completed", "failed", "cancelled"]
    rows = [
        row(model=chance.choice("ab"), priority=chance.randint(-2, 2), status=chance.choice(statuses))
        for _ in range(150)
    ]
    await add(database, rows)
    places, statements = await listed(database, 200)
    waiting = [one for one in rows if one["status"] == "queued"]
    expected = {
        one["id"]: place
        for model in "ab"
        for place, one in enumerate(
            sorted((o for o in waiting if o["model"] == model), key=lambda o: (-o["priority"], o["id"])), start=1
        )
    }
    assert places == expected
    assert statements == 1


async def test_nothing_is_asked_where_nothing_waits(database):
    await add(database, [row(status="completed"), row(status="processing")])
    assert await listed(database, 50) == ({}, 0)


async def test_a_long_line_is_counted_to_a_thousand_and_no_further(database):
    for _ in range(4):
        await add(database, [row() for _ in range(5000)])
    begun = time.perf_counter()
    places, _ = await listed(database, 200)
    assert time.perf_counter() - begun < 2
    assert len(places) == 200
    assert set(places.values()) == {queries.POSITION_LIMIT}


async def test_the_place_told_by_the_first_event_is_the_place_read(database, tmp_path):
    catalogue, actor = Catalogue(tmp_path), actors.local_owner()
    async with db.transaction(database) as session:
        made = [await generations.create(session, actor, ImageCreate(prompt="x"), catalogue) for _ in range(3)]
        places = await queries.positions(session, [one.generation for one in made])
        told = await events.after(session, 0, owner_id=actor.id)
    assert [places[one.generation.id] for one in made] == [1, 2, 3]
    assert [one.place for one in made] == [1, 2, 3]
    assert [event.data["position"] for event in told] == [1, 2, 3]
