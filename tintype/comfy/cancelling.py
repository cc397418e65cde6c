"""Ending exactly one prompt, whether it waits or runs, and making sure that it has ended."""

import asyncio
import time
from typing import Literal

from tintype.comfy.client import Server
from tintype.comfy.errors import StillRunningError

Place = Literal["waiting", "running", "ended", "unknown"]

FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 1.0


async def locate(server: Server, prompt_id: str) -> Place:
    """Where a prompt is now. Unknown prompts are in neither queue nor history.

    The queue is asked first: a prompt goes from there into the history, so one that is in neither was not missed in
    between.
    """
    queue = await server.queue()
    if prompt_id in queue.running:
        return "running"
    if prompt_id in queue.waiting:
        return "waiting"
    return "unknown" if await server.history(prompt_id) is None else "ended"


async def cancel(server: Server, prompt_id: str) -> Place:
    """End a prompt; says where it was found first, and returns once it neither waits nor runs.

    A prompt that starts to run while it is taken out of the queue is found running in the next round. It is broken
    off between two steps or nodes, which may take a while.

    Raises:
        StillRunningError: it was asked to end and has not within `cancel_s`.
        ComfyError: the server could not be asked.
    """
    first = place = await locate(server, prompt_id)
    deadline, pause_s = time.monotonic() + server.timeouts.cancel_s, FIRST_PAUSE_S
    while place in ("waiting", "running"):
        if time.monotonic() > deadline:
            raise StillRunningError(
                f"The prompt still runs {server.timeouts.cancel_s:g} s after ComfyUI was asked to end it; it ends "
                "after the node that computes now, or restart ComfyUI."
            )
        if not await server.end(prompt_id):
            await (server.withdraw if place == "waiting" else server.interrupt)(prompt_id)
        place = await locate(server, prompt_id)
        if place == "running":
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)
            place = await locate(server, prompt_id)
    return first
