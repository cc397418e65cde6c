"""Events over Server-Sent Events and WebSocket: in order, exactly once, replayed after an interruption."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests import processes
from tests.api import problems

STEPS = {"steps": 12, "options": {"step_s": 0.1}}


@asynccontextmanager
async def all_events(studio, last_event_id: int | None = None) -> AsyncIterator[AsyncIterator[dict]]:
    """The stream of all events, already listening; items are the parsed `data` lines."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    async with httpx.AsyncClient(base_url=studio.address, timeout=30) as client:
        async with client.stream("GET", "/api/events", headers=headers) as answer:
            assert answer.status_code == 200

            async def items() -> AsyncIterator[dict]:
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        yield json.loads(line.removeprefix("data: "))

            yield items()


def socket(studio, query: str = "", **options):
    return connect(f"ws://127.0.0.1:{studio.port}/api/ws{query}", proxy=None, **options)


async def until_completed(items: AsyncIterator[dict], generations: int = 1) -> list[dict]:
    seen = []
    async with asyncio.timeout(30):
        async for item in items:
            seen.append(item)
            generations -= item["type"] == "completed"
            if not generations:
                break
    return seen


async def messages(connection) -> AsyncIterator[dict]:
    async for message in connection:
        yield json.loads(message)


async def test_the_events_of_a_generation_come_in_order_with_growing_ids(studio):
    asked = await studio.generate(num_images=2, seed=5, **STEPS)
    seen = [event async for event in studio.events(asked["id"])]
    kept = [event for event in seen if event.id is not None]
    assert [event.type for event in kept] == ["queued", "started", "image", "image", "completed"]
    assert [event.id for event in kept] == sorted({event.id for event in kept})
    assert kept[0].data["position"] >= 1
    steps = [event.data["step"] for event in seen if event.type == "progress"]
    assert steps
    assert steps == sorted(steps)
    images = [event.data for event in kept if event.type == "image"]
    assert [(image["index"], image["seed"]) for image in images] == [(0, 5), (1, 6)]
    for image in images:
        assert (await studio.http.get(image["url"])).headers["content-type"] == "image/png"
    assert kept[-1].data["media_ids"] == [image["media_id"] for image in images]


async def test_a_finished_generation_replays_what_is_kept_and_ends(studio):
    asked = await studio.generate(**STEPS)
    await studio.wait(asked["id"])
    async with asyncio.timeout(5):
        whole = [event async for event in studio.events(asked["id"])]
    assert [event.type for event in whole] == ["queued", "started", "image", "completed"]
    for index, event in enumerate(whole[:-1]):
        async with asyncio.timeout(5):
            rest = [later async for later in studio.events(asked["id"], last_event_id=event.id)]
        assert [later.id for later in rest] == [later.id for later in whole[index + 1 :]]
    seen_all = {"Last-Event-ID": str(whole[-1].id)}
    nothing = await studio.http.get(f"/api/generate/{asked['id']}/events", headers=seen_all)
    assert nothing.status_code == 204  # so that an EventSource does not come again


async def test_a_failed_generation_ends_its_stream_with_the_reason(studio):
    asked = await studio.generate(options={"fail_code": "scripted_refused"})
    seen = [event async for event in studio.events(asked["id"])]
    assert [event.type for event in seen] == ["queued", "started", "failed"]
    assert seen[-1].data == {"code": "scripted_refused", "message": "asked to fail"}


async def test_what_was_missed_of_all_generations_is_replayed_exactly(studio):
    before = await studio.generate()
    last = [event async for event in studio.events(before["id"])][-1]
    made = []
    for _ in range(3):
        made.append((await studio.generate())["id"])
        await studio.wait(made[-1])
    async with all_events(studio, last_event_id=last.id) as items:
        seen = await until_completed(items, generations=3)
    assert [(item["generation_id"], item["type"]) for item in seen] == [
        (name, kind) for name in made for kind in ("queued", "started", "image", "completed")
    ]
    assert min(item["id"] for item in seen) > last.id


async def test_without_a_last_id_only_what_happens_from_now_on_is_told(studio):
    await studio.wait((await studio.generate())["id"])
    async with all_events(studio) as items:
        asked = await studio.generate()
        seen = await until_completed(items)
    assert {item["generation_id"] for item in seen} == {asked["id"]}
    assert [item["type"] for item in seen if item["id"]] == ["queued", "started", "image", "completed"]


async def test_a_last_id_from_another_database_does_not_silence_the_stream(studio):
    async with all_events(studio, last_event_id=2**62) as items:
        asked = await studio.generate()
        seen = await until_completed(items)
    assert {item["generation_id"] for item in seen} == {asked["id"]}


@pytest.mark.parametrize("bad", ["abc", "-1", str(2**63), "1.5"])
async def test_a_last_id_that_is_none_is_refused(http, bad):
    problems.check(await http.get("/api/events", headers={"Last-Event-ID": bad}), 422, "invalid_request")


async def test_an_empty_last_id_is_as_good_as_none(http, studio):
    asked = await studio.generate()
    await studio.wait(asked["id"])
    path, headers = f"/api/generate/{asked['id']}/events", {"Last-Event-ID": ""}
    whole = await http.get(path, headers=headers)
    assert whole.text == (await http.get(path)).text
    async with http.stream("GET", "/api/events", headers=headers) as answer:
        assert answer.status_code == 200
    async with socket(studio, "?last_event_id=") as connection:
        await (await connection.ping())


