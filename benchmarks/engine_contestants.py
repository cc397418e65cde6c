"""Who draws in `benchmarks.engine` within its process: this engine, the same one at a time, and plain diffusers."""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from benchmarks import engine_models, engine_traces
from benchmarks.engine_traces import Asked
from tintype import settings
from tintype.engine.job import Ended, Given, Job
from tintype.engine.runner import Runner
from tintype.providers.contract import GenerationRequest, Output

LEARNING_STEPS = 16
"""Evaluations enough for the cost table to try every batch size as often as it wants to."""


class Ours:
    """The engine, as the worker's provider uses it."""

    name = "tintype"

    def __init__(self, home: Path, *, threads: int = 0) -> None:
        self.runner = Runner(settings.Engine(device="auto", threads=threads), home)
        threading.Thread(target=self.runner.serve, daemon=True).start()

    def draw(self, request: GenerationRequest) -> np.ndarray:
        """Through the engine's inbox."""
        arrived: queue.SimpleQueue[Given] = queue.SimpleQueue()
        self.runner.submit(Job(request=request, give=arrived.put))
        pixels: np.ndarray | None = None
        while not isinstance(item := arrived.get(), Ended):
            if isinstance(item, Output):
                pixels = item.pixels
        if item.error is not None:
            raise item.error
        assert pixels is not None
        return pixels

    def learn(self, asked: Sequence[Asked], *, clients: int) -> None:
        """Meet each model and size with as many pictures at once as will come, until no batch size is new to it."""
        kinds = {(one.request.model.id, one.request.width, one.request.height): one for one in asked}
        for one in kinds.values():
            crowd = [replace(one, request=replace(one.request, steps=LEARNING_STEPS), at_s=0.0)] * clients
            engine_traces.run(self, crowd, clients=clients)
        engine_traces.run(self, [replace(one, at_s=0.0) for one in asked[:clients]], clients=clients)

    def cpu_s(self) -> float:
        """Of this process."""
        return time.process_time()


class OneAtATime:
    """The same engine, first come first served: what is left when nothing is batched or put before anything."""

    name = "one at a time"

    def __init__(self, ours: Ours) -> None:
        self._ours = ours
        self._line = FirstComeFirstServed()

    def draw(self, request: GenerationRequest) -> np.ndarray:
        """When all that came before are done."""
        return self._line.run(lambda: self._ours.draw(request))

    def learn(self, asked: Sequence[Asked], *, clients: int) -> None:
        """What the engine learns."""
        self._ours.learn(asked, clients=clients)

    def cpu_s(self) -> float:
        """Of this process."""
        return time.process_time()


class Diffusers:
    """Pipelines of diffusers, one for each model, kept loaded; requests are served in the order they come.

    Of LoRAs it has loaded what the request at hand names, or with `keeps_loras` all that were ever named.
    """

    name = "diffusers"

    def __init__(self, device: str, dtype: torch.dtype, *, threads: int = 0, keeps_loras: bool = False) -> None:
        self.device, self.dtype = device, dtype
        self._pipelines: dict[str, Any] = {}
        self._worn: dict[str, list[str]] = {}
        self._line = FirstComeFirstServed()
        self._threads, self._keeps_loras = threads, keeps_loras

    def draw(self, request: GenerationRequest) -> np.ndarray:
        """When all that came before are done."""
        return self._line.run(lambda: self._draw(request))

    def learn(self, asked: Sequence[Asked], *, clients: int) -> None:
        """Draw with each model in each size once."""
        kinds = {(one.request.model.id, one.request.width, one.request.height): one.request for one in asked}
        for request in kinds.values():
            self.draw(request)

    def cpu_s(self) -> float:
        """Of this process."""
        return time.process_time()

    @torch.inference_mode()
    def _draw(self, request: GenerationRequest) -> np.ndarray:
        pipeline = self._pipeline(request)
        if self.device == "cpu":
            torch.set_num_threads(self._threads or self._choose_threads(pipeline, request))
        self._wear(pipeline, request)
        return self._run(pipeline, request, request.steps)

    def _run(self, pipeline: Any, request: GenerationRequest, steps: int) -> np.ndarray:
        made = pipeline(
            request.prompt,
            negative_prompt=request.negative_prompt,
            width=request.width,
            height=request.height,
            num_inference_steps=steps,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(request.seeds[0]),
            output_type="np",
        ).images[0]
        return (made * 255).round().astype(np.uint8)

    def _pipeline(self, request: GenerationRequest) -> Any:
        folder = request.model.folder
        if folder not in self._pipelines:
            left_out = {"safety_checker": None, "feature_extractor": None}
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                folder, dtype=self.dtype, **(left_out if request.model.family == "stable_diffusion" else {})
            ).to(self.device)
            pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
            pipeline.set_progress_bar_config(disable=True)
            pipeline.fuse_qkv_projections()
            if self.device != "cpu":
                pipeline.unet.to(memory_format=torch.channels_last)
            self._pipelines[folder] = pipeline
        return self._pipelines[folder]

    def _wear(self, pipeline: Any, request: GenerationRequest) -> None:
        """Change LoRAs, as a server that draws one request after the other has to."""
        loaded = self._worn.setdefault(request.model.folder, [])
        wanted = {lora.model.id.replace("/", "-"): lora for lora in request.loras}
        if loaded and not self._keeps_loras and loaded != list(wanted):
            pipeline.unload_lora_weights()
            loaded.clear()
        if wanted and not loaded:
            pipeline.unfuse_qkv_projections()
        for name, lora in wanted.items():
            if name not in loaded:
                pipeline.load_lora_weights(lora.model.folder, weight_name=engine_models.LORA_FILE, adapter_name=name)
                loaded.append(name)
        if wanted:
            pipeline.enable_lora()
            pipeline.set_adapters(list(wanted), [lora.weight for lora in wanted.values()])
        elif loaded:
            pipeline.disable_lora()

    def _choose_threads(self, pipeline: Any, request: GenerationRequest) -> int:
        """As many as are fastest here: its best settings."""
        times: dict[int, float] = {}
        for threads in (1, 2):
            torch.set_num_threads(threads)
            self._run(pipeline, request, 2)
            taken: list[float] = []
            for _ in range(3):
                began = time.perf_counter()
                self._run(pipeline, request, 2)
                taken.append(time.perf_counter() - began)
            times[threads] = statistics.median(taken)
        self._threads = min(times, key=times.__getitem__)
        return self._threads


class FirstComeFirstServed:
    """A line: whoever comes waits until all before are done. A lock alone would not keep the order."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def run(self, work: Callable[[], np.ndarray]) -> np.ndarray:
        """What the work gives, when its turn has come."""
        done: queue.SimpleQueue[np.ndarray | BaseException] = queue.SimpleQueue()

        def act() -> None:
            try:
                done.put(work())
            except BaseException as error:  # noqa: BLE001  it is raised again where it is waited for
                done.put(error)

        self._waiting.put(act)
        result = done.get()
        if isinstance(result, BaseException):
            raise result
        return result

    def _serve(self) -> None:
        torch.set_grad_enabled(mode=False)
        while True:
            self._waiting.get()()
