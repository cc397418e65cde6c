"""Networks whose repeated blocks are compiled, in a thread of their own: nobody's step waits for a compiler.

An evaluation runs as it is written until the blocks are compiled for exactly its form: number of lines, size, lengths
of words, and what is built into the network. What the compiler needs to see is kept of one such evaluation.
"""

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from tintype import logs, settings
from tintype.engine import streaming
from tintype.engine.devices import Device
from tintype.engine.family import Drawing, Line, Loaded
from tintype.providers.contract import GenerationRequest

DENOISERS = ("transformer", "unet")
MET_BEFORE = 3
"""Evaluations of one form before it is worth compiling."""

MOST_FORMS = 32
"""Forms compiled for one model; each keeps code and is looked through at every step."""

log = logs.get("engine")


def wrap(model: Loaded, device: Device, engine: settings.Engine) -> Loaded:
    """The model, compiled as it runs where the settings say so; with `auto`, on CUDA."""
    is_on = engine.compile == "on" or (engine.compile == "auto" and device.name.startswith("cuda"))
    networks = [part for name, part in model.parts.items() if name in DENOISERS and isinstance(part, nn.Module)]
    return CompiledModel(model, networks[0], device) if is_on and networks else model


@dataclass(frozen=True)
class _Seen:
    """A call of a block, as one evaluation made it."""

    block: "_Block"
    positional: tuple[Any, ...]
    named: Mapping[str, Any]


@dataclass
class _Work:
    """What is to be compiled for one form; given up once `is_abandoned`, between two blocks."""

    form: Hashable
    calls: list[_Seen] = field(default_factory=list[_Seen])
    is_abandoned: bool = False


class CompiledModel:
    """A loaded model whose denoiser is compiled form by form; else it does what the model does."""

    def __init__(self, model: Loaded, network: nn.Module, device: Device, *, backend: str = "inductor") -> None:
        self.parts = model.parts
        self.written = model
        self._network = network
        self._device = device
        self._switch = _Switch()
        self._blocks = [_Block(block, self._switch, backend) for block in repeated_blocks(network)]
        self._met: Counter[Hashable] = Counter()
        self._ready: set[Hashable] = set()
        self._work: _Work | None = None
        self._lock = threading.Lock()

    def predict(self, lines: Sequence[Line]) -> Tensor:
        """As the model does, compiled where its blocks are ready for these lines."""
        form = (_shape(lines), self.written.form(lines))
        if form in self._ready:
            with self._switch:
                return self.written.predict(lines)
        self._met[form] += 1
        if self._met[form] < MET_BEFORE or self._work is not None or not self._is_compilable():
            return self.written.predict(lines)
        return self._predict_watched(lines, form)

    def begin(self, request: GenerationRequest, seed: int) -> Drawing:
        """As the model does."""
        return self.written.begin(request, seed)

    def go_on(self, drawing: Drawing, request: GenerationRequest, phase: int) -> Drawing:
        """As the model does."""
        return self.written.go_on(drawing, request, phase)

    def guide(self, without_words: Tensor, with_words: Tensor, scale: float) -> Tensor:
        """As the model does."""
        return self.written.guide(without_words, with_words, scale)

    def finish(self, drawing: Drawing, request: GenerationRequest) -> NDArray[np.uint8]:
        """As the model does."""
        return self.written.finish(drawing, request)

    def encode(self, pixels: Tensor, generator: Generator) -> Tensor:
        """As the model does."""
        return self.written.encode(pixels, generator)

    def form(self, lines: Sequence[Line]) -> Hashable:
        """As the model does."""
        return self.written.form(lines)

    def move(self, device_name: str) -> None:
        """As the model does, once the block that is being compiled is done: compiled code holds addresses."""
        if (work := self._work) is not None:
            work.is_abandoned = True
        with self._lock:
            self.written.move(device_name)

    def _is_compilable(self) -> bool:
        return len(self._ready) < MOST_FORMS and not streaming.is_streamed(self._network)

    def _predict_watched(self, lines: Sequence[Line], form: Hashable) -> Tensor:
        """One more evaluation as it is written, of which the compiler gets what each block was called with."""
        work = _Work(form)
        hooks = [
            block.module.register_forward_pre_hook(_noting(work, block), with_kwargs=True) for block in self._blocks
        ]
        try:
            predicted = self.written.predict(lines)
        finally:
            for hook in hooks:
                hook.remove()
        self._work = work
        threads = torch.get_num_threads()
        # No daemon: a compiler that is killed at its work takes the process down with it.
        arguments = (work, threads, self._event())
        threading.Thread(target=self._compile, args=arguments, name="engine-compile").start()
        return predicted

    def _event(self) -> "torch.cuda.Event | None":
        if not self._device.name.startswith("cuda"):
            return None
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device.name))
        return event

    def _compile(self, work: _Work, threads: int, computed: "torch.cuda.Event | None") -> None:
        """Run every block compiled, once; a form that cannot be compiled stays as it is written."""
        torch.set_num_threads(threads)  # compiled code is for one number of threads, and each thread has its own
        try:
            with torch.inference_mode():
                self._run_blocks(work, computed)
            if not work.is_abandoned:
                self._ready.add(work.form)
                log.info("compiled", form=str(work.form), blocks=len(self._blocks))
        except Exception as error:  # noqa: BLE001  whatever the compiler meets, the network runs without it
            self._met[work.form] = -(1 << 30)
            log.warning("a network cannot be compiled and runs as it is", error=str(error).splitlines()[:1])
        finally:
            work.calls.clear()
            self._work = None

    def _run_blocks(self, work: _Work, computed: "torch.cuda.Event | None") -> None:
        stream = None if computed is None else torch.cuda.Stream(self._device.name)
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            if stream is not None and computed is not None:
                stream.wait_event(computed)
            for call in work.calls:
                with self._lock:
                    if work.is_abandoned or not threading.main_thread().is_alive():
                        return
                    call.block.compiled(*call.positional, **call.named)
                    if stream is not None:
                        stream.synchronize()


