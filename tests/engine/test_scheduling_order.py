"""Who comes first, and the longest that it makes others wait."""

import itertools
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.simulated import Device, idle, phase, saturated, schedule, ticket, trained
from tintype.engine.scheduling.schedule import Row, Schedule
from tintype.engine.scheduling.values import Phase, Policy

EVALUATION_S = 0.1


def device(*, seconds=saturated, **options) -> Device:
    """A device that has measured its pictures before."""
    device = Device(schedule(**options), seconds=seconds)
    for model in ("a", "b"):
        for key in ("256", "512"):
            trained(device.schedule, phase(model=model, key=key), seconds)
    return device


def test_where_batching_pays_pictures_share_their_evaluations():
    many = device(seconds=idle)
    many.admit(*(ticket(number, phase(20)) for number in range(8)))
    many.drain()
    assert many.now_s < 0.25 * 8 * 20 * EVALUATION_S


def test_where_batching_does_not_pay_pictures_are_completed_one_after_the_other():
    many = Device(schedule(), seconds=saturated)
    many.admit(*(ticket(number, phase(20), party=f"party {number % 3}") for number in range(8)))
    many.drain()
    ends = sorted(many.ended_s.values())
    trials_s = 3 * 2 * EVALUATION_S
    assert ends == pytest.approx([2.0 * (number + 1) for number in range(8)], abs=trials_s)


def test_a_short_picture_goes_before_a_long_one_at_its_next_evaluation():
    one = device()
    one.admit(ticket(1, phase(50)))
    one.run()
    one.admit(ticket(2, phase(4, key="256")))
    assert [one.run().tickets for _ in range(5)] == [(2,)] * 4 + [(1,)]


def test_one_of_equal_length_does_not_interrupt():
    one = device()
    one.admit(ticket(1, phase(50)))
    one.run()
    one.admit(ticket(2, phase(50, key="256"), party="bob"), ticket(3, phase(50, key="256")))
    assert {one.run().tickets for _ in range(49)} == {(1,)}


@settings(max_examples=60, deadline=None)
@given(
    flood=st.lists(st.integers(1, 60), min_size=100, max_size=100),
    before=st.integers(1, 200),
    length=st.integers(1, 60),
    seconds=st.sampled_from([saturated, idle]),
)
def test_a_hundred_of_one_party_hold_up_another_ones_picture_by_the_running_batch_and_its_own_length(
    flood, before, length, seconds
):
    crowded = device(seconds=seconds)
    crowded.admit(*(ticket(number, phase(evaluations)) for number, evaluations in enumerate(flood)))
    for _ in range(before):
        if running := crowded.run():
            latest = running
    left = [flood[number] - crowded.made[number, 0] for number in latest.tickets]
    running_s = max(left) * crowded.seconds(phase(), latest.padded_lines)
    crowded.admit(ticket(999, phase(length, key="256"), party="bob"))
    crowded.drain()
    took_s = crowded.ended_s[999] - crowded.admitted_s[999]
    assert took_s <= 2 * length * EVALUATION_S + running_s + EVALUATION_S


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=40),
    parties=st.integers(1, 5),
    length=st.integers(1, 60),
    are_new=st.booleans(),
)
def test_other_parties_hold_up_a_picture_by_its_own_length_each(lengths, parties, length, are_new):
    crowded = device()
    crowded.admit(ticket(0, phase(length, key="256"), party="bob"))
    names = {number: f"party {number}" for number in range(parties)}
    coming = zip(itertools.count(1), itertools.cycle(lengths), strict=False)
    while 0 not in crowded.ended_s:
        present = {crowded.tickets[number].on_behalf_of for number in crowded.in_work()}
        for place in sorted(names):
            if names[place] not in present:
                number, evaluations = next(coming)
                names[place] = f"new {number}" if are_new else names[place]
                crowded.admit(ticket(number, phase(evaluations), party=names[place]))
        crowded.run()
    others = parties + 1 if are_new else parties
    assert crowded.ended_s[0] <= (1 + others) * length * EVALUATION_S + 0.01


@pytest.mark.parametrize("party", ["ann", "somebody new each time"])
def test_shorter_ones_without_end_do_not_keep_a_long_one_waiting(party: str):
    crowded = device()
    crowded.admit(ticket(0, phase(100)))
    number = 0
    while 0 not in crowded.ended_s:
        if len(crowded.schedule) == 1:
            number += 1
            crowded.admit(ticket(number, phase(2, key="256"), party=party if party == "ann" else f"{number}"))
        crowded.run()
    patience = Policy().patience if party == "ann" else 1
    assert crowded.ended_s[0] <= (1 + 2 * patience) * 100 * EVALUATION_S


