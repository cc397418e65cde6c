"""What every problem must be, whatever it is about."""

from typing import Any

import httpx


def check(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a problem with this status and code, complete in every member."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == code, body
    assert body["type"] == f"urn:tintype:problem:{code}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def check_field(answer: httpx.Response, *loc: str | int, says: str, code: str = "invalid_request") -> None:
    """A 422 whose `errors` name the field at `loc` (below the body) and say `says`."""
    body = check(answer, 422, code)
    found = {tuple(error["loc"]): error["msg"] for error in body["errors"]}
    assert ("body", *loc) in found, found
    assert says in found["body", *loc], found
