"""What answers under an address and is no ComfyUI, or does not answer: named, with what to do."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.comfy.events import all_of, new_prefix
from tests.standins.comfyui import graphs, server
from tintype.comfy import cancelling, runs
from tintype.comfy.client import Server, Timeouts
from tintype.comfy.errors import AccessError, AnswerError, BrokenServerError, TooSlowError, UnreachableError

Start = Callable[[bytes], Awaitable[str]]


@pytest.fixture
async def heard() -> list[bytes]:
    """The heads of the requests that came."""
    return []


@pytest.fixture
async def start(heard: list[bytes]) -> AsyncIterator[Start]:
    """Something that gives every request the same answer; its address. Nothing to say means that it stays silent."""
    running: list[asyncio.Server] = []

    async def started(answer: bytes) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            if not answer:
                await reader.read()
            writer.write(answer)
            writer.close()

        running.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return f"http://127.0.0.1:{running[-1].sockets[0].getsockname()[1]}"

    yield started
    for listening in running:
        listening.close()


def answer(status: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("given", "error", "sentence", "is_retryable"),
    [
        (answer("200 OK", b"<html>"), AnswerError, "is not ComfyUI", False),
        (answer("302 Found"), AnswerError, "answers with status 302", False),
        (answer("404 Not Found"), AnswerError, "answers with status 404", False),
        (answer("401 Unauthorized"), AccessError, "put user and password into COMFYUI_URL", False),
        (answer("403 Forbidden"), AccessError, "lets this machine not in", False),
        (answer("502 Bad Gateway"), BrokenServerError, "failed .502.; look at its log", True),
        (b"nonsense\r\n\r\n", UnreachableError, "cannot be reached", True),
        (b"", TooSlowError, "did not answer /system_stats in time", True),
    ],
)
async def test_what_is_no_comfyui_is_named(
    start: Start, given: bytes, error: type[Exception], sentence: str, is_retryable: bool
):
    async with Server(await start(given), Timeouts(answer_s=0.3)) as client:
        with pytest.raises(error, match=sentence) as caught:
            await client.stats()
    assert caught.value.retryable == is_retryable


async def test_a_server_that_is_not_there_is_named_with_the_setting_to_correct():
    async with Server("http://127.0.0.1:1") as client:
        with pytest.raises(UnreachableError, match="start it, or correct COMFYUI_URL"):
            await all_of(runs.perform(client, runs.book(client), graphs.flat(prefix=new_prefix())))


async def test_user_and_password_are_sent_and_never_shown(start: Start, heard: list[bytes]):
    url = (await start(answer("401 Unauthorized"))).replace("://", "://ann:secret@")
    async with Server(url) as client:
        with pytest.raises(AccessError) as caught:
            await client.stats()
        assert "secret" not in client.url + caught.value.detail + runs.book(client).token
        assert "ann:secret@" in client.socket_url("c")
    assert b"Authorization: Basic " + base64.b64encode(b"ann:secret") in heard[0]


async def test_no_origin_and_no_compression_are_asked_for(start: Start, heard: list[bytes]):
    async with Server(await start(answer("200 OK", b"{}"))) as client:
        await client.stats()
    head = heard[0].lower()
    assert b"origin:" not in head
    assert b"accept-encoding: identity" in head


async def test_a_server_under_a_path_is_spoken_to_there(start: Start, heard: list[bytes]):
    async with Server(await start(answer("200 OK", b"{}")) + "/comfy/") as client:
        await client.stats()
        assert client.socket_url("c").partition("/comfy/ws?clientId=")[2] == "c"
    assert heard[0].startswith(b"GET /comfy/system_stats ")


async def test_what_is_no_json_is_an_error_of_the_server(tmp_path):
    async with server.running(tmp_path) as standin, Server(standin.url) as client:
        with pytest.raises(BrokenServerError, match=r"failed .500."):
            client.settle(await client.ask("POST", "prompt", content=b"no json"))


async def test_the_newer_server_takes_the_ids_of_tickets_and_no_others(tmp_path):
    async with server.running(tmp_path, version="0.33.0") as standin, Server(standin.url) as client:
        await all_of(runs.perform(client, runs.book(client), graphs.flat(prefix=new_prefix())))
        body = {"prompt": graphs.flat(prefix=new_prefix()), "prompt_id": "mine"}
        assert (await client.ask("POST", "prompt", json=body)).status_code == 400


@pytest.mark.parametrize(
    ("version", "paths"),
    [("0.33.0", ["/api/jobs/{waiting}/cancel", "/api/jobs/{running}/cancel"]), ("0.3.64", ["/queue", "/interrupt"])],
)
async def test_prompts_are_ended_by_the_route_for_that_where_there_is_one(tmp_path, version: str, paths: list[str]):
    async with server.running(tmp_path, version=version) as standin, Server(standin.url) as client:
        standin.faults.step_s = 0.01
        running, waiting = runs.book(client), runs.book(client)
        for ticket in (running, waiting):
            graph = graphs.text_to_image("bench.safetensors", prefix=new_prefix(), steps=5000)
            await client.submit(graph, prompt_id=ticket.prompt_id, client_id=ticket.client_id)
        while standin.memory.running is None:
            await asyncio.sleep(0.001)
        assert await cancelling.cancel(client, waiting.prompt_id) == "waiting"
        assert await cancelling.cancel(client, running.prompt_id) == "running"
        assert await client.remaining() == 0
        posted = [path for method, path in standin.requests if method == "POST" and path != "/prompt"]
    expected = [path.format(running=running.prompt_id, waiting=waiting.prompt_id) for path in paths]
    assert list(dict.fromkeys(posted)) == expected


def test_a_ticket_survives_as_one_word():
    ticket = runs.Ticket(server="http://gpu:8188", prompt_id="p", client_id="c")
    assert runs.Ticket.parse(ticket.token) == ticket
    with pytest.raises(ValueError, match="not enough values"):
        runs.Ticket.parse("nonsense")
