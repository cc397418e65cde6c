"""ComfyUI as a provider: a request becomes prompts on one of the servers, which any worker can find again."""

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

from tintype import logs, settings
from tintype.comfy import results
from tintype.comfy.client import Timeouts
from tintype.comfy.errors import (
    ComfyError,
    NoServerFitsError,
    PromptForgottenError,
    ResultMissingError,
    UnreachableError,
)
from tintype.comfy.jobs import Job
from tintype.comfy.performing import Item, Performance
from tintype.comfy.preparing import Draft, Shelf, Types
from tintype.comfy.servers import Servers
from tintype.comfy.watching import Watch
from tintype.providers.contract import (
    WORK_UNKNOWN,
    Capability,
    GenerationRequest,
    ModelFiles,
    ProviderError,
    Quote,
    Task,
)

TASKS: tuple[Task, ...] = (
    "text_to_image",
    "image_to_image",
    "inpaint",
    "upscale",
    "remove_background",
    "text_to_video",
    "image_to_video",
)
SENDS_AT_MOST = 4
"""How often a job is sent again whose server forgot it, before that counts as a failure."""

ABSENCE_S, ABSENCE_BESIDE_OTHERS_S = 60.0, 10.0
"""How long a job waits for its server to come back, alone or where others could do it: until then nothing is lost."""

CLEANING_S = 5.0
NO_SERVER = "no server is set up; COMFYUI_URL names one, e.g. http://127.0.0.1:8188"

log = logs.get("comfy")


def create() -> "ComfyProvider":
    """ComfyUI with this process's settings."""
    return ComfyProvider(settings.load(settings.Comfy))


class ComfyProvider:
    """Runs workflows on the servers that the settings name; without any it can do nothing, and says so in a note."""

    def __init__(self, comfy: settings.Comfy) -> None:
        self._concurrency = comfy.concurrency * len(comfy.urls)
        absence_s = ABSENCE_S if len(comfy.urls) == 1 else ABSENCE_BESIDE_OTHERS_S
        self._timeouts = Timeouts(answer_s=comfy.answer_s, absence_s=absence_s)
        self._urls = comfy.urls
        self._shelf = Shelf()
        self._types = Types()
        self._cleaning: set[asyncio.Task[None]] = set()
        self._is_warm = False
        self._watch = Watch(comfy, self._shelf) if comfy.urls else None

    @functools.cached_property
    def _servers(self) -> Servers:
        """Made where the work is: a connection belongs to one event loop."""
        return Servers(self._urls, self._timeouts)

    def capabilities(self) -> Capability:
        """What the servers were like a moment ago; each is looked at every few seconds."""
        if self._watch is None:
            return Capability(tasks=(), families=(), concurrency=0, devices=(), notes=(NO_SERVER,))
        seen = self._watch.seen
        faults = {one.health.url: one.health.problem for one in seen if one.health.problem is not None}
        is_down = len(faults) == len(seen) > 0
        return Capability(
            tasks=TASKS,
            families=("*",),
            concurrency=self._concurrency,
            devices=tuple(device for one in seen for device in one.devices),
            is_complete=self._watch.has_looked,
            problem=" ".join(faults.values()) if is_down else None,
            notes=self._watch.notes,
            broken={} if is_down else {**faults, **self._watch.broken_workflows},
        )

    def quote(self, request: GenerationRequest) -> Quote:
        """Nothing: it is one's own machine."""
        return Quote(usd=0.0)

    async def prepare(self, model: ModelFiles) -> None:
        """Remember a workflow, so that what it lacks on the servers is told before somebody asks for it."""
        if self._watch is not None:
            self._watch.mind(Path(model.folder))
            if not self._is_warm:
                self._is_warm = True
                self._later(self._warm())

    async def _warm(self) -> None:
        """Ask the servers for what they have, which takes them a while, before the first job has to wait for it."""
        asked = [self._servers.inventory(server) for server in self._servers.all]
        for found in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(found, BaseException) and not isinstance(found, ComfyError):
                raise found

    async def generate(self, request: GenerationRequest, resume: str | None = None) -> AsyncGenerator[Item]:
        """Run the request's workflow once for each seed; closing the iterator ends nothing on the server.

        Raises:
            ProviderError: the servers cannot do it.
            TintypeError: the workflow, or a value for it, is at fault; nothing was queued.
        """
        draft = Draft(workflow=self._shelf.get(Path(request.model.folder)), request=request, types=self._types)
        performance = Performance(servers=self._servers, draft=draft)
        job = self._known(resume)
        for sends in range(1, SENDS_AT_MOST + 1):
            try:
                async with aclosing(performance.run(job)) as items:
                    async for item in items:
                        yield item
                break
            except ComfyError as error:
                if sends == SENDS_AT_MOST or not self._may_send_again(error):
                    raise
                log.warning("the job is sent again", request=request.id, reason=error.detail)
                job = None
            finally:
                self._note_use(performance)
        self._later(performance.clean_up())

    def _may_send_again(self, error: ComfyError) -> bool:
        """Whether the job is gone from its server and nothing speaks against sending it anew, maybe to another."""
        if isinstance(error, UnreachableError):
            if self._watch is not None:
                self._watch.look()
            return len(self._urls) > 1
        return isinstance(error, PromptForgottenError | ResultMissingError)

    def _known(self, token: str | None) -> Job | None:
        """The job of a token, if its server is still one of ours."""
        job = Job.parse(token) if token is not None else None
        return job if job is None or job.server in {server.url for server in self._servers.all} else None

    def _note_use(self, performance: Performance) -> None:
        if self._watch is not None and (server := performance.server) is not None:
            self._watch.used_at[server.url] = time.monotonic()
            server.output_folder = self._watch.output_folders.get(server.url)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def cancel(self, token: str) -> None:
        """End exactly the prompts of this job, waiting or running, and take away what they made.

        Raises:
            ProviderError: `WORK_UNKNOWN` where its server is none of ours any more; else the server is away for now.
        """
        try:
            job = Job.parse(token)
            server = self._servers.at(job.server)
        except (ValueError, NoServerFitsError) as error:
            raise ProviderError(
                "the server that had this work is no longer set up", code=WORK_UNKNOWN, retryable=False
            ) from error
        if self._watch is not None:
            server.output_folder = self._watch.output_folders.get(server.url)
        await results.withdraw(server, job)

    async def close(self) -> None:
        """Give back connections; what is still to be taken away from servers is, for a moment."""
        if self._cleaning:
            await asyncio.wait(tuple(self._cleaning), timeout=CLEANING_S)
        if "_servers" in self.__dict__:
            await self._servers.close()
        if self._watch is not None:
            await asyncio.to_thread(self._watch.stop)
