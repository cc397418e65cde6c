"""Where models are kept, in bytes: on the device, in host memory or on disk only. Nothing is ever moved on a guess."""

import enum
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field


class Placement(enum.Enum):
    """How a model can run: whole on the device, streamed through it group by group, or not at all."""

    ON_DEVICE = "on_device"
    STREAMED = "streamed"
    REFUSED = "refused"


class Place(enum.Enum):
    """Where a model's weights are."""

    DEVICE = "device"
    HOST = "host"
    DISK = "disk"


@dataclass(frozen=True, kw_only=True)
class Eviction:
    """A model leaves for `to`: host memory, or disk, where it is anyway."""

    model: str
    to: Place


@dataclass(frozen=True, kw_only=True)
class Shed:
    """A model lets go of what it keeps beside its weights, but for what it is to `keep`, by names."""

    model: str
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Swap:
    """What is shed, evictions, in this order, and then a model to load from `origin`, if any."""

    evict: tuple[Eviction, ...]
    load: str | None
    placement: Placement
    origin: Place = Place.DISK
    shed: tuple[Shed, ...] = ()


@dataclass(frozen=True)
class Weights:
    """A model's weights, and its largest group of layers; without groups it cannot be streamed."""

    total_bytes: int
    block_bytes: int


@dataclass
class Held:
    """What a model takes where; `pins` counts who works with it at this moment.

    On the device it also keeps what requests brought: `loose` by name, to be shed at any time, and `fixed_bytes`,
    which go only with it.
    """

    place: Place
    placement: Placement
    device_bytes: int
    host_bytes: int
    pins: int = 0
    loose: Mapping[str, int] = field(default_factory=dict[str, int])
    fixed_bytes: int = 0

    @property
    def loose_bytes(self) -> int:
        """What it could shed."""
        return sum(self.loose.values())

    @property
    def all_bytes(self) -> int:
        """Everything of it that is on the device."""
        return self.device_bytes + self.loose_bytes + self.fixed_bytes


