"""The worker process: what runs beside the jobs (heartbeats, cancels, sweeps) and how it starts and stops."""

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from tintype import logs, settings, storage
from tintype.catalog import operations as catalog
from tintype.catalog.operations import Catalogue
from tintype.db import idempotency
from tintype.db import session as db
from tintype.db.base import new_id, now
from tintype.db.notify import Listener
from tintype.generations import claims, events, leftovers, lineage
from tintype.generations import operations as generations
from tintype.media import files
from tintype.media.provenance import gate
from tintype.providers import registry as providers_registry
from tintype.providers.registry import Providers
from tintype.queue import jobs
from tintype.queue.consumer import Consumer
from tintype.queue.limited import Room
from tintype.safety import registry as detectors_registry
from tintype.worker import registry, requests
from tintype.worker.affinity import Affinity
from tintype.worker.checks import Checks
from tintype.worker.elsewhere import Elsewhere
from tintype.worker.held import Holdings
from tintype.worker.perform import Performer
from tintype.worker.slots import Slots

PULSE_S = 0.1
"""Progress is announced at most this often per generation."""

SWEEP_S = 2.0
DOOMED_S = 2.0
TIDY_S = 600.0
EVENTS_KEPT_FOR = timedelta(days=7)
"""How long the events of an ended generation can be replayed; its row and pictures stay."""

ANNOUNCE_S = 3.0

log = logs.get("worker")


async def run(*, url: str, home: Path, stopping: asyncio.Event | None = None) -> None:
    """Work until SIGTERM or SIGINT (or `stopping`), then let what is in hand finish, give back the rest and leave.

    A second signal gives back at once what is in hand as well.
    """
    worker = settings.load(settings.Worker)
    hurrying = asyncio.Event()
    stopping = stopping or _stop_on_signals(hurrying)
    providers = await asyncio.to_thread(providers_registry.load)
    database = db.connect(url, pool_size=settings.load(settings.Database).pool_size)
    worker_id = new_id()
    performer = Performer(
        worker_id=worker_id,
        database=database,
        store=storage.open(settings.load(settings.Storage), home),
        catalogue=Catalogue(home),
        providers=providers,
        elsewhere=Elsewhere(database=database, providers=providers),
        checks=Checks(database=database, detectors=await asyncio.to_thread(detectors_registry.load)),
        issuer=await asyncio.to_thread(gate.open, home, settings.load(settings.Provenance)),
        slots=Slots(
            {
                name: min(worker.concurrency, provider.capabilities().concurrency)
                for name, provider in providers.ready.items()
            }
        ),
        holdings=Holdings(),
        affinity=Affinity(database=database, worker_id=worker_id),
        worker=worker,
        draining=asyncio.Event(),
    )
    await Process(performer=performer, url=url, stopping=stopping, hurrying=hurrying).run()
    for provider in providers.ready.values():
        await provider.close()
    await db.close(database)


def _stop_on_signals(hurrying: asyncio.Event) -> asyncio.Event:
    """Set by the first signal; the second sets `hurrying`."""
    stopping = asyncio.Event()

    def hear() -> None:
        (hurrying if stopping.is_set() else stopping).set()

    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, hear)
    return stopping


def served(catalogue: Catalogue, providers: Providers) -> tuple[str, ...]:
    """The models this worker can run: their provider is ready and knows their family."""
    capabilities = {name: provider.capabilities() for name, provider in providers.ready.items()}
    return tuple(
        model.id
        for model in catalogue.models().values()
        if (can := capabilities.get(model.manifest.provider)) is not None
        and can.problem is None
        and (model.manifest.family in can.families or "*" in can.families)
    )


