"""What is asked for in `benchmarks.engine`, and how it is timed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from tintype.providers.contract import GenerationRequest, Lora, ModelFiles

SHORT_STEPS = 8
"""Up to so many steps a request counts as short."""


class Contestant(Protocol):
    """Somebody who draws; asked by any number of threads at once."""

    name: str

    def draw(self, request: GenerationRequest) -> np.ndarray:
        """The request's picture, uint8 [height, width, 3]; waits for it."""
        ...

    def learn(self, asked: Sequence[Asked], *, clients: int) -> None:
        """Do beforehand whatever is done only once: load, compile, measure."""
        ...

    def cpu_s(self) -> float:
        """The processor seconds that its process has used; 0 where that is not known."""
        ...


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, and when it comes: seconds after the start (0 in a closed loop)."""

    request: GenerationRequest
    at_s: float = 0.0

    @property
    def is_short(self) -> bool:
        """Whether few steps were asked for."""
        return self.request.steps <= SHORT_STEPS


@dataclass(kw_only=True)
class Timed:
    """One run of a trace: the seconds each request took, in the order of the trace, and the whole run.

    `cpu_s` is what the processors did for it, which busy neighbours change less.
    """

    latencies_s: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def per_s(self) -> float:
        """Pictures a second."""
        return len(self.latencies_s) / self.wall_s


def model(folder: Path, *, family: str = "stable_diffusion") -> ModelFiles:
    """A model of the benchmark as the engine is told of it."""
    return ModelFiles(id=f"{folder.parent.name}/{folder.name}", family=family, folder=str(folder))


def request(
    files: ModelFiles, index: int, *, side: int, steps: int, loras: tuple[Lora, ...] = (), height: int | None = None
) -> GenerationRequest:
    """A request with a prompt and a seed of its own; whose it is differs from one to the next."""
    return GenerationRequest(
        id=str(index),
        task="text_to_image",
        model=files,
        prompt=f"picture number {index} of a lighthouse at night",
        negative_prompt="blurry",
        width=side,
        height=height or side,
        seeds=(index,),
        steps=steps,
        guidance_scale=5.0,
        sampler="euler",
        loras=loras,
        on_behalf_of=f"person {index % 5}",
    )


def uniform(files: ModelFiles, *, count: int, side: int, steps: int) -> list[Asked]:
    """Requests that are alike but for prompt and seed."""
    return [Asked(request=request(files, index, side=side, steps=steps)) for index in range(count)]


def adapted(files: ModelFiles, loras: Sequence[ModelFiles], *, count: int, side: int, steps: int) -> list[Asked]:
    """Requests each with the next LoRA, round and round."""
    return [
        Asked(
            request=request(
                files, index, side=side, steps=steps, loras=(Lora(model=loras[index % len(loras)], weight=0.8),)
            )
        )
        for index in range(count)
    ]


def mixed(models: Sequence[ModelFiles], loras: Sequence[ModelFiles], *, count: int, seed: int) -> list[Asked]:
    """Two models, four sizes, 4 to 50 steps, a LoRA for every second request."""
    rng = random.Random(seed)
    asked: list[Asked] = []
    for index in range(count):
        side, steps = rng.choice((64, 80, 96, 128)), rng.choice((4, 4, 6, 8, 20, 30, 50))
        worn = (Lora(model=rng.choice(list(loras)), weight=0.7),) if rng.random() < 0.5 else ()
        asked.append(Asked(request=request(rng.choice(list(models)), index, side=side, steps=steps, loras=worn)))
    return asked


def as_poisson(asked: Sequence[Asked], *, per_s: float, seed: int) -> list[Asked]:
    """The same requests, coming by chance at a mean rate: whoever is slow has a line."""
    rng, at_s, timed = random.Random(seed), 0.0, []
    for one in asked:
        at_s += rng.expovariate(per_s)
        timed.append(Asked(request=one.request, at_s=at_s))
    return timed


def run(contestant: Contestant, asked: Sequence[Asked], *, clients: int) -> Timed:
    """The trace, by so many clients; each asks for the next when it has its picture, in an open loop at its moment."""
    result = Timed(latencies_s=[0.0] * len(asked))
    following, lock, faults = iter(range(len(asked))), threading.Lock(), list[BaseException]()
    used_s, began = contestant.cpu_s(), time.perf_counter()

    def work() -> None:
        while not faults:
            with lock:
                index = next(following, None)
            if index is None:
                return
            due = began + asked[index].at_s
            time.sleep(max(0.0, due - time.perf_counter()))
            start = due if asked[index].at_s else time.perf_counter()  # in an open loop waiting for a thread counts
            try:
                contestant.draw(asked[index].request)
            except BaseException as error:
                faults.append(error)
                raise
            result.latencies_s[index] = time.perf_counter() - start

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    result.wall_s, result.cpu_s = time.perf_counter() - began, contestant.cpu_s() - used_s
    return result
