"""Pictures named by links, from a real server: fetched, used, and refused with the field that named them."""

import asyncio
import base64
import io
import json
import os
from collections.abc import AsyncIterator

import pytest
from PIL import Image

from tests.api import problems
from tests.faults.conftest import lean_environment
from tests.faults.ledger import files_in
from tests.intake.test_fetching import OK, Server, redirecting
from tests.processes import PLUGINS, RunningStudio

EDIT, UPSCALE, IMAGE = "/api/generate/edit", "/api/generate/upscale", "/api/generate/image"
MOST_BYTES, LONGEST_S = 100_000, 1.5


def answer(data: bytes) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n" % len(data) + data


def picture(colour: str, size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Server]:
    """Somebody's web server, on the loopback."""
    served = Server()
    listening = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.port = listening.sockets[0].getsockname()[1]
    yield served
    listening.close()


@pytest.fixture(scope="module")
async def studio(server, servers, tmp_path_factory) -> AsyncIterator[RunningStudio]:
    """A studio that fetches links, and for which `pictures.example` is that server."""
    folder = tmp_path_factory.mktemp("links")
    lean = lean_environment(folder)
    names = {"pictures.example": ["127.0.0.1"], "inside.example": ["10.0.0.7"]}
    running = RunningStudio(home=folder / "home", url=await servers.new_database())
    try:
        await running.start(
            environment={
                **lean,
                "PYTHONPATH": os.pathsep.join((str(PLUGINS / "links"), lean["PYTHONPATH"])),
                "LINK_NAMES": json.dumps(names),
                "LINK_PORT": str(server.port),
                "TINTYPE_INTAKE_FETCH_LINKS": "true",
                "TINTYPE_INTAKE_FETCH_MAX_BYTES": str(MOST_BYTES),
                "TINTYPE_INTAKE_FETCH_TOTAL_S": str(LONGEST_S),
            }
        )
        yield running
    finally:
        await running.stop()


@pytest.fixture
def link(server: Server) -> str:
    """A link to the server, which has been asked for nothing yet."""
    server.requests.clear()
    return f"http://pictures.example:{server.port}/a.png"


@pytest.fixture
def nothing_is_kept(studio: RunningStudio):
    """No file is left of what the test asks for."""
    before = files_in(studio.home / "media")
    yield
    assert files_in(studio.home / "media") == before


async def ask(studio: RunningStudio, path: str = EDIT, **fields):
    words = {} if path == UPSCALE else {"prompt": "a boat"}
    return await studio.http.post(path, json={"model": "scripted", **words, **fields})


async def test_the_picture_behind_a_link_is_fetched_once_and_used(studio, server, link):
    server.answer = answer(picture("lime"))
    asked = await ask(studio, image=link, mask=link)
    assert asked.status_code == 202, asked.text
    done = await studio.wait(asked.json()["id"])
    assert done["status"] == "completed", done["error"]
    seen = next(note for note in studio.notes(done["id"]) if note["what"] == "given")
    assert (seen["source"], seen["source size"]) == ([0, 255, 0], [64, 48])
    assert len(server.requests) == 1
    kept = (await studio.http.get(f"/api/media/{done['parameters']['image']}")).json()
    assert (kept["source"], kept["width"], kept["height"]) == ("uploaded", 64, 48)
    server.answer = b"HTTP/1.1 404 Not Found\r\n\r\n"
    again = await studio.http.post(f"/api/generate/{done['id']}/retry")
    assert (await studio.wait(again.json()["id"]))["status"] == "completed", "what was fetched is kept"


async def test_a_link_may_redirect_to_another_place_in_the_open(studio, server, link):
    data = answer(picture("red"))

    async def redirect_first(writer: asyncio.StreamWriter) -> None:
        writer.write(redirecting("/b.png") if len(server.requests) == 1 else data)
        await writer.drain()

    server.answer = redirect_first
    asked = await ask(studio, UPSCALE, image=link, scale=2)
    assert asked.status_code == 202, asked.text
    done = await studio.wait(asked.json()["id"])
    assert (done["status"], done["media"][0]["width"]) == ("completed", 128)


