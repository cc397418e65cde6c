"""One job from delivery to end: claim, generate, store, finish. Called by the queue, at least once per generation."""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import structlog

from tintype import errors, logs, settings, storage
from tintype.catalog.operations import Catalogue
from tintype.db import session as db
from tintype.generations import claims
from tintype.generations.claims import Claim
from tintype.generations.leftovers import Work
from tintype.generations.lineage import Lineage
from tintype.media.provenance import gate
from tintype.media.tables import Media
from tintype.providers.contract import (
    Checkpoint,
    GenerationRequest,
    Output,
    Preview,
    Progress,
    Provider,
    ProviderError,
    VideoOutput,
)
from tintype.providers.registry import Providers
from tintype.queue import jobs
from tintype.queue.consumer import AgainError
from tintype.verdicts.operations import Judged
from tintype.worker import backgrounds, inputs, previews, requests, results, videos
from tintype.worker.affinity import Affinity
from tintype.worker.checks import Checks, Seen
from tintype.worker.elsewhere import Elsewhere
from tintype.worker.held import Held, Holdings, Item, next_unless_stopped, unless_stopped
from tintype.worker.inputs import Inputs
from tintype.worker.slots import Slots, StoppedError, Turn

BACKOFF_S = (1.0, 5.0, 20.0)
"""How long a retryable failure waits before the next run, by number of failures; jittered by a quarter."""

ALONE_AGAIN_S = 1.0
"""How often a job whose last run must be alone looks whether it may begin."""

UNABLE_AGAIN_S = 2.0
"""When a job is handed out again that this worker's provider cannot do."""

GETTING_READY_S = 30.0
"""How long a job is kept for a provider that is still finding out what it can do here."""

READY_LOOK_S = 0.05

log = logs.get("worker")


