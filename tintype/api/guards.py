"""What stands before every route: request ids, the size of bodies, and who may talk to a loopback address.

Whoever reaches the loopback address is the owner, and every web page in the owner's browser can reach it too. So a
request must name a host this server answers to (which defeats DNS rebinding) and, where a browser says which site it
comes from, that site must be this one (which defeats cross-site requests); only a link to a page is let through.
"""

import re
import time
from urllib.parse import urlsplit

import structlog
import uuid_utils
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tintype import logs, settings
from tintype.api import browsers, problems

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{8,64}$")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

log = logs.get("api")


class BodyTooLargeError(Exception):
    """More bytes arrived than the limit allows."""


class Body:
    """The body of one request as it arrives, cut off at the limit; `is_too_large` says whether it was."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._left = max_bytes
        self.is_too_large = False

    async def receive(self) -> Message:
        """The next message of the server."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self.is_too_large = True
                raise BodyTooLargeError
        return message


class Guards:
    """ASGI middleware with all of the above."""

    def __init__(self, app: ASGIApp, *, api: settings.Api) -> None:
        self._app = app
        self._max_body_bytes = api.max_body_bytes
        public = urlsplit(api.public_url or "")
        self._hosts = LOOPBACK_NAMES | ({public.hostname} if public.hostname else frozenset())
        self._public_site = public.netloc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sent_id = headers.get("x-request-id", "")
        request_id = sent_id if REQUEST_ID.match(sent_id) else str(uuid_utils.uuid7())
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        refusal = self._refusal(scope, headers)
        if refusal is not None and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4403, "reason": "not allowed from this site"})
            return
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send, scope["path"], request_id))
            return
        await self._serve(scope, receive, send, request_id)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        begun = time.perf_counter()
        status = 0
        sending = _with_headers(send, scope["path"], request_id)
        body = Body(receive, self._max_body_bytes)

        async def noting(message: Message) -> None:
            nonlocal status
            if body.is_too_large and status == 0:
                return  # what the application says of a body it got half of
            if message["type"] == "http.response.start":
                status = message["status"]
            await sending(message)

        try:
            await self._app(scope, body.receive, noting if scope["type"] == "http" else send)
        except Exception as error:
            if scope["type"] != "http" or status:
                raise  # too late for an answer; the server ends the connection
            if not body.is_too_large:
                await problems.unexpected(error)(scope, receive, noting)
        if body.is_too_large and status == 0:
            await _too_large(self._max_body_bytes)(scope, receive, sending)
            status = 413
        if status >= 400:
            took_ms = round((time.perf_counter() - begun) * 1000, 1)
            log.info("answered", method=scope.get("method"), path=scope["path"], status=status, took_ms=took_ms)

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        host = _host_name(headers.get("host", ""))
        if host not in self._hosts:
            return problems.response(
                status=421,
                code="host_unknown",
                title="This server does not answer to that name.",
                detail=f"this server is not called {host[:100]!r}; set TINTYPE_API_PUBLIC_URL if it should be",
            )
        origin = headers.get("origin")
        guarded = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        sites = {headers.get("host", ""), self._public_site} - {""}
        query = scope["query_string"].decode("latin-1")
        method = scope.get("method", "")
        is_foreign = browsers.is_foreign(headers, method=method, path=scope["path"], query=query)
        if is_foreign or (guarded and origin is not None and _site(origin) not in sites):
            return problems.response(
                status=403,
                code="cross_site_request",
                title="Requests from other sites are refused.",
                detail="a page of another site tried to use this server; that is refused. Open its page itself instead",
            )
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_body_bytes:
            return _too_large(self._max_body_bytes)
        return None


def _host_name(host: str) -> str:
    return (host if host.endswith("]") else host.rpartition(":")[0] or host).lower()


def _site(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _too_large(limit_bytes: int) -> ASGIApp:
    return problems.response(
        status=413,
        code="body_too_large",
        title="The request is too large.",
        detail=f"a request may have {limit_bytes} bytes at most",
    )


def _with_headers(send: Send, path: str, request_id: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = request_id
            browsers.dress(headers, path)
        await send(message)

    return sending
