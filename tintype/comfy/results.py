"""What a prompt made: fetched whole, understood, and taken away from the server again."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from tintype.comfy import cancelling, files, pictures
from tintype.comfy.client import File, Server
from tintype.comfy.errors import ComfyError
from tintype.comfy.jobs import Job, folder_of
from tintype.comfy.preparing import Draft
from tintype.comfy.runs import Done
from tintype.comfy.workflows.graphs import Graph, Node
from tintype.providers.contract import Output, VideoFile, VideoOutput, VideoType

MOST_PICTURE_BYTES = 256 << 20
MOST_VIDEO_BYTES = 1 << 30
VIDEO_TYPES: dict[str, VideoType] = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".gif": "image/gif",
    ".webp": "image/webp",
}


class NothingMadeError(ComfyError):
    """The workflow ran to its end, and a node that is to give a result gave none."""

    fact = "workflow_made_nothing"


class VideoUnknownError(ComfyError):
    """The workflow made a video of a kind that is not taken."""

    fact = "workflow_video_unknown"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A file that a node gave which is to give results; `is_cutout` where its background was to be removed."""

    file: File
    is_video: bool
    is_cutout: bool


def of(draft: Draft, done: Done, graph: Graph) -> list[Result]:
    """The results among the files of a run, in the order in which the workflow names the nodes that give them.

    Raises:
        NothingMadeError: one of those nodes gave none.
    """
    is_cutout = draft.request.task == "remove_background"
    return [
        Result(file=file, is_video=kind == "videos", is_cutout=is_cutout)
        for node, kind in draft.outputs.items()
        for file in _files_of(done, graph.nodes[node], kind)
    ]


def _files_of(done: Done, node: Node, kind: str) -> list[File]:
    found = [file for file in done.files if file.node == node.id and (file.is_animated or kind == "pictures")]
    if not found:
        raise NothingMadeError(f"{node.name} of the workflow gave no {kind}; run it in ComfyUI to see why.")
    return found


async def fetch(server: Server, result: Result, *, index: int, seed: int, graph: Graph) -> Output | VideoOutput:
    """One result, read from the server.

    Raises:
        ComfyError: it did not arrive, or is of no kind that is understood.
    """
    if result.is_video:
        kind = _video_type(result.file)
        data = await files.read(server, result.file, most_bytes=MOST_VIDEO_BYTES)
        return VideoOutput(
            index=index, seed=seed, video=VideoFile(data=data, content_type=kind), graph=graph.as_prompt()
        )
    data = await files.read(server, result.file, most_bytes=MOST_PICTURE_BYTES)
    colours, alpha = await asyncio.to_thread(pictures.decode, data, result.file.name)
    if alpha is not None and not result.is_cutout:
        colours, alpha = pictures.over_white(colours, alpha), None
    return Output(index=index, seed=seed, pixels=colours, alpha=alpha, graph=graph.as_prompt())


def _video_type(file: File) -> VideoType:
    suffix = PurePosixPath(file.name).suffix.lower()
    if suffix not in VIDEO_TYPES:
        raise VideoUnknownError(
            f"The workflow made {file.name}; a video is to be one of {', '.join(VIDEO_TYPES)}: set its last node to one"
        )
    return VIDEO_TYPES[suffix]


async def clean_up(server: Server, job: Job, made: Iterable[File], *, request_id: str) -> None:
    """Take the files of a job away from the server, and its words out of the server's history."""
    for file in made:
        await _remove(server, file, request_id)
    for ticket in job.tickets():
        await server.forget(ticket.prompt_id)


async def _remove(server: Server, file: File, request_id: str) -> None:
    """A file that is not in our own folder may be anybody's by now: such a name is given again."""
    if file.subfolder == folder_of(request_id) or file.type == "temp":
        await files.remove(server, file)


async def withdraw(server: Server, job: Job) -> None:
    """End every prompt of a job, waiting or running, and take away what it made.

    Raises:
        ComfyError: the server is away, or a prompt does not end.
    """
    for ticket in reversed(job.tickets()):  # the last first, so that no other begins meanwhile
        await cancelling.cancel(server, ticket.prompt_id)
        entry = await server.history(ticket.prompt_id)
        if entry is None:
            continue
        for file in files.listed(entry.get("outputs") or {}):
            if file.subfolder.startswith(folder_of("")) or file.type == "temp":
                await files.remove(server, file)
        await server.forget(ticket.prompt_id)
