"""The LoRAs of one loaded model: which are in memory, where, and which of them the lines of a batch use."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tintype.engine import streaming
from tintype.engine.family import Adapter, Line
from tintype.engine.loras import formats, layers
from tintype.engine.loras.formats import NETWORK, Lora, Pair, Part
from tintype.providers.contract import ProviderError

SLOTS = 8
RANK = 32


class LorasCrowdedError(ProviderError):
    """More LoRAs were asked for at once than the model's bank holds."""

    def __init__(self, asked: int, slots: int) -> None:
        super().__init__(
            f"{asked} LoRAs were asked for in one batch and {slots} can be held; ask `can_hold` before lines are put "
            "together, or give the bank more slots",
            code="loras_crowded",
            retryable=True,
        )


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A LoRA that was added: where its file lies, which state of it was read, what it means to the text encoders."""

    path: Path
    stamp: tuple[int, int]
    words_digest: str


class Bank:
    """The LoRAs of a network and its text encoders, as many as `slots` in memory at a time.

    A LoRA of a rank above `rank` takes as many pages of that rank as it needs. Layers are changed once a LoRA for them
    comes and stay so. `version` changes when memory moved or layers changed: what was compiled or recorded before,
    with the depth that `use` gave, has to be made anew.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        text_encoders: Mapping[str, nn.Module] | None = None,
        slots: int = SLOTS,
        rank: int = RANK,
    ) -> None:
        self._parts = {name: Part(part) for name, part in {NETWORK: network, **(text_encoders or {})}.items()}
        self._layers: dict[str, dict[str, layers.Layer]] = {name: {} for name in self._parts}
        self._drawing, self._reading = layers.Mixture(), layers.Mixture()
        self._slots, self._rank = slots, rank
        self._pages = 1 + slots
        self._free = list(range(self._pages - 1, layers.NO_PAGE, -1))
        self._known: dict[str, _Known] = {}
        self._held: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._changes = 0

    @property
    def version(self) -> int:
        return self._changes + self._drawing.moves

    @property
    def held_bytes(self) -> int:
        """What the LoRAs' pages take, filled or not."""
        stacks = [
            stack for part in self._layers.values() for layer in part.values() for stack in (layer.down, layer.up)
        ]
        return sum(stack.nbytes for stack in stacks)

    def add(self, name: str, path: Path) -> None:
        """Take the LoRA in the checked file `path` in as `name`; nothing is read twice unless the file changed.

        Raises:
            LoraMisfitError: it was made for another model.
            LoraUnsupportedError: it is no plain LoRA, or cannot be read.
        """
        known = self._known.get(name)
        if known is None or (known.path, known.stamp) != (path, _stamp(path)):
            self._take_in(name, path)

    def can_hold(self, names: Collection[str]) -> bool:
        """Whether these can be at work in one batch."""
        return len(set(names)) <= self._slots

    def divide(self, lines: Sequence[Line]) -> list[list[Line]]:
        """The lines in order, cut wherever one more would bring more LoRAs than can be held; mostly all in one."""
        divided: list[list[Line]] = [[]]
        for line in lines:
            names = {each.name for other in (*divided[-1], line) for each in other.adapters if each.weight}
            if divided[-1] and not self.can_hold(names):
                divided.append([])
            divided[-1].append(line)
        return divided

    def use(self, lines: Sequence[Line]) -> int:
        """Let the next evaluations of the network be over these lines; gives the depth, 0 without any LoRA.

        A LoRA that had to make room is read again from its file.

        Raises:
            LorasCrowdedError: more LoRAs than the bank has slots.
            KeyError: a LoRA was never added.
        """
        return self._mix(self._drawing, NETWORK, [line.adapters for line in lines])

    def use_for_words(self, adapters: Sequence[Adapter]) -> str:
        """Let the next evaluations of the text encoders be for a picture with these; gives `words_key` of them."""
        if encoder := next((name for name in self._parts if name != NETWORK), None):
            self._mix(self._reading, encoder, [adapters])
        return self.words_key(adapters)

    def words_key(self, adapters: Iterable[Adapter]) -> str:
        """What tells apart how prompts read under these LoRAs, the same in every process; empty if as without any."""
        used = [(self._known[each.name].words_digest, each.weight) for each in adapters if each.weight]
        return " ".join(f"{digest}*{weight!r}" for digest, weight in used if digest)

    def _mix(self, mixture: layers.Mixture, part: str, lines: Sequence[Sequence[Adapter]]) -> int:
        used = [[each for each in adapters if each.weight] for adapters in lines]
        names = dict.fromkeys(each.name for adapters in used for each in adapters)
        if not self.can_hold(names.keys()):
            raise LorasCrowdedError(len(names), self._slots)
        missing = [name for name in names if name not in self._held]
        for name in names:
            if name in self._held:  # before any other has to make room
                self._held.move_to_end(name)
        for name in missing:
            self._take_in(name, self._known[name].path)
        pages = [[(page, each.weight) for each in adapters for page in self._held[each.name]] for adapters in used]
        mixture.mix(pages, streaming.device_of(self._parts[part].module))
        return mixture.depth

    def _take_in(self, name: str, path: Path) -> None:
        stamp = _stamp(path)
        lora = formats.read(path, self._parts)
        self._let_go(name)
        self._known[name] = _Known(path=path, stamp=stamp, words_digest=_words_digest(lora))
        self._place(name, lora)

    def _place(self, name: str, lora: Lora) -> None:
        """Write a LoRA into pages that are free, or become so because the longest unused goes."""
        while len(self._held) >= self._slots:
            self._let_go(next(iter(self._held)))
        wanted = math.ceil(lora.rank / self._rank)
        if wanted > len(self._free):
            self._grow(self._pages + wanted - len(self._free))
        for part, pairs in lora.pairs.items():
            self._install(part, pairs)
        pages = tuple(self._free[-1 - turn] for turn in range(wanted))
        for part, installed in self._layers.items():
            pairs = lora.pairs.get(part, {})
            for path, layer in installed.items():
                for turn, page in enumerate(pages):
                    self._write(layer, page, pairs.get(path), turn * self._rank)
        del self._free[len(self._free) - wanted :]
        self._held[name] = pages

    def _install(self, part: str, pairs: Mapping[str, Pair]) -> None:
        new = [path for path in pairs if path not in self._layers[part]]
        if new:
            mixture = self._drawing if part == NETWORK else self._reading
            module = self._parts[part].module
            self._layers[part] |= layers.install(module, new, mixture, pages=self._pages, rank=self._rank)
            self._changes += 1

    def _write(self, layer: layers.Layer, page: int, pair: Pair | None, start: int) -> None:
        if pair is None or start >= pair.rank:
            layers.write(layer, page, None, None)
            return
        rows = slice(start, start + self._rank)
        scale = pair.alpha / pair.rank
        layers.write(layer, page, pair.down[rows], pair.up[:, rows].float() * scale)

    def _grow(self, pages: int) -> None:
        for installed in self._layers.values():
            for layer in installed.values():
                layers.grow(layer, pages)
        self._free = [*range(pages - 1, self._pages - 1, -1), *self._free]
        self._pages = pages
        self._changes += 1

    def _let_go(self, name: str) -> None:
        self._free.extend(self._held.pop(name, ()))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise formats.LoraUnsupportedError(f"the LoRA {path.name} is not there; install it again") from error
    return found.st_mtime_ns, found.st_size


def _words_digest(lora: Lora) -> str:
    """A hash of what the LoRA does to text encoders; empty if it leaves them alone."""
    parts = sorted(lora.pairs.keys() - {NETWORK})
    digest = hashlib.sha256()
    for part in parts:
        for path, pair in sorted(lora.pairs[part].items()):
            digest.update(f"{part} {path} {pair.alpha}".encode())
            for matrix in (pair.down, pair.up):
                digest.update(matrix.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16] if parts else ""