class Residency:
    """Bookkeeping of one device and its host. Models last used come last.

    On a machine without a device of its own the host is the device, and `host_limit_bytes` is 0.
    """

    def __init__(self, *, device_limit_bytes: int, host_limit_bytes: int) -> None:
        self.device_limit_bytes = device_limit_bytes
        self.host_limit_bytes = host_limit_bytes
        self._weights: dict[str, Weights] = {}
        self._held: dict[str, Held] = {}

    @property
    def device_bytes(self) -> int:
        """Taken on the device by weights, and by what is kept beside them."""
        return sum(held.all_bytes for held in self._held.values())

    @property
    def host_bytes(self) -> int:
        """Taken in host memory by weights."""
        return sum(held.host_bytes for held in self._held.values())

    @property
    def is_pinned(self) -> bool:
        """Whether anything has to stay where it is."""
        return any(held.pins for held in self._held.values())

    def learn(self, model: str, *, weights_bytes: int, block_bytes: int = 0) -> None:
        """Take down how large a model is; needed before anything else is asked about it."""
        self._weights[model] = Weights(weights_bytes, block_bytes)

    def weights_bytes(self, model: str) -> int:
        """The size of the model, as learnt."""
        return self._weights[model].total_bytes

    def place(self, model: str) -> Place:
        """Where the model is; on the device also while it is streamed."""
        held = self._held.get(model)
        return held.place if held else Place.DISK

    def on_device(self) -> tuple[str, ...]:
        """The models that could run at once, least recently used first."""
        return tuple(model for model, held in self._held.items() if held.place is Place.DEVICE)

    def choose(self, model: str, activation_bytes: int) -> Placement:
        """How the model can run beside `activation_bytes` on an otherwise empty device."""
        weights = self._weights[model]
        if weights.total_bytes + activation_bytes <= self.device_limit_bytes:
            return Placement.ON_DEVICE
        if self._is_streamable(weights, activation_bytes):
            return Placement.STREAMED
        return Placement.REFUSED

    def can_load(self, model: str, activation_bytes: int = 0) -> bool:
        """Whether the model, and so much beside it, fits as things are, with nothing evicted."""
        return self._fits(model, activation_bytes, self._others(model))

    def can_make_room(self, model: str, activation_bytes: int = 0) -> bool:
        """Whether it fits once everything that nobody works with is evicted."""
        return self._fits(model, activation_bytes, [other for other in self._others(model) if self._held[other].pins])

    def room_bytes(self, model: str, keep: Collection[str], activation_bytes: int) -> int:
        """What the device has left for activations beside the model (run as for `activation_bytes`) and `keep`."""
        stay = [other for other in self._others(model) if other in keep or self._held[other].pins]
        taken = sum(self._held[other].all_bytes - self._sheddable(other) for other in stay)
        return self.device_limit_bytes - taken - self._need(model, self._choose_now(model, activation_bytes))[0]

    def plan(
        self,
        model: str,
        *,
        activation_bytes: int,
        keep: Collection[str] = (),
        brings: Collection[str] = (),
        is_alone: bool = False,
    ) -> Swap | None:
        """What must happen before the model runs with `activation_bytes`; None where it can at once.

        In the activations is what it `brings`. What is kept beside weights is shed before any model leaves; then least
        recently used models go first, those in `keep` last, all of them if it has to be alone. Call it only where
        `can_make_room` holds.
        """
        placement = self._choose_now(model, activation_bytes)
        device_bytes, host_bytes = self._need(model, placement)
        beside = {other: self._held[other] for other in self._others(model) if self._held[other].place is Place.DEVICE}
        free = self.device_limit_bytes - device_bytes - activation_bytes
        free -= sum(held.all_bytes for held in beside.values()) + self._unneeded(model, brings)
        host_free = self.host_limit_bytes - host_bytes - sum(held.host_bytes for held in beside.values())
        shed: dict[str, Shed] = {}
        for other in (*beside, model):
            loose = self._unneeded(model, brings) if other == model else self._sheddable(other)
            if loose and (free < 0 or is_alone):
                shed[other] = Shed(model=other, keep=tuple(brings) if other == model else ())
                free += loose
        leaving: list[str] = []
        for other in sorted(beside, key=lambda name: name in keep):
            is_in_the_way = free < 0 or (host_free < 0 and beside[other].host_bytes > 0)
            if not beside[other].pins and (is_alone or is_in_the_way):
                leaving.append(other)
                free += beside[other].all_bytes - (beside[other].loose_bytes if other in shed else 0)
                host_free += beside[other].host_bytes
        held = self._held.get(model)
        is_ready = held is not None and held.place is Place.DEVICE and held.placement is placement
        evict = tuple(self._find_places(leaving, model, 0 if is_ready else host_bytes))
        if is_ready and not evict and not shed:
            return None
        load = None if is_ready else model
        return Swap(evict=evict, load=load, placement=placement, origin=self.place(model), shed=tuple(shed.values()))

    def load(self, model: str, placement: Placement) -> None:
        """Take down that the model is on the device now."""
        device_bytes, host_bytes = self._need(model, placement)
        pins = self._held.pop(model).pins if model in self._held else 0
        self._held[model] = Held(Place.DEVICE, placement, device_bytes, host_bytes, pins)

    def evict(self, eviction: Eviction) -> None:
        """Take down that a model has left the device, or host memory too."""
        if eviction.to is Place.DISK:
            self.release(eviction.model)
            return
        held = self._held[eviction.model]
        held.place, held.device_bytes, held.host_bytes = Place.HOST, 0, self.weights_bytes(eviction.model)
        held.loose, held.fixed_bytes = {}, 0

    def release(self, model: str) -> None:
        """Take down that the model is on disk only; whoever works with it still has to `unpin` it."""
        held = self._held.pop(model, None)
        if held is not None and held.pins:
            self._held[model] = Held(Place.DISK, held.placement, 0, 0, held.pins)

    def note_beside(self, model: str, *, loose: Mapping[str, int], fixed_bytes: int = 0) -> None:
        """Take down what a model on the device keeps beside its weights by now."""
        if self.place(model) is Place.DEVICE:
            self._held[model].loose, self._held[model].fixed_bytes = loose, fixed_bytes

    def shed(self, shed: Shed) -> None:
        """Take down that a model has let go of what it kept."""
        held = self._held[shed.model]
        held.loose = {name: size for name, size in held.loose.items() if name in shed.keep}

    def touch(self, model: str) -> None:
        """Take down that the model was used just now."""
        self._held[model] = self._held.pop(model)

    def pin(self, model: str) -> None:
        """Keep the model where it is while something works with it, such as the decoder; counted."""
        self._held[model].pins += 1

    def unpin(self, model: str) -> None:
        """Undo one `pin`."""
        held = self._held[model]
        held.pins -= 1
        if held.place is Place.DISK and not held.pins:
            del self._held[model]

    def _choose_now(self, model: str, activation_bytes: int) -> Placement:
        """As `choose`, but a model that is streamed stays so where it can: changing over costs a load."""
        held = self._held.get(model)
        is_streamed = held is not None and held.placement is Placement.STREAMED and held.place is Place.DEVICE
        if is_streamed and self._is_streamable(self._weights[model], activation_bytes):
            return Placement.STREAMED
        return self.choose(model, activation_bytes)

    def _is_streamable(self, weights: Weights, activation_bytes: int) -> bool:
        is_in_groups = weights.block_bytes > 0 and weights.total_bytes <= self.host_limit_bytes
        return is_in_groups and 2 * weights.block_bytes + activation_bytes <= self.device_limit_bytes

    def _sheddable(self, model: str) -> int:
        """What the model could let go of: nothing while somebody works with it."""
        held = self._held[model]
        return 0 if held.pins else held.loose_bytes

    def _unneeded(self, model: str, brings: Collection[str]) -> int:
        """What the model itself keeps beside and does not need now; what it brings is in its activations."""
        held = self._held.get(model)
        return 0 if held is None else sum(size for name, size in held.loose.items() if name not in brings)

    def _others(self, model: str) -> list[str]:
        return [other for other in self._held if other != model]

    def _need(self, model: str, placement: Placement) -> tuple[int, int]:
        """Bytes on the device and on the host. Two groups: one computes while the next one arrives."""
        weights = self._weights[model]
        if placement is Placement.STREAMED:
            return 2 * weights.block_bytes, weights.total_bytes
        return weights.total_bytes, 0

    def _fits(self, model: str, activation_bytes: int, beside: list[str]) -> bool:
        placement = self._choose_now(model, activation_bytes)
        device_bytes, host_bytes = self._need(model, placement)
        device_bytes += sum(self._held[other].all_bytes for other in beside)
        host_bytes += sum(self._held[other].host_bytes for other in beside)
        is_small = device_bytes + activation_bytes <= self.device_limit_bytes and host_bytes <= self.host_limit_bytes
        return placement is not Placement.REFUSED and is_small

    def _find_places(self, leaving: list[str], model: str, host_bytes: int) -> Iterator[Eviction]:
        """Host memory for what leaves the device, as far as there is any beside the model's own `host_bytes`.

        What was used last is placed first; what lies in host memory longest unused makes room for it.
        """
        stored = [name for name in self._others(model) if self._held[name].place is Place.HOST]
        moved = [*leaving, model] if host_bytes else leaving
        free = self.host_limit_bytes - host_bytes - self.host_bytes
        free += sum(self._held[name].host_bytes for name in moved if name in self._held)
        wanted = [(0, None), *((self.weights_bytes(name), name) for name in reversed(leaving))]
        moves: list[Eviction] = []
        for size, name in wanted:
            while free < size <= free + sum(self._held[other].host_bytes for other in stored):
                free += self._held[stored[0]].host_bytes
                yield Eviction(model=stored.pop(0), to=Place.DISK)
            if name is not None:
                moves.append(Eviction(model=name, to=Place.HOST if size <= free else Place.DISK))
                free -= size if size <= free else 0
        yield from sorted(moves, key=lambda move: move.to is Place.HOST)
