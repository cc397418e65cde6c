"""Who may talk to a server on a loopback address, and what every answer carries."""

import asyncio
import re
import subprocess

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.api import problems

BODY = {"prompt": "guarded", "model": "scripted"}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.", "[::2]"])
async def test_a_request_for_another_name_is_refused(http, host):
    for method, path in [("GET", "/api/generate"), ("POST", "/api/generate/image"), ("GET", "/"), ("GET", "/health")]:
        answer = await http.request(method, path, headers={"Host": host})
        assert host.partition(":")[0].strip("[]")[:4] in problems.check(answer, 421, "host_unknown")["detail"]


@pytest.mark.parametrize("host", ["localhost", "localhost:{port}", "LOCALHOST:{port}", "127.0.0.1", "[::1]:{port}"])
async def test_the_names_of_this_machine_are_answered(http, studio, host):
    answer = await http.get("/health", headers={"Host": host.format(port=studio.port)})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example", "http://[::1", ""]
)
async def test_a_page_of_another_site_cannot_write(http, origin):
    headers = {"Origin": origin}
    problems.check(await http.post("/api/generate/image", json=BODY, headers=headers), 403, "cross_site_request")
    problems.check(await http.post("/generate", json=BODY, headers=headers), 403, "cross_site_request")
    upload = await http.post("/api/media", files={"file": ("a", b"x", "image/png")}, headers=headers)
    problems.check(upload, 403, "cross_site_request")
    path = "/api/generate/00000000-0000-7000-8000-000000000000"
    problems.check(await http.delete(path, headers=headers), 403, "cross_site_request")
    assert (await http.get("/api/generate", params={"q": "guarded"})).json()["items"] == []


async def test_a_page_of_this_server_can_write(http, studio):
    answer = await http.post("/api/generate/image", json=BODY, headers={"Origin": studio.address})
    assert answer.status_code == 202
    await studio.wait(answer.json()["id"])
    await http.delete(f"/api/generate/{answer.json()['id']}")


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
async def test_a_page_of_another_site_cannot_listen_on_the_socket(studio, origin):
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{studio.port}/api/ws", origin=origin, proxy=None)
    assert refused.value.response.status_code == 403


async def test_a_page_of_this_server_can_listen_on_the_socket(studio):
    async with connect(f"ws://127.0.0.1:{studio.port}/api/ws", origin=studio.address, proxy=None) as connection:
        await (await connection.ping())


async def test_no_answer_invites_other_sites(http):
    answer = await http.get("/api/generate", headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("sane", ["abcdefgh", "0190-ABC.def_1", "x" * 64])
async def test_a_sane_request_id_is_kept(http, sane):
    answer = await http.get("/api/nothing", headers={"X-Request-Id": sane})
    assert problems.check(answer, 404, "route_unknown")["request_id"] == sane


@pytest.mark.parametrize("mad", ["short", "x" * 65, "with space", 'quote"quote', "<script>alert(1)</script>", ""])
async def test_any_other_request_id_is_replaced(http, mad):
    answer = await http.get("/health", headers={"X-Request-Id": mad})
    assert answer.headers["x-request-id"] != mad
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/", "/health", "/api/models", "/api/nothing", "/api/generate/12", "/docs"])
async def test_every_answer_carries_the_headers_browsers_obey(http, path):
    headers = (await http.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-request-id"]


@pytest.mark.parametrize("path", ["/", "/docs", "/static/index.html", "/static/docs.html"])
async def test_a_page_runs_scripts_of_this_server_only_and_none_inside_it(http, path):
    answer = await http.get(path)
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    for rule in ("script-src", "style-src", "connect-src"):
        assert policy[rule] == "'self'"
    for source in re.findall(r'(?:src|href|data-document)="([^"]*)"', answer.text):
        assert source.startswith(("/", "#"))
    assert not re.search(r"<script(?![^>]*src=)|<style|\son[a-z]+=|\sstyle=", answer.text)


async def test_a_picture_is_data_to_a_browser_and_never_a_document_with_rights(http, studio):
    done = await studio.wait((await studio.generate())["id"])
    for path in (done["media"][0]["url"], done["media"][0]["thumbnail_url"], "/api/media/12/content"):
        policy = (await http.get(path)).headers["content-security-policy"]
        assert policy == "default-src 'none'; sandbox; frame-ancestors 'none'"
    await http.delete(f"/api/generate/{done['id']}")


LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize("site", ["cross-site", "same-site", "something-new"])
async def test_a_page_of_another_site_can_only_link_to_pages_and_signed_pictures(http, studio, site):
    done = await studio.wait((await studio.generate())["id"])
    foreign = {"Sec-Fetch-Site": site}
    signed, bare = done["media"][0]["url"], f"/api/media/{done['media'][0]['id']}/content"
    for path in ("/", "/docs", signed):
        assert (await http.get(path, headers={**foreign, **LINK})).status_code == 200, path
    for path in ("/api/generate", "/api/events", "/openapi.json", "/static/studio.js", "/health", bare):
        answer = await http.get(path, headers={**foreign, **LINK})
        assert "Open its page itself" in problems.check(answer, 403, "cross_site_request")["detail"], path
    for mode, dest in (("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe"), ("no-cors", "script")):
        for path in ("/", signed, "/api/generate"):
            headers = {**foreign, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
            problems.check(await http.get(path, headers=headers), 403, "cross_site_request")
    posted = await http.post("/api/generate/image", json=BODY, headers={**foreign, **LINK})
    problems.check(posted, 403, "cross_site_request")
    await http.delete(f"/api/generate/{done['id']}")


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_what_the_page_or_the_person_asks_for_is_answered(http, site):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    assert (await http.get("/api/generate", headers=headers)).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_page_of_another_site_cannot_open_the_socket_whatever_it_calls_itself(studio, site):
    headers = {"Sec-Fetch-Site": site, **LINK}
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{studio.port}/api/ws", additional_headers=headers, proxy=None)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "example.org"])
async def test_an_address_others_can_reach_is_refused_at_start(studio, host):
    name = f"refused-{host}"
    process = studio.process("api", environment={"TINTYPE_API_HOST": host, "TINTYPE_API_PORT": "0"})
    try:
        code = process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"{name} listens")
    assert code != 0
    log = (studio.home / "api.log").read_text()
    assert f"TINTYPE_API_HOST={host}" in log
    assert "SSH tunnel" in log
    assert "Traceback" not in log


async def test_a_request_that_names_no_host_is_refused(studio):
    reader, writer = await asyncio.open_connection("127.0.0.1", studio.port)
    writer.write(b"GET /api/generate HTTP/1.0\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b"host_unknown" in answer


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"POST /api/generate/image HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/generate/image HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ],
    ids=["nonsense", "negative length", "two lengths"],
)
async def test_what_is_no_http_is_refused_and_harms_nobody(http, studio, request_):
    reader, writer = await asyncio.open_connection("127.0.0.1", studio.port)
    writer.write(request_)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 4")
    assert (await http.get("/health")).json()["status"] == "ok"