class _Switch:
    """Whether blocks run compiled; turned by the engine's thread alone."""

    def __init__(self) -> None:
        self.is_on = False

    def __enter__(self) -> None:
        self.is_on = True

    def __exit__(self, *_: object) -> None:
        self.is_on = False


class _Block:
    """A module that runs compiled while the switch is on."""

    def __init__(self, module: nn.Module, switch: _Switch, backend: str) -> None:
        self.module = module
        written: Callable[..., Any] = module.forward
        # One limit for all blocks of a class: they share their code, and with it what it was compiled for.
        self.compiled: Callable[..., Any] = cast("Any", torch.compile)(
            written, dynamic=False, backend=backend, recompile_limit=MOST_FORMS * MOST_FORMS
        )

        def forward(*positional: Any, **named: Any) -> Any:
            return (self.compiled if switch.is_on else written)(*positional, **named)

        module.forward = forward


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The modules of the classes that the network names as its repeated ones; the network itself where it names none.

    Compiling one block serves all that are alike, so it takes seconds where a whole network takes minutes.
    """
    names: Sequence[str] = getattr(network, "_repeated_blocks", None) or ()
    return [module for module in network.modules() if type(module).__name__ in names] or [network]


def _noting(work: _Work, block: _Block) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    def note(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        like = next((call for call in work.calls if _is_like(call, block, positional, named)), None)
        seen = (positional, named) if like is None else (like.positional, like.named)
        work.calls.append(_Seen(block, *seen))

    return note


def _is_like(call: _Seen, block: _Block, positional: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """Whether a block of the same class was called with things of the same kind: then one of the two is kept."""
    is_same_class = type(call.block.module) is type(block.module)
    return is_same_class and _kind((call.positional, dict(call.named))) == _kind((positional, dict(named)))


def _kind(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(_kind(each) for each in cast("Sequence[Any]", value))
    if isinstance(value, Mapping):
        return tuple((name, _kind(each)) for name, each in cast("Mapping[str, Any]", value).items())
    return value if isinstance(value, str | int | float | bool | None) else id(value)


def _shape(lines: Sequence[Line]) -> Hashable:
    """What of the lines decides the shapes inside the network."""
    first = lines[0]
    words = tuple((name, tuple(tensor.shape)) for name, tensor in sorted(first.words.items()))
    beside = tuple(tuple(seen.shape) for seen in first.beside)
    return len(lines), tuple(first.sample.shape), words, beside, any(line.steering for line in lines)
