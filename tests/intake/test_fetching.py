"""Links: real servers on the loopback, a resolver of ours, and nothing contacted that was not looked at."""

import asyncio
import datetime
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tintype.errors import TintypeError
from tintype.intake import addresses, fetching
from tintype.intake.fetching import Rules
from tintype.settings import Intake

OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConnection: close\r\n"
BODY = b"\x89PNG and so on"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A server on the loopback that answers with `answer` and keeps what was asked."""

    answer: bytes | Answer = OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    requests: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            if isinstance(self.answer, bytes):
                writer.write(self.answer)
                await writer.drain()
            else:
                await self.answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    running = []

    async def started(server: Server, tls: ssl.SSLContext | None = None) -> Server:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
        server.port = listening.sockets[0].getsockname()[1]
        running.append(listening)
        return server

    yield started
    for listening in running:
        listening.close()


def rules(*servers: Server, names: dict[str, list[str]] | None = None, **changes) -> Rules:
    """What strangers' links get, but for the loopback of this test and its servers' ports."""

    async def resolve(host: str, port: int) -> list[str]:
        return (names or {}).get(host, ["127.0.0.1"])

    start = Rules(
        max_bytes=10_000,
        total_s=5,
        ports=frozenset({80, 443, *(server.port for server in servers)}),
        resolve=resolve,
        is_allowed=lambda address: address == "127.0.0.1" or addresses.is_public(address),
    )
    return replace(start, **changes)


def link(server: Server, host: str = "pictures.example", path: str = "/a.png", scheme: str = "http") -> str:
    return f"{scheme}://{host}:{server.port}{path}"


def redirecting(to: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


async def refusal(url: str, under: Rules) -> TintypeError:
    with pytest.raises(TintypeError) as caught:
        await fetching.fetch_under(url, under)
    return caught.value


async def test_a_link_is_fetched_from_the_address_its_name_has(start):
    server = await start(Server())
    fetched = await fetching.fetch_under(link(server, path="/a.png?x=1"), rules(server))
    assert (fetched.data, fetched.content_type) == (BODY, "image/png")
    assert fetched.url == link(server, path="/a.png?x=1")
    head = server.requests[0].decode().lower()
    assert head.startswith("get /a.png?x=1 http/1.1")
    assert f"host: pictures.example:{server.port}" in head
    assert "cookie" not in head
    assert "authorization" not in head


async def test_links_are_not_fetched_unless_the_settings_say_so(start):
    with pytest.raises(fetching.FetchingDisabledError) as caught:
        await fetching.fetch("http://1.1.1.1/", Intake())
    assert (caught.value.status, caught.value.code) == (403, "fetching_disabled")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://0x7f.1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1%25lo]/",
        "http://0/",
        "http://①②⑦.⓪.⓪.①/",
    ],
)
async def test_with_the_true_resolver_and_rules_nothing_inside_is_reached(url):
    with pytest.raises(TintypeError) as caught:
        await fetching.fetch(url, Intake(fetch_links=True, fetch_total_s=5))
    assert caught.value.code in ("link_refused", "link_failed")


@pytest.mark.parametrize(
    "inside", ["169.254.169.254", "10.0.0.7", "::1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "192.0.0.192"]
)
@pytest.mark.parametrize("first", [True, False])
async def test_one_bad_address_among_good_ones_refuses_all(start, inside, first):
    server = await start(Server())
    answers = [inside, "127.0.0.1"] if first else ["127.0.0.1", inside]
    error = await refusal(link(server), rules(server, names={"pictures.example": answers}))
    assert error.code == "link_refused"
    assert not server.requests


async def test_a_name_that_answers_otherwise_the_second_time_changes_nothing(start):
    server = await start(Server())
    asked = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    assert (await fetching.fetch_under(link(server), rules(server, resolve=resolve))).data == BODY
    assert asked == ["pictures.example"]


async def test_a_redirect_is_followed_to_where_it_may_lead(start):
    end = await start(Server())
    way = await start(Server(redirecting(link(end, host="other.example", path="/b.png"))))
    fetched = await fetching.fetch_under(link(way), rules(way, end))
    assert (fetched.data, fetched.url) == (BODY, link(end, host="other.example", path="/b.png"))


async def test_a_relative_redirect_stays_with_the_host(start):
    server = Server()

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(redirecting("../c.png") if len(server.requests) == 1 else OK + b"\r\n" + BODY)
        await writer.drain()

    server.answer = answer
    await start(server)
    assert (await fetching.fetch_under(link(server, path="/a/b.png"), rules(server))).url == link(server, path="/c.png")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "file:///etc/passwd",
        "gopher://x/",
        "http://x:22/",
        "//a:b@c/",
    ],
)
async def test_a_redirect_inside_is_refused(start, to, status):
    server = await start(Server(redirecting(to, status)))
    under = rules(server, names={"169.254.169.254": ["169.254.169.254"], "::1": ["::1"]})
    assert (await refusal(link(server), under)).code == "link_refused"


@pytest.mark.parametrize(("hops", "reached"), [(3, True), (4, False)])
async def test_three_redirects_are_followed_and_no_more(start, hops, reached):
    server = Server()

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n" + BODY if len(server.requests) > hops else redirecting("/again"))
        await writer.drain()

    server.answer = answer
    await start(server)
    if reached:
        assert (await fetching.fetch_under(link(server), rules(server))).data == BODY
    else:
        assert "3 times" in (await refusal(link(server), rules(server))).detail
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/",
        "file:///etc/passwd",
        "unix:///x",
        "http://",
        "http:///x",
        "//a/",
        "a",
        "",
        "http://u@a/",
        "http://u:p@a/",
        "http://a:8080/",
        "https://a:22/",
        "http://a:0/",
        "http://a:99999/",
        "http://a\r\nHost: b/",
        "http://a b/",
        "http://[/",
        "http://a/" + "x" * 5000,
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        "http://\ud800/",
    ],
)
async def test_what_is_no_ordinary_link_is_refused(url):
    assert (await refusal(url, rules())).code == "link_refused"


@pytest.mark.parametrize("honest", [True, False])
async def test_too_many_bytes_are_refused_whether_announced_or_not(start, honest):
    sent = 0

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK + (b"Content-Length: 99999999\r\n\r\n" if honest else b"\r\n"))
        for _ in range(10_000):
            writer.write(bytes(1000))
            await writer.drain()
            sent += 1000

    server = await start(Server(answer))
    error = await refusal(link(server), rules(server))
    assert (error.status, error.code) == (413, "link_too_large")
    assert sent < 9_000_000


async def test_a_drip_ends_when_the_time_does(start):
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"\r\n")
        for _ in range(200):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    server = await start(Server(answer))
    began = time.monotonic()
    error = await refusal(link(server), rules(server, total_s=0.5))
    assert (error.status, error.code) == (504, "link_too_slow")
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("where", ["headers", "names", "redirects"])
async def test_time_is_counted_over_headers_names_and_redirects(start, where):
    server = Server()

    async def answer(writer: asyncio.StreamWriter) -> None:
        if where == "redirects":
            await asyncio.sleep(0.2)
            writer.write(redirecting("/again"))
        for number in range(200 if where == "headers" else 0):
            writer.write(b"HTTP/1.1 200 OK\r\n" if number == 0 else b"X-%d: x\r\n" % number)
            await writer.drain()
            await asyncio.sleep(0.05)

    async def slow(host: str, port: int) -> list[str]:
        await asyncio.sleep(10 if where == "names" else 0)
        return ["127.0.0.1"]

    server.answer = answer
    await start(server)
    began = time.monotonic()
    assert (await refusal(link(server), rules(server, total_s=0.5, resolve=slow))).code == "link_too_slow"
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"HTTP/1.1 206 Part\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\n\r\n" + BODY,
        OK + b"Content-Length: 50\r\n\r\n" + BODY,
        OK + b"X: " + b"x" * 300_000,
    ],
)
async def test_an_answer_that_is_no_file_is_a_named_fact(start, answer):
    server = await start(Server(answer))
    error = await refusal(link(server), rules(server))
    assert (error.status, error.code) == (502, "link_failed")


async def test_a_proxy_in_the_environment_is_not_used(start, monkeypatch):
    proxy, server = await start(Server()), await start(Server())
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    await fetching.fetch_under(link(server), rules(server))
    assert (len(proxy.requests), len(server.requests)) == (0, 1)


@pytest.mark.parametrize(("host", "trusted"), [("pictures.example", True), ("other.example", False)])
async def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(start, tmp_path, host, trusted):
    key, certificate = a_certificate("pictures.example")
    (tmp_path / "both.pem").write_bytes(key + certificate)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(tmp_path / "both.pem")
    server = Server()
    theirs.sni_callback = lambda _socket, name, _context: server.names.append(name)
    await start(server, theirs)
    ours = ssl.create_default_context(cadata=certificate.decode())
    url = link(server, host=host, scheme="https")
    if trusted:
        assert (await fetching.fetch_under(url, rules(server, tls=ours))).data == BODY
        assert f"host: {host}" in server.requests[0].decode().lower()
        assert (await refusal(url, rules(server))).code == "link_failed"  # not signed by anybody the world knows
    else:
        assert (await refusal(url, rules(server, tls=ours))).code == "link_failed"
        assert not server.requests
    assert server.names[0] == host


def a_certificate(name: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return (
        key.private_bytes(serialization.Encoding.PEM, *form),
        certificate.public_bytes(serialization.Encoding.PEM),
    )
