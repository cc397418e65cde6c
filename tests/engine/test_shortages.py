"""What happens when memory does not suffice after all: less is tried, and only what cannot be made fails."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.simulated import MIB, Device, idle, phase, schedule, ticket, trained
from tintype.engine.scheduling.residency import Place
from tintype.engine.scheduling.values import Failure, Policy, Tick


def crowded(*, rows: int = 8, mode: str = "fast", **options) -> Device:
    device = Device(trained(schedule(**options), phase(), idle))
    device.admit(*(ticket(number, mode=mode) for number in range(rows)))
    return device


def refuse_loading(device: Device) -> tuple[Tick, tuple[Failure, ...]]:
    tick = device.schedule.next()
    return tick, device.schedule.load_failed(tick)


def refuse_batch(device: Device) -> tuple[Tick, tuple[Failure, ...]]:
    tick = device.take()
    return tick, device.schedule.batch_failed(tick)


def test_a_model_that_finds_no_room_is_tried_once_more_with_everything_else_evicted():
    device = crowded()
    device.admit(ticket(100, phase(1, model="b")))
    while device.schedule.residency.place("b") is not Place.DEVICE:
        device.run()
    device.schedule.residency.release("a")
    device.admit(ticket(101, phase(1)))
    tick, failures = refuse_loading(device)
    assert (tick.swap.load, tick.swap.evict, failures) == ("a", (), ())
    swap = device.take().swap
    assert (swap.load, [move.model for move in swap.evict]) == ("a", ["b"])


def test_pictures_whose_model_finds_no_room_twice_fail_and_say_why():
    device = crowded(rows=3)
    device.admit(ticket(100, phase(50, model="b")))
    assert refuse_loading(device)[1] == ()
    tick, failures = refuse_loading(device)
    assert tick.model == "a"
    assert [failure.ticket for failure in failures] == [0, 1, 2]
    assert failures[0].code == "out_of_memory"
    assert failures[0].retryable
    assert "model 'a' does not fit" in failures[0].detail
    device.fail(failures)
    device.drain()
    assert set(device.ended_s) == {100}


def test_a_model_that_failed_gets_its_two_tries_again_with_the_next_picture():
    device = crowded(rows=1)
    refuse_loading(device)
    assert len(refuse_loading(device)[1]) == 1
    device.failed = {0: None}
    device.admit(ticket(1))
    assert refuse_loading(device)[1] == ()
    device.drain()
    assert set(device.ended_s) == {1}


def test_what_failed_to_come_back_from_host_memory_is_loaded_from_disk():
    device = crowded(rows=1, device_mib=150)
    device.drain()
    device.admit(ticket(100, phase(1, model="b")))
    device.drain()
    device.admit(ticket(101))
    tick, _ = refuse_loading(device)
    assert tick.swap.origin is Place.HOST
    assert device.schedule.next().swap.origin is Place.DISK


def test_a_batch_too_large_is_halved_then_alone_and_the_size_that_failed_never_comes_again():
    device = crowded()
    assert [len(refuse_batch(device)[0].tickets) for _ in range(2)] == [8, 4]
    assert len(device.run().tickets) == 1
    device.drain()
    assert {len(tick.tickets) for tick in device.ticks[2:]} == {1}
    assert len(device.ended_s) == 8


def test_a_halved_batch_that_runs_is_the_size_from_then_on():
    device = crowded()
    assert refuse_batch(device)[1] == ()
    device.drain()
    device.admit(*(ticket(number) for number in range(10, 30)))
    device.drain()
    assert max(len(tick.tickets) for tick in device.ticks[1:]) == 4


def test_other_models_leave_before_a_batch_is_tried_again_and_may_come_back():
    device = crowded()
    device.admit(ticket(100, phase(1, model="b")))
    while device.schedule.residency.place("b") is not Place.DEVICE:
        device.run()
    device.admit(ticket(101, phase(9, model="b")))
    refuse_batch(device)
    assert [move.model for move in device.run().swap.evict] == ["b"]
    device.drain()
    assert {device.schedule.residency.place(model) for model in "ab"} == {Place.DEVICE}
    device.admit(ticket(102))
    assert device.run().swap is None


@pytest.mark.parametrize("mode", ["fast", "strict"])
def test_only_the_picture_that_cannot_run_alone_fails(mode: str):
    device = crowded(rows=3, mode=mode)
    failures: tuple[Failure, ...] = ()
    for _ in range(4):
        if not failures:
            tick, failures = refuse_batch(device)
    assert len(tick.tickets) == 1
    assert [failure.ticket for failure in failures] == list(tick.tickets)
    assert "single picture" in failures[0].detail
    assert not failures[0].retryable
    device.fail(failures)
    device.drain()
    assert len(device.ended_s) == 2


def test_a_fixed_batch_keeps_its_size_and_fails_with_a_way_out():
    device = crowded(rows=2, mode="bucket", policy=Policy(bucket_lines=4))
    tick, failures = refuse_batch(device)
    assert (tick.padded_lines, failures) == (4, ())
    tick, failures = refuse_batch(device)
    assert tick.padded_lines == 4
    assert len(failures) == 2
    assert "another seed_mode" in failures[0].detail


def test_decoding_is_tried_once_more_with_everything_else_evicted():
    device = crowded(rows=1)
    device.admit(ticket(100, phase(1, model="b")))
    device.drain()
    swap = device.schedule.decode_failed(0, "a")
    assert [move.model for move in swap.evict] == ["b"]
    assert swap.load is None
    device.schedule.swapped(swap, 0.1)
    failure = device.schedule.decode_failed(0, "a")
    assert (failure.ticket, failure.code) == (0, "out_of_memory")


KEYS = {"256": 10, "512": 40, "1024": 160}
SHORT_OF = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from(sorted(KEYS)), st.integers(1, 3), st.integers(1, 4), st.integers(0, 2)
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(pictures=SHORT_OF, free_mib=st.integers(50, 1200), is_padding=st.booleans())
def test_exactly_what_cannot_run_alone_fails_whatever_others_hold_of_the_memory(pictures, free_mib, is_padding):
    models, modes = {"a": 200, "b": 350}, ("fast", "bucket", "strict")
    device = Device(schedule(device_mib=2000, models=models, policy=Policy(is_padding=is_padding)))
    for number, (model, key, lines, evaluations, mode) in enumerate(pictures):
        work = phase(evaluations, model=model, key=key, lines=lines, activation_bytes=KEYS[key] * MIB)
        device.admit(ticket(number, work, mode=modes[mode]))
    for _ in range(2000):
        if (tick := device.schedule.next()) is None:
            break
        device.check(tick)
        if not has_room_to_load(device, tick, free_mib):
            device.fail(device.schedule.load_failed(tick))
            continue
        if tick.swap is not None:
            device.schedule.swapped(tick.swap, 1.0)
        key = device.phase(tick.tickets[0]).key
        if device.schedule.residency.device_bytes + tick.padded_lines * KEYS[key] * MIB > free_mib * MIB:
            device.fail(device.schedule.batch_failed(tick))
        else:
            device.finish(tick)
    assert len(device.schedule) == 0
    for number, (model, key, lines, _, mode) in enumerate(pictures):
        needs_mib = models[model] + KEYS[key] * (4 if modes[mode] == "bucket" else lines)
        assert (number in device.failed) == (needs_mib > free_mib), number


def has_room_to_load(device: Device, tick: Tick, free_mib: int) -> bool:
    if tick.swap is None or tick.swap.load is None:
        return True
    residency = device.schedule.residency
    leaving = {move.model for move in tick.swap.evict}
    staying = {"a": 200, "b": 350}
    held = [model for model in staying if residency.place(model) is Place.DEVICE and model not in leaving]
    return sum(staying[model] for model in {*held, tick.model}) <= free_mib
