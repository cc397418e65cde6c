"""The OpenAPI document, completed with what FastAPI cannot know: what stands before every route, how errors read."""

from typing import Any

from tintype.api import problems
from tintype.db import idempotency

ANYWHERE = {
    403: "A page of another site asks.",
    413: "The body is too large.",
    421: "This server does not answer to that name.",
}
"""What `api/guards.py` may answer on every route."""

WRITES = frozenset({"post", "put", "patch", "delete"})
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Sent again with the same key, the same request changes nothing and gets the same answer.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": idempotency.MAX_KEY_CHARS,
        "pattern": "^[ -~]+$",
    },
}


def answer(status: int, description: str, *content_types: str) -> dict[int | str, dict[str, Any]]:
    """The documentation of an answer that is not JSON."""
    body = {"schema": {"type": "string", "format": "binary"}}
    return {status: {"description": description, "content": dict.fromkeys(content_types, body)}}


TYPES = ("image/png", "image/jpeg", "image/webp", "image/avif", "image/gif", "video/mp4")
CONTENT = {
    **answer(200, "The whole file.", *TYPES),
    **answer(206, "The part of the file that was asked for.", *TYPES),
    304: {"description": "The client has it already."},
}
EVENTS = answer(200, "Server-Sent Events: `id`, `event` and `data`, which is one JSON object.", "text/event-stream")


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The `document`, changed in place: each operation names every problem it may answer with, as it really reads."""
    for path in document["paths"].values():
        for method, operation in path.items():
            answers = operation["responses"]
            for status, description in ANYWHERE.items():
                answers.setdefault(str(status), {"description": description})
            for status, one in answers.items():
                if status >= "400":
                    one["content"] = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            operation["responses"] = dict(sorted(answers.items()))
            if method in WRITES:
                operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document
