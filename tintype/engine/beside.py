"""What a loaded model keeps on its device beside its own weights, because requests brought it: networks and LoRAs."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Generic, Protocol, TypeVar

from torch import nn

T = TypeVar("T")


class Bank(Protocol):
    """What grows with its LoRAs, and shrinks only when its model goes."""

    @property
    def held_bytes(self) -> int:
        """What its pages take."""
        ...


B = TypeVar("B", bound=Bank)


class Shelf(Generic[T]):
    """The latest `most` networks of one kind by the folders they came from; any thread may ask."""

    def __init__(self, most: int, size_bytes: Callable[[T], int]) -> None:
        self._most = most
        self._size_bytes = size_bytes
        self._held: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, folder: str, load: Callable[[], T]) -> T:
        """The network of this folder, loaded where it is not there."""
        with self._lock:  # pictures are begun in one thread and finished in another
            if folder not in self._held:
                self._held[folder] = load()
                if len(self._held) > self._most:
                    self._held.popitem(last=False)
            self._held.move_to_end(folder)
            return self._held[folder]

    def sizes(self) -> dict[str, int]:
        """The bytes of each network."""
        with self._lock:
            return {folder: self._size_bytes(network) for folder, network in self._held.items()}

    def drop(self, keep: Collection[str]) -> None:
        """Let go of all networks but those to `keep`; each is loaded again when it is needed."""
        with self._lock:
            for folder in self._held.keys() - set(keep):
                del self._held[folder]


class Beside:
    """Everything one model keeps beside its weights."""

    def __init__(self) -> None:
        self._shelves: list[Shelf[nn.Module] | Shelf[object]] = []
        self._banks: list[Bank] = []

    def shelf(self, most: int, size_bytes: Callable[[T], int]) -> Shelf[T]:
        """A new shelf for networks of one kind."""
        made = Shelf(most, size_bytes)
        self._shelves.append(made)  # pyright: ignore[reportArgumentType]  only counted and emptied here
        return made

    def counting(self, bank: B) -> B:
        """The same bank, whose pages count from now on."""
        self._banks.append(bank)
        return bank

    def loose(self) -> Mapping[str, int]:
        """What can be dropped: bytes by folder."""
        return {folder: size for shelf in self._shelves for folder, size in shelf.sizes().items()}

    @property
    def fixed_bytes(self) -> int:
        """What goes only with the model."""
        return sum(bank.held_bytes for bank in self._banks)

    def drop(self, keep: Collection[str] = ()) -> None:
        """Let go of every network but those of the folders to `keep`."""
        for shelf in self._shelves:
            shelf.drop(keep)


def module_bytes(network: nn.Module) -> int:
    """What the weights of a network take."""
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
