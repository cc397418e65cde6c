"""Which pictures share an evaluation, in which order, and what never happens, whatever arrives."""

import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.simulated import MIB, Device, idle, phase, saturated, schedule, ticket, trained
from tintype.engine.scheduling.residency import Placement
from tintype.engine.scheduling.schedule import TickOutdatedError
from tintype.engine.scheduling.shortages import TooLargeError
from tintype.engine.scheduling.values import Policy

MODELS = {"a": 300, "b": 500, "c": 400}

PHASES = st.builds(
    phase,
    st.integers(1, 6),
    model=st.sampled_from(sorted(MODELS)),
    key=st.sampled_from(["256", "512", "512 adapted"]),
    lines=st.integers(1, 2),
    activation_bytes=st.integers(1, 40).map(lambda mib: mib * MIB),
)
PICTURES = st.tuples(
    st.lists(PHASES, min_size=1, max_size=3),
    st.sampled_from(["ann", "bob", "eve"]),
    st.sampled_from(["fast", "bucket", "strict"]),
    st.sampled_from(["r1", "r2", "r3", "r4"]),
)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), PICTURES),
        st.tuples(st.just("run"), st.integers(1, 5)),
        st.tuples(st.just("cancel"), st.sampled_from(["r1", "r2", "r3", "r4"])),
        st.tuples(st.just("cancel in a tick"), st.sampled_from(["r1", "r2", "r3", "r4"])),
        st.tuples(st.sampled_from(["load fails", "batch fails", "abandoned"]), st.none()),
    ),
    max_size=60,
)


def act(device: Device, actions: Sequence[tuple[str, object]]) -> None:
    for number, (action, what) in enumerate(actions):
        match action, what:
            case "admit", (phases, party, mode, request):
                device.admit(ticket(number, *phases, party=party, mode=mode, request=request))
            case "run", times:
                for _ in range(times):
                    device.run()
            case "cancel", request:
                device.cancel(request)
            case "cancel in a tick", request:
                if (tick := device.take()) is not None:
                    device.cancel(request)
                    device.finish(tick)
            case failure, _:
                if (tick := device.schedule.next()) is None:
                    continue
                device.check(tick)
                if failure == "load fails" and tick.swap and tick.swap.load:
                    device.fail(device.schedule.load_failed(tick))
                elif failure == "batch fails":
                    if tick.swap is not None:
                        device.schedule.swapped(tick.swap, 1.0)
                    device.fail(device.schedule.batch_failed(tick))
                else:
                    device.schedule.abandon(tick)


@settings(max_examples=300, deadline=None)
@given(actions=ACTIONS, seconds=st.sampled_from([idle, saturated]), is_padding=st.booleans())
def test_every_picture_makes_exactly_its_evaluations_and_ends_once(actions, seconds, is_padding):
    device = Device(schedule(models=MODELS, policy=Policy(is_padding=is_padding)), seconds=seconds, loading_s=0.3)
    act(device, actions)
    device.drain()
    for number, one in device.tickets.items():
        ends = [number in device.ended_s, number in device.failed, number in device.gone]
        assert sum(ends) == 1
        if number in device.ended_s:
            made = [device.made[number, turn] for turn in range(len(one.phases))]
            assert made == [each.evaluations for each in one.phases]


@settings(max_examples=100, deadline=None)
@given(
    others=st.lists(PICTURES, max_size=20), phases=st.lists(PHASES, min_size=1, max_size=3), is_padding=st.booleans()
)
def test_a_bucket_picture_has_the_same_batch_under_any_load(others, phases, is_padding):
    def batches(crowd) -> list[int]:
        device = Device(schedule(models=MODELS, policy=Policy(is_padding=is_padding)))
        for number, (work, party, mode, _) in enumerate(crowd):
            device.admit(ticket(number, *work, party=party, mode=mode))
        device.admit(ticket(999, *phases, mode="bucket"))
        device.drain()
        return [tick.padded_lines for tick in device.ticks if 999 in tick.tickets]

    alone = batches([])
    assert alone == [Policy().bucket_lines] * len(alone)
    assert batches(others) == alone


def test_bucket_pictures_share_their_batch_and_leave_what_does_not_fit():
    device = Device(schedule(policy=Policy(bucket_lines=4)))
    device.admit(*(ticket(number, phase(1, lines=2), mode="bucket") for number in range(3)))
    assert [(len(tick.tickets), tick.padded_lines) for tick in iter(device.run, None)] == [(2, 4), (1, 4)]


def test_the_fixed_batch_is_smaller_where_the_device_is():
    device = Device(schedule(device_mib=400, policy=Policy(bucket_lines=8)))
    device.admit(ticket(1, phase(1, lines=2, activation_bytes=100 * MIB), mode="bucket"))
    device.drain()
    assert device.ticks[0].padded_lines == 2


