"""What every answer tells browsers, and which of their requests come from another site.

Whatever is not a page is made useless to a page of another site: it may not be embedded, framed, guessed at or run.
"""

import re

from starlette.datastructures import Headers, MutableHeaders

PAGES = frozenset({"/", "/docs"})
"""What a person may open by following a link on another site."""

STORED = re.compile(r"^/api/media/[^/]+/(content|thumbnail|storyboard)$")
"""Bytes that came from a model or an upload: no browser may take them for anything but data."""

NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
"""Previews come as data, and Swagger UI's style sheet draws its arrows this way."""
SANDBOX = "default-src 'none'; sandbox; frame-ancestors 'none'"

EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def dress(headers: MutableHeaders, path: str) -> None:
    """Add to the `headers` of the answer for `path` what browsers obey; these win over what a route has set."""
    for name, value in EVERYWHERE.items():
        headers[name] = value
    headers["Content-Security-Policy"] = _policy(path, headers.get("content-type", ""))


def _policy(path: str, content_type: str) -> str:
    if STORED.match(path):
        return SANDBOX
    if not content_type.startswith("text/html"):
        return NOTHING
    return PAGE


def is_foreign(headers: Headers, *, method: str, path: str, query: str) -> bool:
    """Whether a browser says that a page of another origin makes this request, other than by a link to one of ours.

    A link may lead to a page, or to a picture if it is signed, because such links are made to be handed on. Programs
    that are no browser send no such header.
    """
    site = headers.get("sec-fetch-site", "none")
    if site in ("none", "same-origin"):
        return False
    is_link = (
        method == "GET" and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    )
    is_open = path in PAGES or (STORED.match(path) is not None and "signature=" in query)
    return not (is_link and is_open)
