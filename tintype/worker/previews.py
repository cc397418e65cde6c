"""Previews: judged, made small and announced with the progress; never stored."""

import asyncio
import base64
import time

from tintype.generations.lineage import Lineage
from tintype.media import encoding
from tintype.providers.contract import Preview
from tintype.worker.checks import Checks
from tintype.worker.held import Held

LEAST_PAUSE_S = 0.5
SHARE_OF_JUDGING = 4
"""A detector that takes long is asked less often: judging previews takes a fifth of the time at most."""

MOST_BYTES = 5000
"""A notification of PostgreSQL holds 8000 bytes; base64 makes four of three."""


async def show(held: Held, checks: Checks, known: Lineage, preview: Preview) -> None:
    """Have a preview announced with the next progress, unless the one before is too fresh.

    Raises:
        safety.BlockedError: it shows what may not be made; what it is a preview of would, too.
        safety.SafetyUnavailableError: no detector can judge it right now.
    """
    begun = time.monotonic()
    if begun < held.preview_due:
        return
    pixels = await asyncio.to_thread(encoding.shrink, preview.pixels)
    await checks.let_preview_through(held.claim, known, pixels)
    data = await asyncio.to_thread(encoding.small_webp, pixels, MOST_BYTES)
    held.preview = {"index": preview.index, "url": f"data:image/webp;base64,{base64.b64encode(data).decode()}"}
    ended = time.monotonic()
    held.preview_due = max(begun + LEAST_PAUSE_S, ended + SHARE_OF_JUDGING * (ended - begun))