def test_a_pause_saves_nothing_up():
    one = device()
    one.admit(ticket(1, phase(1), party="bob"))
    one.drain()
    one.admit(*(ticket(number, phase(10)) for number in range(10, 30)))
    for _ in range(100):
        one.run()
    one.admit(*(ticket(number, phase(10), party="bob") for number in range(30, 50)))
    for _ in range(100):
        one.run()
    shares = [sum(one.made[number, 0] for number in range(first, first + 20)) for first in (10, 30)]
    assert shares == pytest.approx([150, 50], abs=10)


def test_a_loaded_model_is_kept_for_all_that_wait_for_it():
    one = device(device_mib=150)
    one.loading_s = 5.0
    one.admit(*(ticket(number, phase(10, model="ab"[number % 2])) for number in range(20)))
    one.drain()
    assert one.swaps == 2


def test_parties_with_a_model_each_take_long_turns_on_a_device_that_holds_one():
    one = device(device_mib=150)
    one.loading_s = 5.0
    for number in range(40):
        model = "ab"[number % 2]
        one.admit(ticket(number, phase(10, model=model), party=f"party {model}"))
    one.drain()
    assert one.swaps <= 6  # of 40 in turn


def test_models_that_both_fit_are_loaded_once():
    one = device()
    one.admit(*(ticket(number, phase(10, model="ab"[number % 2]), party=f"{number}") for number in range(20)))
    one.drain()
    assert one.swaps == 2


@pytest.mark.parametrize("party", ["ann", "bob"])
def test_pictures_for_the_loaded_model_without_end_do_not_keep_another_waiting(party: str):
    one = device(device_mib=150)
    one.loading_s = 1.0
    one.admit(ticket(0, phase(2)))
    one.drain()
    one.admit(ticket(1, phase(10, model="b"), party=party))
    number = 1
    while 1 not in one.ended_s:
        while len(one.schedule) < 4:
            number += 1
            one.admit(ticket(number, phase(5)))
        one.run()
    sharing = 4 * Policy().patience if party == "ann" else 2
    guessed_loading_s = 0.1 * 1.05
    bound_s = Policy().swap_weight * guessed_loading_s + sharing * 10 * EVALUATION_S + 1.0 + 5 * EVALUATION_S
    assert one.ended_s[1] - one.admitted_s[1] <= bound_s + 1.0


def test_company_joins_in_the_order_of_what_is_left():
    one = device(seconds=idle, device_mib=102)
    one.admit(*(ticket(number, phase(evaluations)) for number, evaluations in enumerate([9, 3, 7, 5])))
    assert one.run().tickets == (1, 3)


def launch_bound(what: Phase, lines: int) -> float:
    """A device whose kernels wait for their launch until there is enough to do; the second model is twice as large."""
    area = {"256": 1 / 16, "512": 1 / 4, "768": 9 / 16, "1024": 1.0}[what.key]
    return (1 if what.model == "a" else 2) * max(0.06, 0.02 * area * lines) + 0.002 * lines


def trace(parties: int):
    """300 pictures: 2 models, 4 sizes, 4 to 50 steps, most of them with guidance."""
    draw = random.Random(7)
    for number in range(300):
        steps = draw.choice([4, 8, 20, 30, 50])
        lines = draw.choice([1, 2]) if steps < 10 else 2
        work = phase(steps, model=draw.choice("ab"), key=draw.choice(["256", "512", "768", "1024"]), lines=lines)
        yield ticket(number, work, party=f"party {number % parties}")


def alone_s(one) -> float:
    return sum(part.evaluations * launch_bound(part, part.lines) for part in one.phases)


def in_order(tickets, *, at_once: int, loading_s: float, keeps_both: bool) -> tuple[float, dict[int, float]]:
    """Seconds in all and by picture when each is completed in the order of arrival; 16 are there at any time."""
    now_s, took_s, loaded = 0.0, {}, set()
    admitted_s = {one.id: 0.0 for one in tickets[:at_once]}
    for place, one in enumerate(tickets):
        model = one.phases[0].model
        now_s += alone_s(one) + (0.0 if model in loaded else loading_s)
        loaded = loaded | {model} if keeps_both else {model}
        took_s[one.id] = now_s - admitted_s[one.id]
        if place + at_once < len(tickets):
            admitted_s[tickets[place + at_once].id] = now_s
    return now_s, took_s


