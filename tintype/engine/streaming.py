"""Models larger than their device: weights stay in host memory and pass through the device group by group.

A group is a block of a list, such as one transformer block, or a layer outside of lists. It is on the device while it
computes; on CUDA the next block of its list arrives meanwhile. So two groups are there at a time, beside what is never
streamed: the autoencoder, and the few tensors that belong to no layer. Layers stay the objects they are and keep their
`forward`; LoRAs added later travel along.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import safetensors
import torch
from torch import Tensor, nn

from tintype.engine.loading import ModelBrokenError

HOST = "cpu"
STREAMED = ("transformer", "unet", "text_encoder")
"""How the names of components that are streamed begin; autoencoders are small, and some are read without being run."""

LARGEST_GROUP_BYTES = 512 << 20
"""A block larger than that is cut into its own blocks and layers."""


def groups(sizes: Mapping[str, int]) -> dict[str, int]:
    """The groups of a network, by the path of their module, in bytes; by the sizes of its tensors.

    What belongs to no layer, and so stays on the device, stands under the empty path.
    """
    gathered: dict[str, dict[str, int]] = {}
    for name, path in _paths(sizes).items():
        gathered.setdefault(path, {})[name.removeprefix(f"{path}.")] = sizes[name]
    found: Counter[str] = Counter()
    for path, inside in gathered.items():
        if path and sum(inside.values()) > LARGEST_GROUP_BYTES and any("." in name for name in inside):
            for inner, size in groups(inside).items():
                found[f"{path}.{inner}" if inner else ""] += size
        else:
            found[path] += sum(inside.values())
    return dict(found)


def block_bytes(parts: Mapping[str, Mapping[str, int]]) -> int:
    """Half of what a model takes on the device while it is streamed, by the sizes of its components' tensors."""
    largest, staying = 0, 0
    for name, sizes in parts.items():
        found = groups(sizes) if name.startswith(STREAMED) else {"": sum(sizes.values())}
        staying += found.pop("", 0)
        largest = max(largest, *found.values(), 0)
    return largest + math.ceil(staying / 2)


def sizes(folder: Path, *, bytes_per_number: int) -> dict[str, dict[str, int]]:
    """The sizes of all tensors of a model folder in diffusers layout, by component and name, read from headers only.

    Raises:
        ModelBrokenError: a file is damaged.
    """
    found: dict[str, dict[str, int]] = {}
    for path in sorted(folder.glob("*/*.safetensors")):
        of_part = found.setdefault(path.parent.name, {})
        of_part |= sizes_in(path, bytes_per_number=bytes_per_number)
    return found


def sizes_in(path: Path, *, bytes_per_number: int) -> dict[str, int]:
    """The sizes of all tensors of one file, by name.

    Raises:
        ModelBrokenError: it is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelBrokenError(f"{path} is damaged ({error}); `tintype doctor` checks its files") from error
    return {name: bytes_per_number * math.prod(shape) for name, shape in shapes.items()}


class Streamed:
    """A network whose groups pass through the device `device_name`; made with its weights in host memory.

    Moving the network moves what is not in groups. `end` makes it an ordinary one again.
    """

    def __init__(self, network: nn.Module, device_name: str) -> None:
        self.device = torch.device(device_name)
        self._network = network
        self._line = _Line(self.device)
        tensors = itertools.chain(
            network.named_parameters(remove_duplicate=False), network.named_buffers(remove_duplicate=False)
        )
        modules = dict(network.named_modules(remove_duplicate=False))
        paths = [path for path in groups({name: tensor.nbytes for name, tensor in tensors}) if path]
        self.groups = {path: Group(modules[path], self._line) for path in paths}
        for path, group in self.groups.items():
            group.following = self.groups.get(_next(path))
        _STREAMED[network] = self

    def end(self) -> None:
        """Leave the weights where they are, in host memory, and let them be moved."""
        for group in self.groups.values():
            group.release()
        del _STREAMED[self._network]


_STREAMED: "WeakKeyDictionary[nn.Module, Streamed]" = WeakKeyDictionary()


def begin(parts: Mapping[str, Any], device_name: str) -> list[Streamed]:
    """Stream the components that are large; their weights are in host memory now. The others can be moved as ever."""
    return [
        Streamed(part, device_name)
        for name, part in parts.items()
        if name.startswith(STREAMED) and isinstance(part, nn.Module)
    ]


def is_streamed(network: nn.Module) -> bool:
    """Whether a network's groups pass through its device now."""
    return network in _STREAMED


