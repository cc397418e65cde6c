"""The engine as a provider: its threads compute, the event loop only hands over requests and takes results.

torch is imported in the engine's thread, when the provider is made, so that the process answers at once.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from tintype import logs, settings
from tintype.engine import families
from tintype.providers.contract import (
    Capability,
    Checkpoint,
    GenerationRequest,
    ModelFiles,
    Output,
    Preview,
    Progress,
    ProviderError,
    Quote,
    Task,
)

if TYPE_CHECKING:
    from tintype.engine.job import Given
    from tintype.engine.runner import Runner

TASKS: tuple[Task, ...] = ("text_to_image", "image_to_image", "inpaint", "upscale", "remove_background")

log = logs.get("engine")


def create() -> "EngineProvider":
    """The engine with this process's settings."""
    return EngineProvider(settings.load(settings.Engine))


class EngineProvider:
    """Runs many requests at once on one device, step by step."""

    def __init__(self, engine: settings.Engine) -> None:
        self._concurrency = engine.concurrency
        self._runner: Future[Runner] = Future()
        self._thread = threading.Thread(target=self._serve, args=(engine,), name="engine", daemon=True)
        self._thread.start()

    def _serve(self, engine: settings.Engine) -> None:
        try:
            from tintype.engine.runner import Runner

            runner = Runner(engine, settings.home())
        except BaseException as error:  # noqa: BLE001  it is raised again where the runner is asked for
            self._runner.set_exception(error)
            return
        self._runner.set_result(runner)
        runner.serve()

    def capabilities(self) -> Capability:
        """What the engine can do; `devices` is empty until torch has been imported.

        A device that failed once stays a problem: no later work in this process can be trusted to it.
        """
        complete = self._runner.done()
        error = self._runner.exception() if complete else None
        runner = self._runner.result() if complete and error is None else None
        return Capability(
            tasks=TASKS,
            families=families.NAMES,
            concurrency=self._concurrency,
            devices=(runner.device.label,) if runner is not None else (),
            is_complete=complete,
            problem=str(error) if error else runner.breakdown if runner is not None else None,
            loaded=runner.loaded if runner is not None else (),
            notes=runner.notes if runner is not None else (),
        )

    def quote(self, request: GenerationRequest) -> Quote:
        """Nothing: it is one's own machine."""
        return Quote(usd=0.0)

    async def prepare(self, model: ModelFiles) -> None:
        """Load the model as soon as the engine's thread is free."""
        self._runner.add_done_callback(lambda ready: ready.exception() or ready.result().prepare(model))

    async def generate(
        self, request: GenerationRequest, resume: str | None = None
    ) -> AsyncIterator[Progress | Checkpoint | Output | Preview]:
        """Make the pictures; closing the iterator drops them at the next tick.

        Raises:
            ProviderError: a picture cannot be made.
        """
        from tintype.engine.job import Ended, Job

        runner = await asyncio.shield(asyncio.wrap_future(self._runner))  # a cancelled wait must not cancel the start
        if request.controls:
            request = await asyncio.to_thread(_draw_ahead, request)
        arrived: asyncio.Queue[Given] = asyncio.Queue()
        job = Job(request=request, give=_into(arrived, asyncio.get_running_loop()))
        runner.submit(job)
        item: Given | None = None
        try:
            while not isinstance(item := await arrived.get(), Ended):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            if not isinstance(item, Ended):
                runner.withdraw(job)

    async def cancel(self, token: str) -> None:
        """The engine has no work elsewhere."""
        raise ProviderError(f"the engine knows no token {token!r}", code="work_unknown", retryable=False)

    async def close(self) -> None:
        """Take no more work; what the thread is at ends with the process."""
        self._runner.add_done_callback(lambda ready: ready.exception() or ready.result().close())


def _draw_ahead(request: GenerationRequest) -> GenerationRequest:
    from tintype.engine import preprocessing  # takes seconds: not on the event loop

    return preprocessing.draw_ahead(request)


def _into(arrived: "asyncio.Queue[Given]", loop: asyncio.AbstractEventLoop) -> "Callable[[Given], None]":
    def give(item: "Given") -> None:
        if not loop.is_closed():  # the process ends, and nobody waits any more
            loop.call_soon_threadsafe(arrived.put_nowait, item)

    return give
