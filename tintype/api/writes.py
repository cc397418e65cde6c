"""Writes: one transaction per request, and the same answer for the same `Idempotency-Key`."""

from collections.abc import Awaitable, Callable

import orjson
from fastapi import Request, Response
from pydantic import BaseModel

from tintype.accounts.actors import Actor
from tintype.api.context import Context
from tintype.db import idempotency
from tintype.db import session as db
from tintype.db.session import WriteSession

Work = Callable[[WriteSession], Awaitable[BaseModel | None]]


async def write(
    request: Request,
    context: Context,
    actor: Actor,
    work: Work,
    *,
    status: int,
    fingerprint: bytes | None = None,
) -> Response:
    """Run `work` in one transaction and answer with what it returns.

    With an `Idempotency-Key` the answer is kept in the same transaction; a repetition gets it again, marked
    `Idempotent-Replayed: true`, and changes nothing. `fingerprint` stands for the body where it was streamed.
    """
    key = request.headers.get("idempotency-key")
    async with db.transaction(context.database) as session:
        if key is not None:
            body = await request.body() if fingerprint is None else fingerprint
            same = b"\n".join((request.method.encode(), request.url.path.encode(), body))
            kept = await idempotency.begin(session, owner_id=actor.id, key=key, request=same)
            if kept is not None:
                return _answer(kept.status, kept.body, replayed=True)
        result = await work(session)
        body = None if result is None else result.model_dump(mode="json")
        if key is not None:
            await idempotency.keep(session, owner_id=actor.id, key=key, status=status, body=body)
    return _answer(status, body, replayed=False)


def _answer(status: int, body: dict[str, object] | None, *, replayed: bool) -> Response:
    headers = {"Idempotent-Replayed": "true"} if replayed else None
    if body is None:
        return Response(status_code=status, headers=headers)
    return Response(orjson.dumps(body), status_code=status, media_type="application/json", headers=headers)