@pytest.mark.usefixtures("nothing_is_kept")
@pytest.mark.parametrize(
    "inside",
    ["http://169.254.169.254/latest/meta-data/", "http://inside.example/", "http://[::1]/", "file:///etc/passwd"],
)
async def test_a_redirect_to_an_inner_address_is_refused(studio, server, link, inside):
    server.answer = redirecting(inside)
    check_refused(await ask(studio, image=link), 422, "link_refused", "image")
    assert len(server.requests) == 1


@pytest.mark.usefixtures("nothing_is_kept")
async def test_what_is_too_large_is_refused_whether_the_server_says_so_or_not(studio, server, link):
    noise = os.urandom(2 * MOST_BYTES)
    for sent in (answer(noise), OK + b"\r\n" + noise):
        server.answer = sent
        check_refused(await ask(studio, image=link), 413, "link_too_large", "image")


@pytest.mark.usefixtures("nothing_is_kept")
async def test_what_is_no_picture_is_refused(studio, server, link):
    server.answer = answer(b"<html>not a picture</html>")
    check_refused(await ask(studio, image=link), 415, "not_an_image", "image")


@pytest.mark.usefixtures("nothing_is_kept")
async def test_a_server_that_takes_too_long_is_not_waited_for(studio, server, link):
    async def dawdle(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 10000\r\n\r\n")
        for _ in range(100):
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.1)

    server.answer = dawdle
    began_at = asyncio.get_running_loop().time()
    check_refused(await ask(studio, image=link), 504, "link_too_slow", "image")
    assert asyncio.get_running_loop().time() - began_at < LONGEST_S + 3


async def test_slow_links_keep_no_upload_waiting(studio, server, link):
    async def never(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 10000\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(LONGEST_S + 1)

    server.answer = never
    slow = [asyncio.create_task(ask(studio, image=f"{link}?{number}")) for number in range(6)]
    while len(server.requests) < len(slow):
        await asyncio.sleep(0.01)
    here = f"data:image/png;base64,{base64.b64encode(picture('blue')).decode()}"
    assert (await ask(studio, image=here)).status_code == 202
    assert not any(one.done() for one in slow), "and all of them were still being fetched"
    for one in slow:
        check_refused(await one, 504, "link_too_slow", "image")


@pytest.mark.usefixtures("nothing_is_kept")
async def test_a_link_that_leads_nowhere_is_refused(studio, server, link):
    server.answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    check_refused(await ask(studio, image=link), 502, "link_failed", "image")


@pytest.mark.usefixtures("nothing_is_kept")
async def test_the_field_that_named_the_link_is_named_wherever_it_stands(studio, server, link):
    server.answer = answer(b"nothing to see")
    here = f"data:image/png;base64,{base64.b64encode(picture('blue')).decode()}"
    control = {"type": "depth", "image": link}
    for path, fields, place in (
        (EDIT, {"image": here, "mask": link}, ("mask",)),
        (EDIT, {"image": here, "references": [here, link]}, ("references", 1)),
        (IMAGE, {"controls": [control]}, ("controls", 0, "image")),
        (IMAGE, {"style_image": link}, ("style_image",)),
        (UPSCALE, {"image": link}, ("image",)),
    ):
        check_refused(await ask(studio, path, **fields), 415, "not_an_image", *place)


async def test_without_the_tests_own_names_the_loopback_is_refused_and_not_contacted(new_studio, server, tmp_path):
    server.requests.clear()
    plain = await new_studio(
        workers=0, environment={**lean_environment(tmp_path), "TINTYPE_INTAKE_FETCH_LINKS": "true"}
    )
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", f"127.0.0.1:{server.port}"):
        check_refused(await ask(plain, image=f"http://{host}/"), 422, "link_refused", "image")
    assert server.requests == []


def check_refused(answer, status: int, code: str, *place: str | int) -> None:
    """A problem that names the field."""
    found = problems.check(answer, status, code)
    assert [error["loc"] for error in found["errors"]] == [["body", *place]]
    assert found["errors"][0]["msg"]
