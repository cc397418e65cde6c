"""Which pictures share an evaluation, in which order, and what never happens, whatever arrives."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.simulated import MIB, Device, idle, phase, saturated, schedule, ticket
from tintype.engine.scheduling.values import Policy

MODELS = {"a": 300, "b": 500, "c": 400}

PHASES = st.builds(
    phase,
    st.integers(1, 6),
    model=st.sampled_from(sorted(MODELS)),
    key=st.sampled_from(["256", "512", "1024"]),
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
