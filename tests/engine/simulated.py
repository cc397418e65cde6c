"""A device that is only arithmetic: it does what a schedule says on a made-up clock, and checks every tick."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tintype.engine.scheduling.costs import TRIALS, CostTable
from tintype.engine.scheduling.residency import Place, Residency
from tintype.engine.scheduling.schedule import Schedule
from tintype.engine.scheduling.values import Advance, Failure, Phase, Policy, Tick, Ticket

MIB = 2**20


def saturated(phase: Phase, lines: int) -> float:
    """A device that is busy with one line already: n lines take n times as long."""
    return 0.1 * lines


def idle(phase: Phase, lines: int) -> float:
    """A device on which further lines cost a tenth of the first."""
    return 0.1 + 0.01 * (lines - 1)


def phase(
    evaluations: int = 4, *, model: str = "a", key: str = "512", lines: int = 1, activation_bytes: int = MIB
) -> Phase:
    """`key` is a size, and what else has to be equal after a space."""
    return Phase(
        model=model,
        key=key,
        shape=key.split(maxsplit=1)[0],
        evaluations=evaluations,
        lines=lines,
        activation_bytes=activation_bytes,
    )


def ticket(number: int, *phases: Phase, party: str = "ann", mode: str = "fast", request: str | None = None) -> Ticket:
    request = f"request {number}" if request is None else request
    return Ticket(id=number, request=request, on_behalf_of=party, mode=mode, phases=phases or (phase(),))


def schedule(
    *,
    device_mib: int = 1000,
    host_mib: int = 1000,
    models: dict[str, int] | None = None,
    block_mib: int = 0,
    policy: Policy | None = None,
) -> Schedule:
    policy = policy or Policy()
    residency = Residency(device_limit_bytes=device_mib * MIB, host_limit_bytes=host_mib * MIB)
    for model, mib in (models or {"a": 100, "b": 100}).items():
        residency.learn(model, weights_bytes=mib * MIB, block_bytes=block_mib * MIB)
    costs = CostTable(sizes=policy.sizes, is_padding=policy.is_padding)
    return Schedule(residency=residency, costs=costs, policy=policy)


def trained(what: Schedule, one: Phase, seconds: Callable[[Phase, int], float]) -> Schedule:
    """The schedule, with all batch sizes of a shape measured."""
    for size in what.costs.sizes * TRIALS:
        what.costs.note(one.model, one.shape, size, seconds(one, size))
    return what


@dataclass
class Device:
    """Runs ticks; `made` counts evaluations by picture and phase, `ended_s` says when pictures were finished."""

    schedule: Schedule
    seconds: Callable[[Phase, int], float] = idle
    loading_s: float = 0.0
    now_s: float = 0.0
    tickets: dict[int, Ticket] = field(default_factory=dict)
    admitted_s: dict[int, float] = field(default_factory=dict)
    ended_s: dict[int, float] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)
    made: Counter[tuple[int, int]] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)
    gone: set[int] = field(default_factory=set)
    ticks: list[Tick] = field(default_factory=list)
    swaps: int = 0

    def admit(self, *tickets: Ticket) -> None:
        for one in tickets:
            self.schedule.admit(one)
            self.tickets[one.id] = one
            self.admitted_s[one.id] = self.now_s

    def cancel(self, request: str) -> None:
        self.gone.update(self.schedule.cancel(request))

    def in_work(self) -> set[int]:
        return set(self.tickets) - set(self.ended_s) - set(self.failed) - self.gone

    def phase(self, number: int) -> Phase:
        return self.tickets[number].phases[self.turns[number]]

    def take(self) -> Tick | None:
        """The next tick, checked, with its swap done."""
        tick = self.schedule.next()
        if tick is None:
            return None
        self.check(tick)
        if tick.swap is not None:
            self.schedule.swapped(tick.swap, self.loading_s)
            self.swaps += tick.swap.load is not None
            self.now_s += self.loading_s if tick.swap.load else 0.0
        self.check_memory(tick)
        self.ticks.append(tick)
        return tick

    def run(self) -> Tick | None:
        """One tick from end to end."""
        tick = self.take()
        if tick is not None:
            self.finish(tick)
        return tick

    def finish(self, tick: Tick) -> Advance:
        seconds = self.seconds(self.phase(tick.tickets[0]), tick.padded_lines)
        self.now_s += seconds
        for number in set(tick.tickets) - self.gone:
            self.made[number, self.turns[number]] += 1
        advance = self.schedule.ran(tick, seconds)
        for number in (*advance.finished, *advance.turned):
            self.turns[number] += 1
        for number in advance.finished:
            assert number not in self.ended_s, "reported twice"
            self.ended_s[number] = self.now_s
        return advance

    def fail(self, failures: Iterable[Failure]) -> None:
        for failure in failures:
            assert failure.ticket not in self.failed
            self.failed[failure.ticket] = failure

    def drain(self, *, most_ticks: int = 100_000) -> None:
        """Run until nothing is left."""
        for _ in range(most_ticks):
            if self.run() is None:
                assert len(self.schedule) == 0, "pictures are left that no tick runs"
                return
        raise AssertionError("it does not end")

    def check(self, tick: Tick) -> None:
        """What holds for every tick."""
        assert set(tick.tickets) <= self.in_work(), "a picture that is over runs again"
        assert len(set(tick.tickets)) == len(tick.tickets)
        phases = [self.phase(number) for number in tick.tickets]
        assert len({(one.model, one.key) for one in phases}) == 1
        assert phases[0].model == tick.model
        assert tick.lines == sum(one.lines for one in phases) <= tick.padded_lines
        modes = {self.tickets[number].mode for number in tick.tickets}
        assert len(modes) == 1
        if modes == {"strict"}:
            assert len(tick.tickets) == 1
            assert tick.padded_lines == tick.lines

    def check_memory(self, tick: Tick) -> None:
        residency = self.schedule.residency
        activation_bytes = tick.padded_lines * max(self.phase(number).activation_bytes for number in tick.tickets)
        assert residency.place(tick.model) is Place.DEVICE
        assert residency.device_bytes + activation_bytes <= residency.device_limit_bytes
        assert residency.host_bytes <= residency.host_limit_bytes