class Process:
    """The loops of one worker process."""

    def __init__(
        self, *, performer: Performer, url: str, stopping: asyncio.Event, hurrying: asyncio.Event | None = None
    ) -> None:
        self._performer = performer
        self._url = url
        self._stopping = stopping
        self._hurrying = hurrying or asyncio.Event()
        self._started_at = now()
        self._listener = Listener(url, (events.CANCEL_CHANNEL,))
        self._prepared: set[str] = set()

    async def run(self) -> None:
        """Run every loop; the first that breaks ends the process, because a worker without a heartbeat is a zombie."""
        await db.persistently(self._performer.database, self._announce)
        await self._listener.start()
        await self._prepare()
        log.info("worker ready", worker_id=str(self._performer.worker_id), models=self._served())
        consumer = Consumer(
            url=self._url,
            lanes=self._lanes,
            work=self._performer.perform,
            room=Room(limits=self._performer.slots.limits),
            dead_after_s=self._performer.worker.dead_after_s,
        )
        loops = [
            asyncio.create_task(coroutine, name=name)
            for name, coroutine in {
                "heartbeat": self._every(self._performer.worker.heartbeat_s, self._heartbeat),
                "pulse": self._every(PULSE_S, self._pulse),
                "sweep": self._every(SWEEP_S, self._sweep),
                "tidy": self._every(TIDY_S, self._tidy),
                "doomed": self._every(DOOMED_S, self._delete_doomed),
                "elsewhere": self._every(DOOMED_S, self._performer.elsewhere.end_doomed),
                "announce": self._every(ANNOUNCE_S, self._announce_again),
                "cancels": self._hear_cancels(),
            }.items()
        ]
        consuming = asyncio.create_task(consumer.run(self._stopping), name="consume")
        drain = asyncio.create_task(self._drain(), name="drain")
        try:
            done, _ = await asyncio.wait([*loops, consuming], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*loops, consuming, drain):
                task.cancel()
            await asyncio.gather(*loops, consuming, drain, return_exceptions=True)
            await self._listener.stop()
            await self._leave()
        log.info("worker stopped")

    async def _prepare(self) -> None:
        """Have at hand before it is asked for what costs nothing or comes first: where nothing needs loading, every
        model of a provider, else the default one.
        """
        served, models = self._served(), self._performer.catalogue.models()
        for model in [models[name] for name in served if name in models and name not in self._prepared]:
            provider = self._performer.providers.ready[model.manifest.provider]
            self._prepared.add(model.id)
            if model.id != catalog.DEFAULT_MODEL and provider.capabilities().loaded is not None:
                continue
            try:
                await provider.prepare(requests.files_of(model))
            except Exception:  # a plug-in may raise anything; it must not stop this worker
                log.exception("could not prepare", model=model.id)

    def _served(self) -> tuple[str, ...]:
        return served(self._performer.catalogue, self._performer.providers)

    def _lanes(self) -> dict[str, str]:
        """The lanes this worker serves, each with the provider whose slots its jobs take."""
        models = self._performer.catalogue.models()
        manifests = [models[name].manifest for name in self._served()]
        return {jobs.lane(task, one.id): one.provider for one in manifests for task in one.tasks}

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
            except Exception as error:
                if not db.is_disconnect(error):
                    raise
                log.warning("database away", error=str(error)[:200])
            await asyncio.sleep(seconds)

    async def _heartbeat(self) -> None:
        beats = self._performer.holdings.beats()
        if not beats:
            return
        async with db.single(self._performer.database) as session:
            states = await claims.heartbeat(session, beats)
        for beat in beats:
            held = self._performer.holdings.get(beat.id)
            if held is not None and held.claim.attempt == beat.attempt:
                self._apply(beat.id, states.get(beat.id))

    def _apply(self, generation_id: uuid.UUID, state: str | None) -> None:
        held = self._performer.holdings.get(generation_id)
        if held is None or state == "held":
            return
        held.stop("cancelled" if state == "cancelled" else "lost")

    async def _pulse(self) -> None:
        notes: list[events.ProgressNote] = []
        for held in self._performer.holdings:
            if (data := held.news()) is not None:
                claim = held.claim
                notes.append(events.ProgressNote(generation_id=claim.id, owner_id=claim.owner_id, data=data))
        if notes:
            async with db.single(self._performer.database) as session:
                await events.announce_progress(session, notes)

    async def _sweep(self) -> None:
        async with db.transaction(self._performer.database) as session:
            found = await claims.requeue_orphans(session, dead_after_s=self._performer.worker.dead_after_s)
        if found:
            log.warning("put orphans back in line", count=found)

    async def _tidy(self) -> None:
        async with db.transaction(self._performer.database) as session:
            await idempotency.forget_old(session)
            await generations.forget_old_events(session, older_than=EVENTS_KEPT_FOR)
            await lineage.forget_dead_ends(session)
            await jobs.forget_old_log(session)
            given_up = await leftovers.give_up(session)
        for work in given_up:
            log.error(
                "work elsewhere could not be ended for a day and is given up: look at your account there",
                provider=work.provider,
                work=work.token,
                generation_id=str(work.generation_id),
            )

    async def _delete_doomed(self) -> None:
        count = files.BATCH
        try:
            while count == files.BATCH:
                async with db.transaction(self._performer.database) as session:
                    count = await files.delete_doomed(session, self._performer.store)
        except storage.StorageUnavailableError as error:
            log.warning("files stay for now", reason=error.reason)

    async def _announce_again(self) -> None:
        await self._prepare()
        async with db.transaction(self._performer.database) as session:
            await self._announce(session)

    async def _announce(self, session: db.WriteSession) -> None:
        providers = self._performer.providers
        capabilities = {name: provider.capabilities() for name, provider in providers.ready.items()}
        problems = {name: can.problem for name, can in capabilities.items() if can.problem is not None}
        problems |= {f"{name} {part}": why for name, can in capabilities.items() for part, why in can.broken.items()}
        await registry.announce(
            session,
            worker_id=self._performer.worker_id,
            started_at=self._started_at,
            state="draining" if self._stopping.is_set() else "ready",
            models=self._served(),
            loaded=[model for can in capabilities.values() for model in can.loaded or ()],
            devices=[device for can in capabilities.values() for device in can.devices],
            broken_providers={**providers.broken, **problems},
        )

    async def _hear_cancels(self) -> None:
        async with self._listener.subscribe(events.CANCEL_CHANNEL) as heard:
            while True:
                payload = await heard.get()
                if payload is None:
                    continue  # whatever was missed, the next heartbeat tells
                if (held := self._performer.holdings.get(uuid.UUID(payload))) is not None:
                    held.stop("cancelled")

    async def _drain(self) -> None:
        """After a stop signal: what runs may finish for `drain_s`, or until the next, then it goes back in line."""
        await self._stopping.wait()
        self._performer.draining.set()
        log.info("draining", held=len(self._performer.holdings))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurrying.wait(), self._performer.worker.drain_s)
        for held in self._performer.holdings:
            held.stop("draining")

    async def _leave(self) -> None:
        try:
            async with db.transaction(self._performer.database) as session:
                await registry.leave(session, self._performer.worker_id)
        except Exception as error:
            if not db.is_disconnect(error):
                raise
            log.warning("could not sign off", error=str(error)[:200])