def p95(values) -> float:
    return statistics.quantiles(values, n=20)[-1]


@pytest.mark.parametrize("parties", [1, 16])
@pytest.mark.parametrize("keeps_both", [True, False])
def test_a_mixed_trace_is_faster_and_its_short_pictures_wait_much_less_than_in_order(parties: int, keeps_both: bool):
    tickets = list(trace(parties))
    short = [one.id for one in tickets if alone_s(one) <= 1.0]
    assert len(short) > 60
    total_s, took_s = in_order(tickets, at_once=16, loading_s=2.0, keeps_both=keeps_both)
    mixed = Device(schedule(device_mib=1000 if keeps_both else 150), seconds=launch_bound, loading_s=2.0)
    mixed.admit(*tickets[:16])
    coming, seen = iter(tickets[16:]), 0
    while mixed.run() is not None:
        for _ in range(len(mixed.ended_s) - seen):
            mixed.admit(*[one for one in [next(coming, None)] if one])
        seen = len(mixed.ended_s)
    mixed_s = {number: mixed.ended_s[number] - mixed.admitted_s[number] for number in mixed.ended_s}
    assert total_s / mixed.now_s >= 1.7
    assert p95([took_s[number] for number in short]) / p95([mixed_s[number] for number in short]) >= 3


MEASURED_MS = {
    "64": {2: 13.5, 4: 16, 8: 23, 16: 38, 32: 72},
    "80": {2: 15, 4: 20, 8: 33, 16: 58, 32: 112},
    "96": {2: 17.5, 4: 25, 8: 45, 16: 82, 32: 160},
    "128": {2: 24, 4: 36, 8: 68, 16: 121, 32: 240},
}
"""Evaluations of the benchmark's tiny model on one core, by side and lines."""


def measured(what: Phase, lines: int) -> float:
    known = MEASURED_MS[what.shape]
    above = min((size for size in known if size >= lines), default=32)
    below = max(size for size in known if size <= max(lines, 2))
    share = 0.0 if above == below else (lines - below) / (above - below)
    return (known[below] + share * (known[above] - known[below])) / 1000


class CrowdFirst(Schedule):
    """Always goes on with the kind that most pictures are of, whoever waits."""

    def _order(self) -> list[Row]:
        kinds: dict[tuple[str, object], list[Row]] = {}
        for row in self._rows.values():
            kinds.setdefault((row.phase.model, row.phase.key), []).append(row)
        return sorted(max(kinds.values(), key=len, default=[]), key=self._remaining_s)


def run_measured(kind: type[Schedule], seed: int) -> tuple[float, float]:
    """Seconds that a trace like the benchmark's takes, and the 95th percentile of its short pictures."""
    draw = random.Random(seed)
    tickets = [
        ticket(
            number,
            phase(
                draw.choice([4, 4, 6, 8, 20, 30, 50]), model=draw.choice("ab"), key=draw.choice([*MEASURED_MS]), lines=2
            ),
            party=f"party {number % 5}",
        )
        for number in range(64)
    ]
    plain = schedule()
    one = Device(kind(residency=plain.residency, costs=plain.costs, policy=Policy()), seconds=measured)
    for model, key in itertools.product("ab", MEASURED_MS):
        trained(one.schedule, phase(model=model, key=key), measured)
    one.admit(*tickets[:16])
    coming, seen = iter(tickets[16:]), 0
    while one.run() is not None:
        one.admit(*itertools.islice(coming, len(one.ended_s) - seen))
        seen = len(one.ended_s)
    short = [each.id for each in tickets if each.phases[0].evaluations <= 8]
    return one.now_s, p95(one.ended_s[number] - one.admitted_s[number] for number in short)


def test_the_order_costs_hardly_any_speed_beside_one_that_only_fills_batches():
    ours, crowded = ([run_measured(kind, seed) for seed in range(6)] for kind in (Schedule, CrowdFirst))
    slower = statistics.mean(mine / theirs for (mine, _), (theirs, _) in zip(ours, crowded, strict=True))
    waits_less = statistics.mean(theirs / mine for (_, mine), (_, theirs) in zip(ours, crowded, strict=True))
    assert slower < 1.05
    assert waits_less > 2
