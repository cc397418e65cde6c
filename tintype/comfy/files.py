"""Files that go to a ComfyUI server and come back from it.

What is sent is named by its content, so a picture that many prompts use travels once. What comes back is counted, so
half a file is no result.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tintype import logs
from tintype.comfy.client import File, Server
from tintype.comfy.errors import (
    ResultIncompleteError,
    ResultMissingError,
    ResultTooLargeError,
    TooSlowError,
    UnreachableError,
    UploadRefusedError,
)

FOLDER = "tintype"
"""The subfolder of the server's input folder for what is sent."""

ATTEMPTS, PAUSE_S = 3, 0.1
"""How often a file is asked for that does not arrive whole, and the pause before that, longer each time."""

log = logs.get("comfy")


async def upload(server: Server, data: bytes, *, suffix: str) -> str:
    """The name under which `data` is a file of the server's input folder, as nodes like LoadImage take it.

    What the server has already is not sent again. Where a file of that name holds something else the server chooses
    another name.

    Raises:
        UploadRefusedError: it does not take the file.
    """
    name = hashlib.sha256(data).hexdigest() + suffix
    known = server.uploads.get(name, f"{FOLDER}/{name}")
    if await _size(server, _input(known)) == len(data):
        return known
    server.uploads[name] = await _put(server, name, data, folder=FOLDER, kind="input", overwrite=False)
    return server.uploads[name]


async def read(server: Server, file: File, *, most_bytes: int) -> bytes:
    """The whole content of a file.

    Raises:
        ResultMissingError, ResultIncompleteError, ResultTooLargeError: as they say.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return await _fetch(server, file, most_bytes)
        except ResultIncompleteError as error:
            if attempt == ATTEMPTS:
                raise
            log.warning("a file is asked for again", server=server.url, file=file.name, reason=error.detail)
            await asyncio.sleep(PAUSE_S * attempt)


async def remove(server: Server, file: File) -> Literal["deleted", "emptied", "kept"]:
    """Take a result away from the server as far as it allows.

    ComfyUI has no route that deletes a file of its output. Where its output folder is one of this machine the file is
    deleted there. Elsewhere it is overwritten with nothing through the route for uploads: the name stays, the picture
    goes.
    """
    if server.output_folder is not None and file.type == "output":
        root = server.output_folder.resolve()
        path = (root / file.subfolder / file.name).resolve()
        if path.is_relative_to(root) and path.is_file():
            path.unlink()
            _remove_empty_folders(path.parent, root)
            return "deleted"
    try:
        await _put(server, file.name, b"", folder=file.subfolder, kind=file.type, overwrite=True)
    except UploadRefusedError as error:
        log.warning("a result stays on the server", server=server.url, file=file.name, reason=error.detail)
        return "kept"
    return "emptied"


def listed(outputs: Mapping[str, Any]) -> tuple[File, ...]:
    """The files in the `outputs` of a history's entry, in the order of the nodes that made them."""
    return tuple(
        File(
            name=str(entry["filename"]),
            subfolder=str(entry.get("subfolder") or ""),
            type=str(entry.get("type") or "output"),
            node=str(node),
            kind=str(kind),
            is_animated=kind == "gifs" or any(output.get("animated") or ()),
        )
        for node, output in outputs.items()
        for kind, entries in output.items()
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and entry.get("filename")
    )


async def _put(server: Server, name: str, data: bytes, *, folder: str, kind: str, overwrite: bool) -> str:
    fields = {"type": kind, "subfolder": folder, "overwrite": "true" if overwrite else "false"}
    answer = await server.ask("POST", "upload/image", data=fields, files={"image": (name, data)})
    if answer.status_code == 413:
        raise UploadRefusedError(
            f"A file of {len(data):,} bytes is more than ComfyUI takes; start it with a larger --max-upload-size."
        )
    if answer.status_code in (400, 404, 405):
        raise UploadRefusedError("ComfyUI refuses the file; look at its log.")
    found = server.json(answer)
    subfolder = str(found.get("subfolder") or "")
    return f"{subfolder}/{found['name']}" if subfolder else str(found["name"])


async def _size(server: Server, file: File) -> int:
    """The bytes of a file, -1 if the server has none of that name."""
    answer = await server.ask("HEAD", "view", params=_query(file))
    return int(answer.headers.get("content-length", -1)) if answer.status_code == 200 else -1


async def _fetch(server: Server, file: File, most_bytes: int) -> bytes:
    """All bytes the server announces; httpx counts them and calls fewer a broken connection."""
    arrived, size = bytearray(), -1
    try:
        async with server.stream("view", _query(file)) as answer:
            if answer.status_code != 404:
                server.settle(answer)
            size = int(answer.headers.get("content-length", -1))
            if answer.status_code == 404 or size == 0:
                raise ResultMissingError(f"ComfyUI no longer has its result {file.name!r}; run the workflow again.")
            if size > most_bytes:
                raise ResultTooLargeError(f"{file.name!r} has {size:,} bytes; {most_bytes:,} are taken at most.")
            async for piece in answer.aiter_bytes():
                arrived += piece
                if len(arrived) > most_bytes:
                    raise ResultTooLargeError(f"{file.name!r} has more than {most_bytes:,} bytes, the most taken.")
    except (UnreachableError, TooSlowError) as error:
        if size < 0:
            raise
        raise ResultIncompleteError(
            f"{len(arrived):,} of {size:,} bytes of {file.name!r} arrived before the connection broke; try again."
        ) from error
    return bytes(arrived)


def _remove_empty_folders(folder: Path, root: Path) -> None:
    with contextlib.suppress(OSError):  # one that holds something stays
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def _input(name: str) -> File:
    folder, _, last = name.rpartition("/")
    return File(name=last, subfolder=folder, type="input")


def _query(file: File) -> dict[str, str]:
    return {"filename": file.name, "subfolder": file.subfolder, "type": file.type}
