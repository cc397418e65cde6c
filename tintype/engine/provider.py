"""The engine as a provider: one thread computes, the event loop only hands over requests and takes results.

torch is imported in that thread, when the provider is made, so that the process answers at once.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tintype import logs, settings
from tintype.providers.contract import (
    Capability,
    Checkpoint,
    GenerationRequest,
    ModelFiles,
    Output,
    Progress,
    ProviderError,
    Quote,
)

if TYPE_CHECKING:
    from tintype.engine.runner import Runner

FAMILIES = ("sketch",)

log = logs.get("engine")


@dataclass(frozen=True)
class Ended:
    """The thread has nothing more to give; `error` says why when it did not simply finish."""

    error: BaseException | None = None


def create() -> "EngineProvider":
    """The engine with this process's settings."""
    return EngineProvider(settings.load(settings.Engine))


class EngineProvider:
    """Runs one request at a time on one device."""

    def __init__(self, engine: settings.Engine) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._runner = self._thread.submit(_start, engine)
        self._one_at_a_time = asyncio.Lock()
        self._breakdown: str | None = None

    def capabilities(self) -> Capability:
        """What the engine can do; `devices` is empty until torch has been imported.

        A device that failed once stays a problem: no later work in this process can be trusted to it.
        """
        complete = self._runner.done()
        error = self._runner.exception() if complete else None
        return Capability(
            tasks=("text_to_image",),
            families=FAMILIES,
            concurrency=1,
            devices=(self._runner.result().device.label,) if complete and error is None else (),
            is_complete=complete,
            problem=str(error) if error else self._breakdown,
        )

    def quote(self, request: GenerationRequest) -> Quote:
        """Nothing: it is one's own machine."""
        return Quote(usd=0.0)

    async def prepare(self, model: ModelFiles) -> None:
        """Load the model as soon as the thread is free."""
        self._thread.submit(self._load, model)

    def _load(self, model: ModelFiles) -> None:
        try:
            self._runner.result().load(model)
        except ProviderError as error:
            self._note(error)
            log.error("model cannot be prepared", model=model.id, error=error.detail)

    def _note(self, error: BaseException) -> None:
        if isinstance(error, ProviderError) and error.code == "device_broken":
            self._breakdown = error.detail
            log.error("the device is out of use", error=error.detail)

    async def generate(
        self, request: GenerationRequest, resume: str | None = None
    ) -> AsyncIterator[Progress | Checkpoint | Output]:
        """Make the pictures; closing the iterator stops the thread at its next step."""
        async with self._one_at_a_time:
            stop = threading.Event()
            arrived: asyncio.Queue[Progress | Output | Ended] = asyncio.Queue()
            running = self._start(request, stop, arrived)
            try:
                while not isinstance(item := await arrived.get(), Ended):
                    yield item
                if item.error is not None:
                    raise item.error
            finally:
                stop.set()
                await asyncio.shield(running)

    async def cancel(self, token: str) -> None:
        """The engine has no work elsewhere."""
        raise ProviderError(f"the engine knows no token {token!r}", code="work_unknown", retryable=False)

    async def close(self) -> None:
        """Take no more work; what the thread is at ends with the process."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(
        self,
        request: GenerationRequest,
        stop: threading.Event,
        arrived: "asyncio.Queue[Progress | Output | Ended]",
    ) -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop()

        def give(item: Progress | Output | Ended) -> None:
            loop.call_soon_threadsafe(arrived.put_nowait, item)

        def work() -> None:
            try:
                for item in self._runner.result().run(request, stop):
                    give(item)
            except BaseException as error:  # noqa: BLE001  it is raised again where the request is awaited
                self._note(error)
                give(Ended(error))
            else:
                give(Ended())

        return asyncio.ensure_future(loop.run_in_executor(self._thread, work))


def _start(engine: settings.Engine) -> "Runner":
    from tintype.engine.runner import Runner

    return Runner(device=engine.device, threads=engine.threads)
