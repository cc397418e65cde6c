"""Errors as RFC 9457 `application/problem+json`, each with a stable code and the id of the request."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar, cast

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from tintype import errors, logs
from tintype.db import session as db
from tintype.generations import masks
from tintype.storage import faults

MEDIA_TYPE = "application/problem+json"
MAX_SHOWN_CHARS = 200
RETRY_AFTER_S = 2

log = logs.get("api")


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """How every error reads."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldProblem] | None = None


PHRASES = {
    403: "The link is not valid any more, or was changed; or a page of another site asks.",
    404: "There is no such thing, or it is not yours.",
    409: "The present state does not allow it.",
    413: "The body or the picture is too large.",
    415: "The file is of a kind that is not taken.",
    416: "The file has no such bytes.",
    429: "Several of your requests were blocked within an hour; `Retry-After` says when new ones are taken.",
    422: "Something in the request does not fit; `errors` says what and where.",
    502: "A link could not be fetched.",
    503: "Something is away for the moment; try again.",
    504: "A link took too long.",
    507: "There is no space left to store files.",
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of the problems a route may answer with, beside those of `document.ANYWHERE`."""
    return {
        status: {"model": Problem, "description": PHRASES.get(status, HTTPStatus(status).phrase)} for status in statuses
    }


def response(
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    fields: Sequence[errors.FieldError] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """One problem as a response."""
    fields = tuple(errors.FieldError(loc=tuple(map(_plain, field.loc)), msg=_plain(field.msg)) for field in fields)
    request_id = structlog.contextvars.get_contextvars().get("request_id", "")
    body: dict[str, Any] = {
        "type": f"urn:tintype:problem:{code}",
        "title": _plain(title),
        "status": status,
        "detail": _plain(detail),
        "code": code,
        "request_id": request_id,
    }
    if fields:
        body["errors"] = [{"loc": list(field.loc), "msg": field.msg} for field in fields]
    return Response(orjson.dumps(body), status_code=status, media_type=MEDIA_TYPE, headers=headers)


T = TypeVar("T", str, str | int)


def _plain(value: T) -> T:
    """Text that UTF-8 can carry: what a client sent may hold half a surrogate pair."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def install(app: FastAPI) -> None:
    """Render every error of the application."""
    app.add_exception_handler(errors.TintypeError, _fact)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)


async def _fact(_request: Request, error: Exception) -> Response:
    fact = cast("errors.TintypeError", error)
    if fact.status >= 500:
        log.error("problem", code=fact.code, error=fact.detail)
    after_s = fact.retry_after_s or (RETRY_AFTER_S if fact.status == 503 else None)
    headers = {"Retry-After": str(after_s)} if after_s is not None else None
    return response(
        status=fact.status,
        code=fact.code,
        title=fact.title(),
        detail=fact.detail,
        fields=fact.fields,
        headers=headers,
    )


async def _validation(_request: Request, error: Exception) -> Response:
    found = cast("RequestValidationError", error).errors()
    fields = tuple(
        errors.FieldError(loc=_place(item), msg=sentence(item)) for item in cast("list[dict[str, Any]]", found)
    )
    return _invalid(fields)


def _invalid(fields: tuple[errors.FieldError, ...]) -> Response:
    detail = "; ".join(f"{'.'.join(map(str, field.loc[1:])) or 'body'}: {field.msg}" for field in fields[:5])
    return response(
        status=422,
        code="invalid_request",
        title=errors.InvalidRequestError.title(),
        detail=detail,
        fields=fields,
    )


def _place(item: dict[str, Any]) -> tuple[str | int, ...]:
    place = ("body",) if item["type"] == "json_invalid" else tuple(item["loc"])
    return place if place[:2] != ("body", "mask") else tuple(part for part in place if part not in masks.TAGS)


SENTENCES = {
    "extra_forbidden": "there is no such field, or another says the same; check its spelling",
    "missing": "is required",
    "string_unicode": "contains half of a surrogate pair; send whole characters",
    "union_tag_not_found": "has no `type`; send one",
    "model_attributes_type": "send a JSON object, with `Content-Type: application/json`",
}
KINDS = {
    "int_parsing": "is no whole number; send one",
    "int_type": "is no whole number; send one",
    "int_from_float": "is no whole number; send one",
    "int_parsing_size": "is too long a number; send a smaller one",
    "float_parsing": "is no number; send one",
    "float_type": "is no number; send one",
    "finite_number": "is no finite number; send an ordinary one",
    "string_type": "is no text; send one",
    "uuid_parsing": "is no id; send one that this server gave out",
    "uuid_type": "is no id; send one that this server gave out",
}


def sentence(item: Mapping[str, Any]) -> str:
    """An error of pydantic's in words, with what was sent where it is short enough to help."""
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "json_invalid":
        return f"is not valid JSON: {item.get('ctx', {}).get('error', '')} at character {item['loc'][-1]}"
    if "UploadFile" in message:
        return "send a file, as a part of `multipart/form-data`"
    if item["type"] in SENTENCES:
        return SENTENCES[item["type"]]
    if item["type"] == "union_tag_invalid":
        return f"there is no `type` {item['ctx']['tag']!r}; send one of {item['ctx']['expected_tags']}"
    message = KINDS.get(item["type"], message)
    sent = item.get("input")
    shown = repr(sent)
    if isinstance(sent, str | int | float | bool) and len(shown) <= MAX_SHOWN_CHARS:
        return f"{message}; sent was {shown}"
    return message


STATUS_CODES = {404: "route_unknown", 405: "method_not_allowed", 413: "body_too_large"}


async def _http(_request: Request, error: Exception) -> Response:
    http = cast("HTTPException", error)
    if http.status_code == 400 and isinstance(http.__cause__, OSError):  # a part of the body waits on disk
        return await _fact(_request, faults.of_system(http.__cause__))
    if http.status_code == 400:  # raised where a body is taken apart, and nowhere else
        return _invalid((errors.FieldError(loc=("body",), msg=_unreadable(http)),))
    code = STATUS_CODES.get(http.status_code, "http_error")
    detail = str(http.detail)
    if http.status_code == 404:
        detail = "there is nothing at this address; the routes are listed at /docs"
    if http.status_code == 405 and http.headers:
        detail = f"this address takes {http.headers.get('Allow', 'another method')} only"
    return response(
        status=http.status_code,
        code=code,
        title=str(http.detail),
        detail=detail,
        headers=dict(http.headers or {}),
    )


def _unreadable(error: HTTPException) -> str:
    match error.__cause__:
        case UnicodeDecodeError():
            return "is not UTF-8; send JSON in UTF-8"
        case RecursionError():
            return "is nested too deeply; send a flatter object"
        case ValueError():
            return "holds a number that is too long; send numbers of ordinary size"
        case _:
            return (
                f"cannot be taken apart ({str(error.detail).rstrip('.')}); send `multipart/form-data` as RFC 7578 says"
            )


def unexpected(error: Exception) -> Response:
    """The answer when nobody knows this error, or the database is away."""
    if db.is_disconnect(error):
        log.warning("database away", error=str(error)[:200])
        return response(
            status=503,
            code="database_unavailable",
            title="The database cannot be reached right now.",
            detail="the database cannot be reached right now; try again in a moment",
            headers={"Retry-After": "2"},
        )
    log.error("unexpected", error=f"{type(error).__name__}: {error}", exc_info=error)
    return response(
        status=500,
        code="internal_error",
        title=errors.TintypeError.title(),
        detail="something went wrong inside Tintype; the log has more under this request_id",
    )
