"""Where models are kept: never more than there is room for, and what was used last stays longest."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tintype.engine.scheduling.residency import Eviction, Place, Placement, Residency, Shed, Swap


def residency(device: int = 100, host: int = 100, **models: int) -> Residency:
    kept = Residency(device_limit_bytes=device, host_limit_bytes=host)
    for model, size in models.items():
        kept.learn(model, weights_bytes=size, block_bytes=max(size // 10, 1))
    return kept


def bring(kept: Residency, model: str, activation_bytes: int = 0, **options) -> Swap | None:
    swap = kept.plan(model, activation_bytes=activation_bytes, **options)
    if swap is not None:
        for shed in swap.shed:
            kept.shed(shed)
        for eviction in swap.evict:
            kept.evict(eviction)
        if swap.load is not None:
            kept.load(swap.load, swap.placement)
    kept.touch(model)
    return swap


def loose_of(kept: Residency, model: str) -> dict[str, int]:
    return dict(kept._held[model].loose)


@settings(max_examples=400, deadline=None)
@given(
    device=st.integers(50, 200),
    host=st.integers(0, 200),
    sizes=st.lists(st.integers(1, 150), min_size=4, max_size=4),
    uses=st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.integers(0, 100),
            st.sets(st.sampled_from("abcd")),
            st.booleans(),
            st.booleans(),
            st.sets(st.sampled_from("xyz")),
        ),
        max_size=40,
    ),
)
def test_no_limit_is_ever_exceeded_and_nothing_in_use_is_moved(device, host, sizes, uses):
    kept = residency(device, host, **dict(zip("abcd", sizes, strict=True)))
    pinned: list[str] = []
    networks = {"x": 5, "y": 11, "z": 23}
    for model, work_bytes, keep, is_alone, pins, brings in uses:
        activation_bytes = work_bytes + sum(networks[name] for name in brings)
        if not kept.can_make_room(model, activation_bytes):
            while pinned:
                kept.unpin(pinned.pop())
            continue
        options = {"keep": keep, "is_alone": is_alone, "brings": brings}
        swap = kept.plan(model, activation_bytes=activation_bytes, **options)
        assert swap is None or not {move.model for move in swap.evict} & {*pinned, model}
        assert swap is None or not {shed.model for shed in swap.shed} & {*pinned} - {model}
        bring(kept, model, activation_bytes, **options)
        assert kept.place(model) is Place.DEVICE
        there = loose_of(kept, model)
        counted_twice = sum(size for name, size in there.items() if name in brings)
        assert kept.device_bytes - counted_twice + activation_bytes <= device
        assert kept.host_bytes <= host
        assert kept.plan(model, activation_bytes=activation_bytes, **options) is None
        kept.note_beside(model, loose={**there, **{name: networks[name] for name in brings}})
        if pins:
            kept.pin(model)
            pinned.append(model)


def test_what_was_used_longest_ago_leaves_first():
    kept = residency(a=40, b=40, c=40)
    for model in "aba":
        bring(kept, model)
    assert bring(kept, "c").evict == (Eviction(model="b", to=Place.HOST),)


def test_what_somebody_waits_for_leaves_last():
    kept = residency(a=40, b=40, c=40)
    for model in "ab":
        bring(kept, model)
    assert [move.model for move in bring(kept, "c", keep={"a"}).evict] == ["b"]


def test_no_more_leaves_than_has_to():
    kept = residency(a=30, b=30, c=30, d=30)
    for model in "abc":
        bring(kept, model)
    assert len(bring(kept, "d").evict) == 1


def test_a_model_that_runs_alone_has_all_others_leave():
    kept = residency(a=30, b=30, c=30)
    for model in "ab":
        bring(kept, model)
    assert {move.model for move in bring(kept, "c", is_alone=True).evict} == {"a", "b"}


def test_what_leaves_the_device_goes_to_host_memory_and_what_lies_there_longest_to_disk():
    kept = residency(device=40, host=60, a=40, b=40, c=40)
    bring(kept, "a")
    assert bring(kept, "b").evict == (Eviction(model="a", to=Place.HOST),)
    assert bring(kept, "c").evict == (Eviction(model="a", to=Place.DISK), Eviction(model="b", to=Place.HOST))
    assert [kept.place(model) for model in "abc"] == [Place.DISK, Place.HOST, Place.DEVICE]


def test_a_model_that_returns_says_where_it_comes_from():
    kept = residency(device=40, host=60, a=40, b=40)
    assert bring(kept, "a").origin is Place.DISK
    bring(kept, "b")
    assert bring(kept, "a").origin is Place.HOST


def test_where_the_host_is_the_device_models_leave_for_disk():
    kept = residency(host=0, a=60, b=60)
    bring(kept, "a")
    assert bring(kept, "b").evict == (Eviction(model="a", to=Place.DISK),)


@pytest.mark.parametrize(
    ("size", "activation_bytes", "placement"),
    [
        (100, 0, Placement.ON_DEVICE),
        (100, 1, Placement.STREAMED),
        (150, 0, Placement.STREAMED),
        (150, 70, Placement.STREAMED),
        (150, 71, Placement.REFUSED),
        (201, 0, Placement.REFUSED),
    ],
)
def test_a_model_is_whole_streamed_or_refused_as_its_size_says(size, activation_bytes, placement):
    kept = residency(device=100, host=200, big=size)
    assert kept.choose("big", activation_bytes) is placement


def test_a_model_without_groups_cannot_be_streamed():
    kept = Residency(device_limit_bytes=100, host_limit_bytes=1000)
    kept.learn("big", weights_bytes=101)
    assert kept.choose("big", 0) is Placement.REFUSED
    assert not kept.can_make_room("big")


def test_a_model_that_is_streamed_stays_so_until_it_leaves():
    kept = residency(a=90)
    assert bring(kept, "a", 20).placement is Placement.STREAMED
    assert bring(kept, "a", 5) is None
    kept.release("a")
    assert bring(kept, "a", 5).placement is Placement.ON_DEVICE


def test_loading_is_asked_for_before_it_is_done():
    kept = Residency(device_limit_bytes=100, host_limit_bytes=100)
    for model in "ab":
        kept.learn(model, weights_bytes=60)
    assert kept.can_load("a", 40)
    assert not kept.can_load("a", 41)
    bring(kept, "a")
    assert not kept.can_load("b")
    assert kept.can_make_room("b")
    kept.pin("a")
    assert not kept.can_make_room("b")


def test_a_model_that_is_lost_while_in_use_can_still_be_let_go():
    kept = residency(a=60)
    bring(kept, "a")
    kept.pin("a")
    kept.release("a")
    assert (kept.place("a"), kept.device_bytes, kept.is_pinned) == (Place.DISK, 0, True)
    kept.unpin("a")
    assert not kept.is_pinned
    assert bring(kept, "a").load == "a"


def test_what_a_request_brought_is_shed_before_any_model_leaves():
    kept = residency(a=40, b=40)
    for model in "ab":
        bring(kept, model)
    kept.note_beside("a", loose={"network": 20})
    assert kept.device_bytes == 100
    swap = bring(kept, "b", 10)
    assert (swap.evict, swap.shed, kept.device_bytes) == ((), (Shed(model="a"),), 80)


def test_a_model_keeps_what_it_needs_and_sheds_the_rest_of_its_own():
    kept = residency(a=40)
    bring(kept, "a")
    kept.note_beside("a", loose={"needed": 20, "other": 20})
    assert bring(kept, "a", 40, brings=["needed"]) is None, "the one that is needed is in the activations"
    assert bring(kept, "a", 50, brings=["needed"]).shed == (Shed(model="a", keep=("needed",)),)
    assert kept.device_bytes == 60


def test_what_cannot_be_shed_counts_until_its_model_leaves():
    kept = residency(a=40, b=40)
    bring(kept, "a")
    kept.note_beside("a", loose={}, fixed_bytes=30)
    assert bring(kept, "b").evict == (Eviction(model="a", to=Place.HOST),)
    assert kept.device_bytes == 40


def test_a_model_that_runs_alone_sheds_too():
    kept = residency(a=40)
    bring(kept, "a")
    kept.note_beside("a", loose={"network": 20})
    assert bring(kept, "a", is_alone=True).shed == (Shed(model="a"),)
