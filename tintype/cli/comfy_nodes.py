"""What a ComfyUI server has, asked for by a command."""

import asyncio

from tintype import errors, settings
from tintype.comfy.client import Server
from tintype.comfy.workflows import node_types
from tintype.comfy.workflows.node_types import NodeType
from tintype.providers.contract import ProviderError


class NoServerError(errors.SetupError):
    """No ComfyUI is set up."""

    code = "comfyui_not_set_up"


class ServerAwayError(errors.TintypeError):
    """ComfyUI does not answer as it should."""

    code = "comfyui_away"


def urls(server: str | None) -> tuple[str, ...]:
    """The servers to ask: the one that was named, else those of `COMFYUI_URL`, else none."""
    return (server.rstrip("/"),) if server else settings.load(settings.Comfy).urls


def types_of(url: str) -> dict[str, NodeType]:
    """The classes of nodes that a server has.

    Raises:
        ServerAwayError: it does not answer, or not as ComfyUI does.
    """
    try:
        return asyncio.run(_types_of(url))
    except ProviderError as error:
        raise ServerAwayError(f"{url}: {error.detail}") from error


async def _types_of(url: str) -> dict[str, NodeType]:
    async with Server(url) as server:
        return node_types.read(await server.object_info())
