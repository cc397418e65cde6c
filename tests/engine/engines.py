"""An engine in a thread of its own, asked as a provider asks it."""

import queue
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tintype import settings
from tintype.engine.job import Ended, Given, Job
from tintype.engine.runner import Runner
from tintype.providers.contract import GenerationRequest, ModelFiles, Output, Progress

BUILTIN = Path(__file__).parents[2] / "tintype" / "catalog" / "builtin" / "sketch"
SKETCH = ModelFiles(id="sketch", family="sketch", folder=str(BUILTIN))
LONGEST_S = 120


def request(**changes: object) -> GenerationRequest:
    values: dict[str, object] = {
        "id": "one",
        "task": "text_to_image",
        "model": SKETCH,
        "prompt": "a red circle on a blue background",
        "negative_prompt": "",
        "width": 64,
        "height": 64,
        "seeds": (7,),
        "steps": 4,
        "guidance_scale": 3.0,
        "sampler": "euler",
    }
    return GenerationRequest(**{**values, **changes})


@dataclass
class Asked:
    """A request in the engine; `seen` is what has come of it so far."""

    job: Job
    arrived: "queue.Queue[Given]"
    seen: list[Given] = field(default_factory=list)

    def next(self) -> Given:
        self.seen.append(self.arrived.get(timeout=LONGEST_S))
        return self.seen[-1]

    def until_step(self, step: int) -> None:
        while not (isinstance(item := self.next(), Progress) and item.step >= step):
            assert not isinstance(item, Ended), item

    def end(self) -> Ended:
        while not isinstance(item := self.next(), Ended):
            pass
        return item

    def outputs(self) -> list[Output]:
        if (ended := self.end()).error is not None:
            raise ended.error
        return sorted((item for item in self.seen if isinstance(item, Output)), key=lambda item: item.index)


@dataclass
class Engine:
    runner: Runner

    def ask(self, wanted: GenerationRequest) -> Asked:
        arrived: queue.Queue[Given] = queue.Queue()
        job = Job(request=wanted, give=arrived.put)
        self.runner.submit(job)
        return Asked(job, arrived)

    def draw(self, wanted: GenerationRequest) -> list[Output]:
        return self.ask(wanted).outputs()


@contextmanager
def running(home: Path, **changes: object) -> Generator[Engine]:
    runner = Runner(settings.Engine(**{"device": "cpu", "threads": 1, **changes}), home)
    thread = threading.Thread(target=runner.serve, daemon=True)
    thread.start()
    yield Engine(runner)
    runner.close()
    thread.join(timeout=LONGEST_S)
    assert not thread.is_alive()