async def test_a_waiting_generation_hears_its_place_and_the_connection_is_kept_alive(http, studio):
    blockers = [await studio.generate(steps=1000, options={"step_s": 0.5}) for _ in range(processes.HELD)]
    for asked in blockers:
        await studio.wait_for(asked["id"], "processing")
    first, second = await studio.generate(), await studio.generate()
    lines: list[str] = []
    async with asyncio.timeout(30), http.stream("GET", f"/api/generate/{second['id']}/events") as answer:
        async for line in answer.aiter_lines():
            if line == ": keep-alive" and line not in lines:
                await http.delete(f"/api/generate/{first['id']}")
            lines.append(line)
            if '"position":1' in line:
                await http.post(f"/api/generate/{second['id']}/cancel")
    for asked in blockers:
        await http.delete(f"/api/generate/{asked['id']}")
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [(event["type"], event["data"]) for event in told] == [
        ("queued", {"position": 2}),
        ("queued", {"position": 1}),
        ("cancelled", {}),
    ]
    assert lines[0] == "retry: 1000"
    assert lines.index(": keep-alive") < next(n for n, line in enumerate(lines) if '"position":1' in line)


async def test_a_stream_ends_when_its_generation_is_deleted(http, studio):
    asked = await studio.generate(steps=1000, options={"step_s": 0.1})
    async with asyncio.timeout(15):
        seen = []
        async for event in studio.events(asked["id"]):
            seen.append(event.type)
            if event.type == "started":
                await http.delete(f"/api/generate/{asked['id']}")
    assert "completed" not in seen
    assert seen[-1] == "deleted"
    problems.check(await http.get(f"/api/generate/{asked['id']}/events"), 404, "generation_unknown")


async def test_a_deleted_generation_is_told_to_all_who_listen_and_to_those_who_come_later(http, studio):
    done = await studio.wait((await studio.generate())["id"])
    before = [event async for event in studio.events(done["id"])][-1].id
    async with all_events(studio) as items:
        await http.delete(f"/api/generate/{done['id']}")
        live = await anext(items)
    async with all_events(studio, last_event_id=before) as items:
        later = await anext(items)
    assert (live["type"], live["generation_id"], live["data"]) == ("deleted", done["id"], {})
    assert later == live
    assert live["id"] > before


async def test_a_socket_tells_the_same_as_the_stream(studio):
    async with all_events(studio) as items, socket(studio) as connection:
        asked = await studio.generate(**STEPS)
        over_http, over_socket = await asyncio.gather(until_completed(items), until_completed(messages(connection)))
    kept = [[(item["id"], item["type"]) for item in seen if item["id"]] for seen in (over_http, over_socket)]
    assert kept[0] == kept[1]
    assert {item["generation_id"] for item in over_socket} == {asked["id"]}
    assert any(item["type"] == "progress" for item in over_socket)


async def test_a_socket_replays_what_was_missed(studio):
    asked = await studio.generate()
    events = [event async for event in studio.events(asked["id"]) if event.id is not None]
    async with socket(studio, f"?last_event_id={events[1].id}") as connection:
        seen = await until_completed(messages(connection))
    assert [item["id"] for item in seen] == [event.id for event in events[2:]]


async def test_a_socket_of_one_generation_tells_nothing_else_and_closes_at_its_end(studio):
    asked, other = await studio.generate(**STEPS), await studio.generate()
    async with socket(studio, f"?generation_id={asked['id']}") as connection, asyncio.timeout(20):
        seen = [item async for item in messages(connection)]
        assert connection.close_code == 1000
    assert {item["generation_id"] for item in seen} == {asked["id"]}
    assert [item["type"] for item in seen if item["id"]] == ["queued", "started", "image", "completed"]
    await studio.wait(other["id"])


async def test_a_socket_of_an_unknown_generation_is_closed_with_the_reason(studio):
    async with socket(studio, f"?generation_id={uuid.uuid4()}") as connection:
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(connection.recv(), 5)
    assert closed.value.rcvd.code == 4404
    assert "no generation" in closed.value.rcvd.reason


@pytest.mark.parametrize("query", ["?generation_id=12", "?last_event_id=x", "?last_event_id=-1"])
async def test_a_socket_with_a_bad_question_is_refused(studio, query):
    with pytest.raises(InvalidStatus):
        await socket(studio, query)


async def test_what_a_client_says_over_the_socket_does_no_harm(studio):
    async with socket(studio) as connection:
        for message in ("{}", "not json", b"\x00\xff", "x" * 100_000):
            await connection.send(message)
        asked = await studio.generate()
        seen = await until_completed(messages(connection))
    assert seen[-1]["generation_id"] == asked["id"]


async def test_fifty_clients_at_once_all_hear_everything(studio):
    ready = asyncio.Barrier(51)

    async def over_http() -> list[dict]:
        async with all_events(studio) as items:
            await ready.wait()
            return await until_completed(items, generations=4)

    async def over_socket() -> list[dict]:
        async with socket(studio) as connection:
            await ready.wait()
            return await until_completed(messages(connection), generations=4)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        clients = [group.create_task(over_http() if n % 2 else over_socket()) for n in range(50)]
        await ready.wait()
        made = [await studio.generate(num_images=2) for _ in range(4)]
    heard = [[item["id"] for item in client.result() if item["id"]] for client in clients]
    assert all(ids == heard[0] for ids in heard)
    assert len(heard[0]) == 4 * 5
    assert {item["generation_id"] for item in clients[0].result()} == {asked["id"] for asked in made}
