"""What a picture or video says about how it was made."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, File, UploadFile

from tintype import settings
from tintype.api import problems
from tintype.api.context import CurrentActor, Parts
from tintype.media import decoding
from tintype.media.provenance import inspect as files
from tintype.media.provenance.inspect import Inspection

router = APIRouter(prefix="/api/media", tags=["media"])

LOOKING = ThreadPoolExecutor(1, "inspect")
"""One file of a process is looked at at a time: it takes a core for up to some seconds."""


@router.post("/inspect", responses=problems.responses(403, 413, 421, 422, 503))
async def inspect(
    context: Parts,
    actor: CurrentActor,
    file: Annotated[UploadFile, File(description="A picture or video: PNG, JPEG, WebP, AVIF, GIF or MP4.")],
) -> Inspection:
    """Say how a picture or video was made: its manifest (C2PA), labels, mark and settings; nothing of it is kept."""
    async with context.uploads:
        if (file.size or 0) > files.LIMITS.max_bytes:
            most = f"at most {files.LIMITS.max_bytes:,} are accepted"
            raise decoding.ImageTooLargeError(f"The file has {file.size:,} bytes; {most}.")
        data = await file.read()
        return await asyncio.get_running_loop().run_in_executor(LOOKING, _look, data, context.home)


def _look(data: bytes, home: Path) -> Inspection:
    return files.inspect(data, files.trust(home, settings.load(settings.Provenance)))
