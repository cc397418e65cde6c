"""One request on one server: its prompts sent or found again, followed side by side, and their results handed on."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from tintype import logs
from tintype.comfy import pictures, results, runs
from tintype.comfy.client import File, Server
from tintype.comfy.errors import (
    BrokenServerError,
    ComfyError,
    ResultIncompleteError,
    TooSlowError,
    UnreachableError,
)
from tintype.comfy.jobs import Job
from tintype.comfy.messages import PreviewFrame
from tintype.comfy.pictures import ResultUnreadableError
from tintype.comfy.preparing import Draft
from tintype.comfy.progressing import Course
from tintype.comfy.runs import Done, Event, Step
from tintype.comfy.servers import Servers
from tintype.comfy.workflows.graphs import Graph
from tintype.providers.contract import Checkpoint, Output, Preview, Progress, VideoOutput

Item = Progress | Preview | Checkpoint | Output | VideoOutput
PREVIEWS = {"preview_method": "latent2rgb"}
"""ComfyUI sends none unless it is asked to; this way costs it least."""

PASSING = (UnreachableError, TooSlowError, BrokenServerError, ResultIncompleteError)
"""Errors after which the job goes on at its server, or lies finished there; the next try finds it again."""

log = logs.get("comfy")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run was broken off by an error."""

    error: BaseException


Arrived = asyncio.Queue[tuple[int, Event | Ended]]


@dataclass
class Performance:
    """A request from its first prompt to its last result, maybe on one server after the other.

    `handed_on` runs are over for good: their results were given out. `made` are the files to take away at the end.
    """

    servers: Servers
    draft: Draft
    server: Server | None = None
    job: Job | None = None
    handed_on: int = 0
    given: int = 0
    made: list[File] = field(default_factory=list[File])

    async def run(self, job: Job | None) -> AsyncGenerator[Item]:
        """Everything that is left to do: of a job that was sent before, or of a new one.

        Raises:
            ComfyError, TintypeError: as the provider.
        """
        if job is None:
            async with self.servers.chosen(self.draft.missing) as server:
                async with aclosing(self._send(server)) as items:
                    async for item in items:
                        yield item
            return
        async with aclosing(self._follow(self.servers.at(job.server), job)) as items:
            async for item in items:
                yield item

    async def _send(self, server: Server) -> AsyncGenerator[Item]:
        """A new job: connected while its token is stored, and sent once it is."""
        job = Job.new(server.url, runs=len(self.draft.runs))
        graphs = await self._graphs(server, job)
        is_stored = asyncio.Event()
        pumps = [
            runs.perform(server, ticket, graph.as_prompt(), extra_data=PREVIEWS, may_begin=is_stored)
            for ticket, graph in zip(job.tickets(), graphs, strict=True)
        ]
        async with _pumped(pumps, since=self.handed_on) as arrived:
            yield Checkpoint(token=job.token)
            self.server, self.job = server, job
            is_stored.set()
            async with aclosing(self._watched(arrived, graphs)) as items:
                async for item in items:
                    yield item

    async def _follow(self, server: Server, job: Job) -> AsyncGenerator[Item]:
        """A job that was sent before, maybe by another process."""
        self.server, self.job = server, job
        graphs = await self._graphs(server, job)
        async with _pumped([runs.follow(server, ticket) for ticket in job.tickets()], since=self.handed_on) as arrived:
            async with aclosing(self._watched(arrived, graphs)) as items:
                async for item in items:
                    yield item

    async def _watched(self, arrived: Arrived, graphs: list[Graph]) -> AsyncGenerator[Item]:
        try:
            async with aclosing(self._items(arrived, graphs)) as items:
                async for item in items:
                    yield item
        except ComfyError as error:
            await self._give_up(error)
            raise

    async def _items(self, arrived: Arrived, graphs: list[Graph]) -> AsyncGenerator[Item]:
        course = Course(graphs[0], len(graphs))
        over: dict[int, Done] = {}
        while self.handed_on < len(graphs):
            run, event = await arrived.get()
            said: Item | None = None
            match event:
                case Ended(error=error):
                    raise error
                case Step():
                    said = course.advance(run, event)
                case PreviewFrame():
                    said = None if course.is_at_last(run) else await self._preview(run, event)
                case Done():
                    said = course.end(run)
                    over[run] = event
            if said is not None:
                yield said
            while (done := over.pop(self.handed_on, None)) is not None:
                async for output in self._results(done, graphs[self.handed_on]):
                    yield output
                self.handed_on += 1

    async def _graphs(self, server: Server, job: Job) -> list[Graph]:
        """What each run is, with the pictures uploaded; the same again for a job that was sent before."""
        inventory = await self.servers.inventory(server)
        uploaded = await self.draft.upload(server)
        prefixes = [job.prefix(self.draft.request.id, run.index) for run in self.draft.runs]
        return [
            self.draft.graph(inventory, run, uploaded, prefix=prefix)
            for run, prefix in zip(self.draft.runs, prefixes, strict=True)
        ]

    async def _preview(self, run: int, frame: PreviewFrame) -> Preview | None:
        try:
            pixels, _ = await asyncio.to_thread(pictures.decode, frame.data, "a preview")
        except ResultUnreadableError:
            return None  # of a kind that is not known; the picture itself will come
        return Preview(index=run, pixels=pixels)

    async def _results(self, done: Done, graph: Graph) -> AsyncGenerator[Output | VideoOutput]:
        """What the nodes that save gave in the run that is next, in the order in which the workflow names them."""
        assert self.server is not None
        self.made += done.files
        seed = self.draft.runs[self.handed_on].seed
        for result in results.of(self.draft, done, graph):
            yield await results.fetch(self.server, result, index=self.given, seed=seed, graph=graph)
            self.given += 1

    async def _give_up(self, error: ComfyError) -> None:
        """Leave nothing behind of a job that failed, so that a next try begins anew."""
        if self.server is None or self.job is None or isinstance(error, PASSING):
            return
        try:
            await results.withdraw(self.server, self.job)
        except ComfyError as trouble:
            log.warning("a failed job stays on the server", server=self.server.url, error=trouble.detail)

    async def clean_up(self) -> None:
        """Take everything away from the server that the job left there, as far as it allows."""
        if self.server is None or self.job is None:
            return
        try:
            await results.clean_up(self.server, self.job, self.made, request_id=self.draft.request.id)
        except ComfyError as trouble:
            log.warning("results stay on the server", server=self.server.url, error=trouble.detail)


@asynccontextmanager
async def _pumped(events: list[AsyncGenerator[Event]], *, since: int) -> AsyncGenerator[Arrived]:
    """What happens in all runs from `since` on, as it happens."""
    arrived: Arrived = asyncio.Queue()
    tasks = [asyncio.create_task(_pump(run, of_run, arrived)) for run, of_run in enumerate(events) if run >= since]
    try:
        yield arrived
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(run: int, events: AsyncGenerator[Event], arrived: Arrived) -> None:
    try:
        async with aclosing(events):
            async for event in events:
                arrived.put_nowait((run, event))
    except Exception as error:  # noqa: BLE001  whatever it is, it is raised where the runs are awaited
        arrived.put_nowait((run, Ended(error=error)))
