"""Writes after which files are gone: the rows in one transaction, then the files nobody names any more."""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from tintype import logs, storage
from tintype.accounts.actors import Actor
from tintype.api.context import Context
from tintype.api.writes import write
from tintype.db.session import WriteSession

log = logs.get("api")


async def write_and_delete(
    request: Request, context: Context, actor: Actor, work: Callable[[WriteSession], Awaitable[tuple[str, ...]]]
) -> Response:
    """Run `work`, which dooms files and gives their keys; they are gone when the client hears of it, if they can be."""
    keys: tuple[str, ...] = ()

    async def noting(session: WriteSession) -> None:
        nonlocal keys
        keys = await work(session)

    answer = await write(request, context, actor, noting, status=204)
    try:
        await storage.delete(context.store, keys)
    except storage.StorageUnavailableError as error:
        log.warning("files stay for now", reason=error.reason)
    return answer
