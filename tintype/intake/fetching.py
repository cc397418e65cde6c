"""Files fetched from links that users give, and from nowhere inside.

A name is resolved once; if any address it has is not public, nothing is contacted, else the connection goes to the
address that was looked at, while certificate and `Host` are the name's. So no second answer of a name server can
lead elsewhere. Redirects are followed by hand and checked in the same way. No proxy, no cookie, no password.

What comes back is bytes of a stranger: `tintype.media.decoding`, `weights` or `archives` decide what they are.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urljoin

import httpcore
import httpx

from tintype import settings
from tintype.errors import InvalidRequestError, UnavailableError
from tintype.intake import addresses
from tintype.intake.text import clean_line

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

DEFAULT_PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)
MAX_URL_CHARS = 4096
HOST = re.compile(r"[a-z0-9._-]+|\[?[0-9a-f:.]+\]?")


class FetchingDisabledError(InvalidRequestError):
    """Links are not fetched here; upload the file instead."""

    status = 403
    code = "fetching_disabled"


class LinkRefusedError(InvalidRequestError):
    """This link is not fetched; give an http or https link to a public address, or upload the file."""

    code = "link_refused"


class LinkTooLargeError(InvalidRequestError):
    """What the link leads to is too large."""

    status = 413
    code = "link_too_large"


class LinkFailedError(UnavailableError):
    """The link could not be fetched; check that it opens without a login, or upload the file."""

    status = 502
    code = "link_failed"


class LinkTooSlowError(UnavailableError):
    """The link took too long to answer; try again later, or upload the file."""

    status = 504
    code = "link_too_slow"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """The bytes behind a link, what the server calls them, and where they came from after redirects."""

    data: bytes
    content_type: str
    url: str


async def resolve(host: str, port: int) -> Sequence[str]:
    """Every address of `host`, as the system's resolver gives them."""
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What may be contacted and how much may come back. The defaults are what strangers' links get."""

    max_bytes: int
    total_s: float
    connect_s: float = 5.0
    max_redirects: int = 3
    ports: frozenset[int] = frozenset(DEFAULT_PORTS.values())
    resolve: Resolve = resolve
    is_allowed: Callable[[str], bool] = addresses.is_public
    tls: ssl.SSLContext | None = None


async def fetch(url: str, intake: settings.Intake, *, max_bytes: int | None = None) -> Fetched:
    """Fetch a link that a user gave, if the settings allow links; at most `max_bytes` where that is less.

    Raises:
        FetchingDisabledError: the settings do not allow it.
        LinkRefusedError, LinkTooLargeError, LinkTooSlowError, LinkFailedError: as they say.
    """
    if not intake.fetch_links:
        raise FetchingDisabledError
    most = min(intake.fetch_max_bytes, max_bytes or intake.fetch_max_bytes)
    return await fetch_under(url, Rules(max_bytes=most, total_s=intake.fetch_total_s))


async def fetch_under(url: str, rules: Rules) -> Fetched:
    """Fetch `url` under `rules`; the time is counted over all of it: names, connections, redirects, every byte.

    Raises:
        LinkRefusedError, LinkTooLargeError, LinkTooSlowError, LinkFailedError: as they say.
    """
    context = rules.tls or httpx.create_ssl_context(trust_env=False)
    try:
        async with asyncio.timeout(rules.total_s):
            for _ in range(rules.max_redirects + 1):
                found = await _get(_checked(url, rules), rules, context)
                if isinstance(found, Fetched):
                    return found
                url = urljoin(url, found)
    except TimeoutError as error:
        raise LinkTooSlowError(f"The link did not deliver within {rules.total_s:g} s; upload the file.") from error
    except (httpcore.TimeoutException, ssl.SSLError, OSError, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise LinkFailedError from error
    raise LinkRefusedError(f"The link redirects more than {rules.max_redirects} times; give the final one.")


def _checked(text: str, rules: Rules) -> httpx.URL:
    try:
        url = httpx.URL(text) if len(text) <= MAX_URL_CHARS else None
    except (httpx.InvalidURL, ValueError) as error:
        raise LinkRefusedError("This is not a link; it looks like https://example.com/picture.png.") from error
    if url is None or url.scheme not in DEFAULT_PORTS or not url.host:
        raise LinkRefusedError("Only http and https links of ordinary length are fetched.")
    if url.userinfo:
        raise LinkRefusedError("The link holds a name or a password; give one without, or upload the file.")
    if not HOST.fullmatch(url.raw_host.decode("ascii", "replace")):
        raise LinkRefusedError("The link's host is neither a name nor an address; check its spelling.")
    if (DEFAULT_PORTS[url.scheme] if url.port is None else url.port) not in rules.ports:
        raise LinkRefusedError("The link names a port other than 80 and 443; upload the file instead.")
    return url


async def _get(url: httpx.URL, rules: Rules, context: ssl.SSLContext) -> Fetched | str:
    """What `url` holds, or where it redirects to."""
    headers = [("User-Agent", "tintype"), ("Accept", "*/*"), ("Accept-Encoding", "identity")]
    timeouts = {"connect": rules.connect_s, "read": rules.total_s, "write": rules.connect_s, "pool": rules.connect_s}
    async with httpcore.AsyncConnectionPool(
        ssl_context=context, network_backend=_Vetted(rules), max_connections=1, http2=False, retries=0
    ) as pool:
        async with pool.stream("GET", str(url), headers=headers, extensions={"timeout": timeouts}) as answer:
            found = {name.lower(): value.decode("latin-1") for name, value in answer.headers}
            if answer.status in REDIRECTS and found.get(b"location"):
                return found[b"location"]
            if answer.status != 200:
                raise LinkFailedError(
                    f"The link answers with status {answer.status}; check that it opens without a login."
                )
            if found.get(b"content-encoding", "identity").lower() != "identity":
                raise LinkFailedError("The link sends its file compressed though asked not to; upload the file.")
            data = await _body(answer, found.get(b"content-length", ""), rules.max_bytes)
            return Fetched(data=data, content_type=clean_line(found.get(b"content-type", "")), url=str(url))


async def _body(answer: httpcore.Response, claimed: str, most: int) -> bytes:
    if claimed.isascii() and claimed.isdigit() and (len(claimed) > 18 or int(claimed) > most):
        raise _too_large(most)
    data = bytearray()
    async for chunk in answer.aiter_stream():
        data += chunk
        if len(data) > most:
            raise _too_large(most)
    return bytes(data)


def _too_large(most: int) -> LinkTooLargeError:
    return LinkTooLargeError(f"The link leads to more than {most:,} bytes; give a smaller file.")


class _Vetted(httpcore.AsyncNetworkBackend):
    """Connections to addresses that were looked at, and only to those."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._network: httpcore.AsyncNetworkBackend = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = list(await self._addresses(host.strip("[]"), port))
        if not found or not all(self._rules.is_allowed(address) for address in found):
            raise LinkRefusedError("The link leads to an address that is not public; upload the file instead.")
        for address in found[:-1]:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):  # a host with IPv6 that we lack has IPv4, too
                continue
        return await self._network.connect_tcp(found[-1], port, timeout, local_address, socket_options)

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            return await self._rules.resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise LinkFailedError("The link's host name is not known; check its spelling.") from error

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise LinkRefusedError