@dataclass(frozen=True, kw_only=True)
class Performer:
    """Everything a job needs."""

    worker_id: uuid.UUID
    database: db.Database
    store: storage.Store
    catalogue: Catalogue
    providers: Providers
    elsewhere: Elsewhere
    checks: Checks
    issuer: gate.Issuer
    slots: Slots
    holdings: Holdings
    affinity: Affinity
    worker: settings.Worker
    draining: asyncio.Event
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def perform(self, lane: str, generation_id: uuid.UUID) -> None:
        """Do what the row of this generation asks for, if it still asks for anything.

        Raises:
            AgainError: the queue is to hand the job out again later.
        """
        with structlog.contextvars.bound_contextvars(generation_id=str(generation_id)):
            try:
                if self.holdings.get(generation_id) is not None:  # handed out again while the database was away
                    raise AgainError(self.worker.dead_after_s)
                await self._until_ready(lane)
                await self._leave_to_loaded(lane, generation_id)
                async with self._turn(lane, generation_id) as turn:
                    self._is_ready(lane)  # it can have broken down meanwhile
                    await self._claim_and_run(generation_id, turn)
            except db.DatabaseAwayError as error:
                raise AgainError(self.worker.dead_after_s) from error

    async def _until_ready(self, lane: str) -> None:
        """Wait while the provider still finds out what it can do: what is claimed before would fail with its device."""
        deadline = asyncio.get_running_loop().time() + GETTING_READY_S
        while not self._is_ready(lane):
            if self.draining.is_set() or asyncio.get_running_loop().time() > deadline:
                raise AgainError(0 if self.draining.is_set() else UNABLE_AGAIN_S)
            await asyncio.sleep(READY_LOOK_S)

    def _is_ready(self, lane: str) -> bool:
        """Whether the lane's provider knows what it can do here.

        Raises:
            AgainError: it has found out that it cannot work here, so the job is left to other workers.
        """
        model = self.catalogue.models().get(jobs.model_of(lane))
        provider = self.providers.ready.get(model.manifest.provider) if model is not None else None
        can = provider.capabilities() if provider is not None else None
        if can is not None and can.problem is not None:
            raise AgainError(UNABLE_AGAIN_S)
        return can is None or can.is_complete

    async def _leave_to_loaded(self, lane: str, generation_id: uuid.UUID) -> None:
        model = self.catalogue.models().get(jobs.model_of(lane))
        if model is not None and (provider := self.providers.ready.get(model.manifest.provider)) is not None:
            loaded = provider.capabilities().loaded
            await self.affinity.leave_to_loaded(generation_id, model.id, loaded=loaded)

    @asynccontextmanager
    async def _turn(self, lane: str, generation_id: uuid.UUID) -> AsyncGenerator[Turn]:
        """A slot of the provider; a job that waits for one goes back in line when the worker drains or outranked."""
        model = self.catalogue.models().get(jobs.model_of(lane))
        provider = model.manifest.provider if model is not None else None
        has_waited = provider is not None and self.slots.is_taken(provider)
        turn = Turn(self.slots, provider)
        try:
            if self.draining.is_set() or not await turn.begin(unless=self.draining):
                raise AgainError(0)
            if has_waited and await self._is_outranked(lane, generation_id):
                raise AgainError(0)
            yield turn
        finally:
            turn.end()

    async def _is_outranked(self, lane: str, generation_id: uuid.UUID) -> bool:
        return await db.persistently(
            self.database, lambda session: jobs.is_outranked(session, lane=lane, generation_id=generation_id)
        )

    async def _claim_and_run(self, generation_id: uuid.UUID, turn: Turn) -> None:
        try:
            held = await self._claim(generation_id, turn, is_alone=False)
        except claims.LastRunError:
            if self.alone.locked():
                raise AgainError(ALONE_AGAIN_S) from None
            async with self.alone:
                await self._run(await self._claim(generation_id, turn, is_alone=True))
        else:
            await self._run(held)

    async def _claim(self, generation_id: uuid.UUID, turn: Turn, *, is_alone: bool) -> Held | None:
        limits = claims.Limits(dead_after_s=self.worker.dead_after_s, max_attempts=self.worker.max_attempts)
        outcome = await db.persistently(
            self.database,
            lambda session: claims.claim(
                session, generation_id, worker_id=self.worker_id, is_alone=is_alone, limits=limits
            ),
            within=db.single,
        )
        if outcome is None:
            outcome = await db.persistently(
                self.database,
                lambda session: claims.why_not(session, generation_id, limits=limits, is_alone=is_alone),
            )
        match outcome:
            case Claim():
                log.info("started", attempt=outcome.attempt, model=outcome.model)
                return self.holdings.add(outcome, turn)
            case claims.Busy(retry_in_s=retry_in_s):
                raise AgainError(retry_in_s)
            case claims.NothingToDo():
                return None

    async def _run(self, held: Held | None) -> None:
        if held is None:
            return
        try:
            await self._run_held(held)
        finally:
            self.holdings.drop(held)

    async def _run_held(self, held: Held) -> None:
        try:
            await self._generate_and_store(held)
        except (StoppedError, claims.CancelledError):
            await self._stopped(held)
        except claims.SupersededError:
            log.warning("attempt is over, result dropped", attempt=held.claim.attempt)
        except ProviderError as error:
            await self._failed(held, code=error.code, message=error.detail, retryable=error.retryable)
        except db.DatabaseAwayError:
            raise
        except errors.TintypeError as error:
            retryable = isinstance(error, errors.UnavailableError) or error.status in (503, 507)
            await self._failed(held, code=error.code, message=error.detail, retryable=retryable)
        except Exception as error:
            log.exception("job broke")
            message = (
                f"an internal error stopped this generation ({type(error).__name__}); the log of the worker says more"
            )
            await self._failed(held, code="internal_error", message=message, retryable=False)

    async def _generate_and_store(self, held: Held) -> None:
        claim = held.claim
        provider = self.providers.get(self.catalogue.get(claim.model).manifest.provider)
        took = await inputs.take_in(self.database, self.store, self.catalogue, self.checks, claim)
        judged = [*took.judged, *await self.checks.let_words_through(claim, took.known)]
        request = await self._request(held, took)
        rows: list[Media] = []
        is_kept = False
        try:
            async with aclosing(self._outputs(held, provider, request, took.known)) as outputs:
                async for output in outputs:
                    seen, stored = await self._judge_and_store(held, took, output)
                    judged += seen.judged
                    rows.append(results.row(claim, stored, took.known, shows_person=seen.shows_person))
            await self._complete(claim, rows, judged, cost_usd=provider.quote(request).usd)
            is_kept = True
            log.info("completed", attempt=claim.attempt, pictures=len(rows))
        except db.DatabaseAwayError:
            is_kept = True  # nobody knows whether the rows that name the files were committed
            raise
        finally:
            if not is_kept:
                await results.discard(self.store, [key for row in rows for key in results.keys_of(row)])

    async def _judge_and_store(
        self, held: Held, took: Inputs, output: Output | VideoOutput
    ) -> tuple[Seen, results.Stored]:
        if isinstance(output, VideoOutput) != ("frames" in held.claim.parameters):
            detail = "the provider made a picture of a video, or a video of a picture; choose another model"
            raise ProviderError(detail, code="output_unexpected", retryable=False)
        if isinstance(output, VideoOutput):  # encoding takes seconds, and a stop need not wait for it
            made = await unless_stopped(lambda: videos.make(self.checks, held.claim, took, output, self.issuer), held)
            return made.seen, await results.put(self.store, held.claim, output, made.encoded, made.settings)
        seen = await self.checks.let_picture_through(held.claim, took.known, output.pixels)
        return seen, await results.store(self.store, held.claim, output, self.issuer, took.ingredients)

    async def _complete(self, claim: Claim, pictures: list[Media], judged: list[Judged], *, cost_usd: float) -> None:
        await db.persistently(
            self.database,
            lambda session: claims.complete(session, claim, pictures, judged, cost_usd=cost_usd),
            within=db.single if claim.attempt == 1 else db.transaction,  # a later attempt dooms files as well
        )

    async def _request(self, held: Held, took: Inputs) -> GenerationRequest:
        claim = held.claim
        if not took.pictures:
            return requests.build(claim, self.catalogue, took)
        request = await asyncio.to_thread(requests.build, claim, self.catalogue, took)
        if "remover" not in claim.parameters:
            return request
        source = took.pixels_of(claim.parameters["image"])
        remover = self.catalogue.get(claim.parameters["remover"])
        provider = self.providers.get(remover.manifest.provider)
        async with held.turn.elsewhere(remover.manifest.provider, unless=held.stopped):
            return await backgrounds.masked(request, held, source, remover, provider, self.elsewhere)

    async def _outputs(
        self, held: Held, provider: Provider, request: GenerationRequest, known: Lineage
    ) -> AsyncGenerator[Output | VideoOutput]:
        """The provider's outputs; progress and previews are noted on the way, and a stop ends it within one step."""
        name = self.catalogue.get(held.claim.model).manifest.provider
        stream = provider.generate(request, resume=held.claim.checkpoint)
        async with aclosing(cast("AsyncGenerator[Item]", stream)) as items:
            while True:
                item = await next_unless_stopped(items, held)
                match item:
                    case None:
                        return
                    case Progress():
                        held.advance(item)
                    case Preview():
                        await previews.show(held, self.checks, known, item)
                    case Checkpoint(token=token):
                        await self._remember(held, Work(provider=name, token=token, generation_id=held.claim.id))
                    case Output() | VideoOutput():
                        yield item

    async def _remember(self, held: Held, work: Work) -> None:
        try:
            is_mine = await db.persistently(self.database, lambda session: claims.checkpoint(session, held.claim, work))
        except db.DatabaseAwayError:
            self.elsewhere.strays.add(work)
            raise
        if not is_mine:
            raise claims.SupersededError

    async def _stopped(self, held: Held) -> None:
        if held.reason == "draining":
            await self._give_back(held, counts_as_failure=False)
            raise AgainError(0)
        if held.reason != "lost":
            await db.persistently(self.database, lambda session: claims.acknowledge_cancel(session, held.claim))
            await self.elsewhere.end_doomed(held.claim.id)
        log.info("stopped", reason=held.reason or "cancelled")

    async def _failed(self, held: Held, *, code: str, message: str, retryable: bool) -> None:
        failures = held.claim.failures + 1
        log.warning("failed", code=code, error=message, retryable=retryable, failures=failures)
        if retryable and failures < self.worker.max_attempts:
            if await self._give_back(held, counts_as_failure=True):
                delay_s = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
                raise AgainError(delay_s * random.uniform(0.75, 1.25))  # noqa: S311  jitter, not a secret
            return
        try:
            await db.persistently(
                self.database, lambda session: claims.fail(session, held.claim, code=code, message=message)
            )
        except claims.CancelledError:
            await self._stopped(held)
        except claims.SupersededError:
            log.warning("attempt is over, failure dropped", attempt=held.claim.attempt)

    async def _give_back(self, held: Held, *, counts_as_failure: bool) -> bool:
        return await db.persistently(
            self.database,
            lambda session: claims.give_back(session, held.claim, counts_as_failure=counts_as_failure),
        )
