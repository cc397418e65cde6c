"""The engine's thread: takes requests in, computes what the schedule says, gives pictures out.

Other threads only put notes into its inbox. The last stage of a picture, the autoencoder, runs in a thread of its own,
so that the next step of the others need not wait for it.
"""

import itertools
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tintype import logs, settings
from tintype.engine import attention, costs_file, devices, faults, residents, second_pass, ticks
from tintype.engine.family import Drawing, Loaded
from tintype.engine.finishing import Done, Finisher
from tintype.engine.job import Job, Picture
from tintype.engine.pace import Pace
from tintype.engine.previews import Previews
from tintype.engine.residents import Residents
from tintype.engine.scheduling.costs import CostTable
from tintype.engine.scheduling.residency import Swap
from tintype.engine.scheduling.schedule import Schedule
from tintype.engine.scheduling.values import Failure, Policy, Tick, Ticket
from tintype.providers.contract import GenerationRequest, ModelFiles, Progress, ProviderError

KEPT_EVERY_S = 30.0
"""How often measured costs are written down."""

log = logs.get("engine")


class StoppedError(ProviderError):
    """The engine has come to an end."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the engine stopped ({reason}); restart this worker", code="engine_stopped", retryable=True)


class Runner:
    """Everything in work on one device. `submit`, `withdraw`, `prepare` and `close` may be called from any thread."""

    def __init__(self, engine: settings.Engine, home: Path) -> None:
        self.device = devices.choose(engine.device)
        self.breakdown: str | None = None
        policy = Policy(is_padding=not self.device.is_host)
        self._costs_path = costs_file.path(home, self.device.label)
        self._way = attention.choose(self.device, engine.attention, costs_file.read_way(self._costs_path))
        attention.use(self._way)
        named = self._way.label(self.device)
        self.device = replace(self.device, label=named, joins_projections=self._way.is_joined)
        self._costs = costs_file.read(self._costs_path, CostTable(sizes=policy.sizes, is_padding=policy.is_padding))
        self._schedule = Schedule(
            residency=residents.measure(self.device, engine.memory_bytes), costs=self._costs, policy=policy
        )
        self._residents = Residents(self.device, self._schedule.residency, engine)
        self._pace = Pace(self.device)
        self._finisher = Finisher(self.device)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._previews = Previews(self._finisher, self._schedule.residency, self._inbox.put)
        self._pictures: dict[int, Picture] = {}
        self._numbers = itertools.count(1)
        self._threads = engine.threads
        self._has_chosen_threads = not self.device.is_host
        self._kept_at_s = time.monotonic()
        self._loaded: tuple[str, ...] = ()
        self._notes = self._describe()
        self._is_idle = True
        self._is_closing = False

    @property
    def loaded(self) -> tuple[str, ...]:
        """The models that are on the device."""
        return self._loaded

    @property
    def notes(self) -> tuple[str, ...]:
        """What was measured, for people to read; as of the last pause in the work."""
        return self._notes

    def submit(self, job: Job) -> None:
        """Take a request in; what comes of it is given to the job."""
        self._inbox.put(lambda: self._admit(job))

    def withdraw(self, job: Job) -> None:
        """Drop a request; it ends at the next tick."""
        self._inbox.put(lambda: self._end(job))

    def prepare(self, files: ModelFiles) -> None:
        """Have a model loaded before it is asked for, where it fits beside what is loaded."""
        self._inbox.put(lambda: self._prepare(files))

    def close(self) -> None:
        """End the thread's loop after the tick that runs."""
        self._inbox.put(self._stop)

    def serve(self) -> None:
        """Work until `close`. Whatever breaks this loop is told to every request that waits."""
        torch.set_grad_enabled(mode=False)
        try:
            while not self._is_closing:
                self._read_inbox()
                self._step()
        except BaseException as error:
            self.breakdown = StoppedError(f"{type(error).__name__}: {error}").detail
            raise
        finally:
            self._is_closing = True
            self._finisher.close()
            for job in {picture.job for picture in self._pictures.values()}:
                job.end(StoppedError(self.breakdown or "it was closed"))

    def _stop(self) -> None:
        self._is_closing = True

    def _read_inbox(self) -> None:
        """Do what others noted; wait for a note when there is nothing to compute."""
        while self._is_idle or not self._inbox.empty():
            self._inbox.get()()
            self._is_idle = False

    def _step(self) -> None:
        tick = self._schedule.next()
        if tick is None:
            self._is_idle = True
            self._keep_costs()
            return
        try:
            with faults.named(self.device.label):
                if not self._bring(tick):
                    return
                # Code that was compiled meanwhile would give other bits, so a promise of bits is kept without it.
                is_promised = self._pictures[tick.tickets[0]].ticket.mode != "fast"
                model = self._residents.get(tick.model, is_written=is_promised)
                pictures = self._begun(model, tick)
                if pictures is None:
                    self._schedule.abandon(tick)
                    return
                self._compute(model, tick, pictures)
        except faults.OutOfMemoryError:
            self._residents.relieve()
            self._fail(self._schedule.batch_failed(tick))
        except faults.DeviceBrokenError as error:
            self._schedule.abandon(tick)
            self._break(error)

    def _bring(self, tick: Tick) -> bool:
        """Whether the tick's model is on the device now."""
        if tick.swap is None:
            return True
        began = time.perf_counter()
        try:
            with faults.named(self.device.label):
                self._residents.perform(tick.swap)
        except faults.OutOfMemoryError:
            self._residents.forget(tick.model)
            self._residents.relieve()
            self._fail(self._schedule.load_failed(tick))
            return False
        except faults.DeviceBrokenError:
            raise
        except Exception as error:  # noqa: BLE001  it ends these requests and is raised where they wait
            self._schedule.load_broke(tick)
            self._residents.forget(tick.model)
            self._fail_with(error, [p for p in self._pictures.values() if p.needs(tick.model)])
            return False
        self._swapped(tick.swap, time.perf_counter() - began)
        return True

    def _swapped(self, swap: Swap, seconds: float) -> None:
        self._schedule.swapped(swap, seconds)
        self._loaded = self._schedule.residency.on_device()

    def _begun(self, model: Loaded, tick: Tick) -> list[Picture] | None:
        """The tick's pictures, ready for an evaluation; None when one of them cannot begin and is out."""
        pictures = [self._pictures[ticket_id] for ticket_id in tick.tickets]
        for picture in pictures:
            try:
                with torch.inference_mode(), faults.named(self.device.label):
                    picture.make_ready(model)
            except (faults.OutOfMemoryError, faults.DeviceBrokenError):
                raise
            except Exception as error:  # noqa: BLE001  it ends this request and is raised where that is awaited
                self._fail_with(error, [picture])
                return None
        return pictures

    def _compute(self, model: Loaded, tick: Tick, pictures: Sequence[Picture]) -> None:
        drawings = [picture.ready for picture in pictures]
        self._choose_threads(model, drawings)
        is_known = self._costs.is_known(tick.model, tick.shape, tick.padded_lines)
        watched = self._previews.choose(pictures)
        try:
            with faults.named(self.device.label), self._pace.measuring(is_exact=not is_known) as took:
                foreseen = ticks.run(model, drawings, padded_lines=tick.padded_lines, watched=watched)
        except (faults.OutOfMemoryError, faults.DeviceBrokenError):
            raise
        except Exception as error:  # noqa: BLE001  it ends the requests that cause it and is raised where they wait
            self._schedule.abandon(tick)
            self._fail_with(error, self._culprits(model, pictures))
            return
        seconds = took.seconds or self._costs.seconds(tick.model, tick.shape, tick.padded_lines)
        advance = self._schedule.ran(tick, seconds)
        self._residents.note_beside(tick.model)
        for picture in pictures:
            picture.job.advance()
        self._previews.show(tick.model, model, list(zip([pictures[place] for place in watched], foreseen, strict=True)))
        for ticket_id in advance.turned:
            self._pictures[ticket_id].turn()
        for ticket_id in advance.finished:
            self._finish(self._pictures[ticket_id], tick.model)

    def _culprits(self, model: Loaded, pictures: Sequence[Picture]) -> Sequence[Picture]:
        """The pictures that break an evaluation when they are alone; all of them where none does."""
        found: list[Picture] = []
        for picture in pictures if len(pictures) > 1 else ():
            try:
                with torch.inference_mode(), faults.named(self.device.label):
                    model.predict(ticks.lines([picture.ready]))
            except (faults.OutOfMemoryError, faults.DeviceBrokenError):
                raise
            except Exception:  # noqa: BLE001  the batch's error says what it was
                found.append(picture)
        return found or pictures

    def _admit(self, job: Job) -> None:
        request = job.request
        try:
            for files in _models_of(request):
                if not self._is_in_work(files.id) and self._residents.has_changed(files):
                    self._residents.renew(files)
                self._residents.outline(files)
            phases = self._residents.outline(request.model).phases(request)
            party, group = request.on_behalf_of or request.id, str(next(self._numbers))
            for index in range(len(request.seeds)):
                ticket = Ticket(
                    id=next(self._numbers), request=group, on_behalf_of=party, mode=request.seed_mode, phases=phases
                )
                self._schedule.admit(ticket)
                self._pictures[ticket.id] = Picture(job=job, index=index, ticket=ticket)
        except Exception as error:  # noqa: BLE001  it ends this request and is raised where that is awaited
            self._end(job, error)
            return
        job.evaluations = len(request.seeds) * sum(phase.evaluations for phase in phases)
        job.unfinished = set(range(len(request.seeds)))
        job.give(Progress(step=0, steps=job.evaluations))

    def _is_in_work(self, model_id: str) -> bool:
        return any(phase.model == model_id for each in self._pictures.values() for phase in each.ticket.phases)

    def _finish(self, picture: Picture, model_id: str) -> None:
        """Hand a picture to the finishing thread; its model stays where it is until that is done."""
        self._schedule.residency.pin(model_id)
        model = self._residents.get(model_id)
        later = self._finisher.begin(model, picture.ready, picture.job.request)
        later.add_done_callback(lambda done: self._inbox.put(lambda: self._finished(picture, model_id, done)))

    def _finished(self, picture: Picture, model_id: str, done: Done) -> None:
        self._schedule.residency.unpin(model_id)
        self._residents.note_beside(model_id)  # decoding can have brought another autoencoder
        error = done.exception()
        if picture.job.has_ended:
            self._pictures.pop(picture.ticket.id, None)
        elif isinstance(error, faults.OutOfMemoryError) and not picture.is_last_try:
            picture.is_last_try = True
            self._finish_alone(picture, model_id)
        elif error is not None:
            self._break(error) if isinstance(error, faults.DeviceBrokenError) else self._fail_with(error, [picture])
        else:
            self._pictures.pop(picture.ticket.id, None)
            picture.job.give(picture.output(done.result()))
            picture.job.unfinished.discard(picture.index)
            if not picture.job.unfinished:
                picture.job.end()

    def _finish_alone(self, picture: Picture, model_id: str) -> None:
        """The last stage once more, with everything else put aside."""
        answer = self._schedule.decode_failed(picture.ticket.id, model_id)
        try:
            with faults.named(self.device.label):
                if isinstance(answer, Swap):
                    self._residents.perform(answer)
                    self._swapped(answer, 0.0)
                self._residents.relieve()
                self._finish(picture, model_id)
        except faults.DeviceBrokenError as error:
            self._break(error)
        except Exception as error:  # noqa: BLE001  it ends this request and is raised where that is awaited
            self._fail_with(error, [picture])

    def _prepare(self, files: ModelFiles) -> None:
        try:
            self._residents.outline(files)
            swap = self._schedule.residency.plan(files.id, activation_bytes=0)
            if swap is not None and not swap.evict:
                began = time.perf_counter()
                with faults.named(self.device.label):
                    self._residents.perform(swap)
                self._swapped(swap, time.perf_counter() - began)
        except faults.DeviceBrokenError as error:
            self._residents.forget(files.id)
            self._break(error)
        except Exception as error:  # noqa: BLE001  nobody waits for it; who asks for the model is told
            self._residents.forget(files.id)
            log.error("model cannot be prepared", model=files.id, error=f"{type(error).__name__}: {error}")

    def _choose_threads(self, model: Loaded, drawings: Sequence[Drawing]) -> None:
        """Once for the process: another number of threads may give other bits."""
        if not self._has_chosen_threads and (trial := ticks.lines(drawings[:1])):
            self._has_chosen_threads = True
            with torch.inference_mode():
                devices.choose_threads(self._threads, lambda: model.predict(trial))

    def _fail(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            error = ProviderError(failure.detail, code=failure.code, retryable=failure.retryable)
            if (picture := self._pictures.get(failure.ticket)) is not None:
                self._fail_with(error, [picture])

    def _fail_with(self, error: BaseException, pictures: Sequence[Picture]) -> None:
        for job in {picture.job for picture in pictures}:
            self._end(job, error)

    def _break(self, error: ProviderError) -> None:
        """The device is out of use: nothing computed on it from now on can be trusted."""
        self.breakdown = error.detail
        log.error("the device is out of use", error=error.detail)
        self._fail_with(error, list(self._pictures.values()))

    def _end(self, job: Job, error: BaseException | None = None) -> None:
        for ticket_id in [number for number, picture in self._pictures.items() if picture.job is job]:
            self._schedule.drop(ticket_id)
            del self._pictures[ticket_id]
        job.end(error)

    def _keep_costs(self) -> None:
        if time.monotonic() - self._kept_at_s > KEPT_EVERY_S:
            self._kept_at_s = time.monotonic()
            costs_file.write(self._costs_path, self._costs, self._way)
            self._notes = self._describe()

    def _describe(self) -> tuple[str, ...]:
        return (self._way.describe(), *costs_file.describe(self._costs))


def _models_of(request: GenerationRequest) -> list[ModelFiles]:
    """Every model that runs steps of its own for this request."""
    refining = [request.refiner.model] if request.refiner else []
    enlarging = [request.companions[role] for role in (second_pass.UPSCALER,) if role in request.companions]
    return [request.model, *refining, *enlarging]