def test_a_picture_that_arrives_joins_those_in_work_at_the_next_evaluation():
    device = Device(trained(schedule(), phase(), idle))
    device.admit(ticket(1, phase(9)), ticket(2, phase(9)))
    assert device.run().tickets == (1, 2)
    device.admit(ticket(3, phase(2)), ticket(4, phase(9)))
    assert set(device.run().tickets) == {1, 2, 3, 4}
    assert set(device.run().tickets) == {1, 2, 3, 4}
    assert set(device.run().tickets) == {1, 2, 4}


@pytest.mark.parametrize(("lines", "padded"), [(3, 4), (5, 8), (8, 8)])
def test_a_device_with_graphs_gets_batches_filled_up(lines: int, padded: int):
    device = Device(trained(schedule(policy=Policy(is_padding=True)), phase(), idle))
    device.admit(*(ticket(number) for number in range(lines)))
    tick = device.run()
    assert (tick.lines, tick.padded_lines) == (lines, padded)


def test_a_batch_takes_no_more_than_memory_has_room_for():
    device = Device(trained(schedule(device_mib=150), phase(), idle))
    device.admit(*(ticket(number, phase(activation_bytes=10 * MIB)) for number in range(16)))
    assert len(device.run().tickets) == 4


def test_a_batch_does_not_grow_over_a_model_that_others_wait_for():
    device = Device(trained(schedule(device_mib=250), phase(), idle))
    device.admit(ticket(100, phase(1)), ticket(101, phase(99, model="b")))
    device.run()
    device.run()
    assert device.swaps == 2
    device.admit(*(ticket(number, phase(1, activation_bytes=10 * MIB)) for number in range(16)))
    assert len(device.run().tickets) == 4
    device.cancel("request 101")
    assert len(device.run().tickets) == 8


def test_a_picture_that_goes_on_with_another_model_is_reported():
    device = Device(schedule())
    device.admit(ticket(1, phase(1), phase(1, model="b")))
    advance = device.finish(device.take())
    assert (advance.finished, advance.turned) == ((), (1,))
    tick = device.take()
    assert tick.model == "b"
    assert device.finish(tick).finished == (1,)


def test_a_tick_can_be_reported_once_only():
    device = Device(schedule())
    device.admit(ticket(1))
    tick = device.run()
    with pytest.raises(TickOutdatedError):
        device.schedule.ran(tick, 0.1)
    old = device.schedule.next()
    device.schedule.next()
    with pytest.raises(TickOutdatedError):
        device.schedule.ran(old, 0.1)


def test_what_differs_in_more_than_its_size_shares_no_evaluation():
    device = Device(trained(schedule(), phase(), idle))
    device.admit(ticket(1), ticket(2, phase(key="512 adapted")), ticket(3))
    assert device.run().tickets == (1, 3)


def test_a_picture_that_fits_no_way_is_refused_at_once():
    with pytest.raises(TooLargeError, match="smaller picture"):
        schedule(device_mib=150).admit(ticket(1, phase(1), phase(1, activation_bytes=60 * MIB)))


def test_a_picture_whose_model_only_fits_streamed_runs_streamed():
    device = Device(schedule(device_mib=150, block_mib=10))
    device.admit(ticket(1, phase(1, activation_bytes=60 * MIB)))
    device.drain()
    assert device.ticks[0].swap.placement is Placement.STREAMED


def test_nothing_runs_while_what_is_in_use_leaves_no_room():
    device = Device(schedule(device_mib=150))
    device.admit(ticket(1, phase(1)))
    device.run()
    device.schedule.residency.pin("a")
    device.admit(ticket(2, phase(1, model="b")))
    assert device.schedule.next() is None
    device.schedule.residency.unpin("a")
    assert device.schedule.next().model == "b"


def test_64_waiting_pictures_are_decided_about_in_well_under_a_millisecond():
    device = Device(schedule())
    for number in range(64):
        work = phase(50, key=f"size {number % 8}", lines=2)
        device.admit(ticket(number, work, party=f"party {number % 16}"))
    for _ in range(40):
        device.run()
    taken_s = []
    for _ in range(200):
        began_s = time.perf_counter()
        device.schedule.next()
        taken_s.append(time.perf_counter() - began_s)
    assert min(taken_s) < 0.5e-3


def test_the_schedule_imports_no_machine_learning():
    code = "import sys, tintype.engine.scheduling.schedule; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_model_whose_last_evaluation_is_longest_ago_leaves_first():
    device = Device(schedule(device_mib=250, models={"a": 100, "b": 100, "c": 100}))
    for number, model in enumerate("abac"):
        device.admit(ticket(number, phase(1, model=model)))
        device.drain()
    assert [move.model for move in device.ticks[-1].swap.evict] == ["b"]