def device_of(network: nn.Module) -> torch.device:
    """Where a network computes."""
    streamed = _STREAMED.get(network)
    return next(network.parameters()).device if streamed is None else streamed.device


@dataclass(frozen=True)
class _Tensor:
    """A tensor of a module: `kept` is its weights in host memory, `there` the copy on the device."""

    module: nn.Module
    name: str
    kept: Tensor
    there: Tensor

    def put(self, tensor: Tensor) -> None:
        is_parameter = isinstance(self.kept, nn.Parameter)
        value = nn.Parameter(tensor, requires_grad=False) if is_parameter and tensor is not self.kept else tensor
        setattr(self.module, self.name, value)


class _Line:
    """What all groups of a network share: the device, and on CUDA the stream they arrive on.

    `last` is when the group that computed last will be done, `coming` the group that was sent for ahead.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.last: torch.cuda.Event | None = None
        self.coming: Group | None = None


class Group:
    """A module whose tensors are on the device while it runs, and in host memory else."""

    def __init__(self, module: nn.Module, line: _Line) -> None:
        self.module = module
        self.following: Group | None = None
        self._line = line
        self._arriving: list[_Tensor] = []
        self._here: list[_Tensor] = []
        self._hooks = [
            module.register_forward_pre_hook(self._enter),
            module.register_forward_hook(self._leave, always_call=True),
        ]
        setattr(module, "_apply", self._stay)  # noqa: B010  it is what moves a module along with the one it is in
        if line.stream is not None:
            pin(module)

    @property
    def bytes_there(self) -> int:
        """What it takes on the device now."""
        return sum(each.there.nbytes for each in (*self._arriving, *self._here))

    def release(self) -> None:
        """Be an ordinary module again."""
        for hook in self._hooks:
            hook.remove()
        delattr(self.module, "_apply")

    def _stay(self, *_: object, **__: object) -> nn.Module:
        return self.module

    def _enter(self, *_: object) -> None:
        line = self._line
        if line.coming is not None and line.coming is not self:
            line.coming._arriving = []
        line.coming = None
        if not self._arriving:
            self._send_for()
        self._here, self._arriving = self._arriving, []
        if line.stream is not None:
            computing = torch.cuda.current_stream(line.device)
            computing.wait_stream(line.stream)
            for each in self._here:
                each.there.record_stream(computing)
        for each in self._here:
            each.put(each.there)

    def _leave(self, *_: object) -> None:
        for each in self._here:
            each.put(each.kept)
        self._here = []
        if self._line.stream is not None:
            self._send_for_next(self._line)

    def _send_for_next(self, line: _Line) -> None:
        """Have the next group arrive while this one computes, once the one before has made room for it."""
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(line.device))
        if line.last is not None:
            line.last.synchronize()
        line.last = done
        if self.following is not None:
            self.following._send_for()
            line.coming = self.following

    def _send_for(self) -> None:
        """Copies only: what lies in host memory never changes on the way, so nothing has to come back."""
        line = self._line
        with torch.cuda.stream(line.stream) if line.stream is not None else nullcontext():
            self._arriving = [
                _Tensor(module, name, tensor, tensor.to(line.device, non_blocking=line.stream is not None, copy=True))
                for module, name, tensor in _tensors(self.module)
            ]


def _tensors(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """The tensors of a module and what is in it, as they are now, as far as they are in host memory."""
    for each in module.modules():
        own = itertools.chain(each.named_parameters(recurse=False), each.named_buffers(recurse=False))
        for name, tensor in list(own):
            if tensor.device.type == HOST:
                yield each, name, tensor


def pin(module: nn.Module) -> None:
    """Lock a module's tensors, which are in host memory, in place: a GPU fetches them several times as fast."""
    for _, _, tensor in _tensors(module):
        tensor.data = tensor.data.pin_memory()


def _paths(names: Mapping[str, int]) -> dict[str, str]:
    """The path of each tensor's group: up to its first number, else its layer; empty where its module is no layer."""
    owners = {name: name.rpartition(".")[0] for name in names}
    holders = {owner[:at] for owner in owners.values() for at, letter in enumerate(owner) if letter == "."}
    found: dict[str, str] = {}
    for name, owner in owners.items():
        steps = owner.split(".")
        number = next((at for at, step in enumerate(steps) if step.isdigit()), None)
        if number is not None:
            found[name] = ".".join(steps[: number + 1])
        else:
            found[name] = "" if owner in holders else owner
    return found


def _next(path: str) -> str:
    """The path of the next block in the same list."""
    before, _, last = path.rpartition(".")
    return f"{before}.{int(last) + 1}" if last.isdigit() else ""
