"""What is measured decides: whether to batch, what loading weighs, and what a later start knows of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.simulated import idle, phase, saturated
from tintype.engine.scheduling.costs import PASSED_OVER, TRIALS, CostsBrokenError, CostTable
from tintype.engine.scheduling.residency import Place

SIZES = (1, 2, 4, 8, 16)


def table(*, is_padding: bool = False, **seconds: float) -> CostTable:
    """With measurements of model a, shape 512: `b4=0.2` says that four lines take 0.2 s."""
    costs = CostTable(sizes=SIZES, is_padding=is_padding)
    for name, each in seconds.items():
        for _ in range(TRIALS):
            costs.note("a", "512", int(name[1:]), each)
    return costs


def count(costs: CostTable, rows: int, *, lines: int = 1, most: int = 100) -> int:
    return costs.count_worthwhile("a", "512", [lines * (row + 1) for row in range(rows)], most)


def test_a_picture_alone_is_measured_before_any_batch():
    assert count(table(), 8) == 1
    assert count(table(b1=0.1), 8) == 2


def test_growing_batches_are_tried_as_long_as_they_pay():
    costs = CostTable(sizes=SIZES, is_padding=False)
    tried = []
    while len(tried) < 20:
        tried.append(count(costs, 16))
        costs.note("a", "512", tried[-1], idle(phase(), tried[-1]))
    assert tried == [1] * 3 + [2] * 3 + [4] * 3 + [8] * 3 + [16] * 8


def test_a_batch_that_does_not_pay_is_tried_three_times():
    costs = CostTable(sizes=SIZES, is_padding=False)
    tried = []
    while len(tried) < 20:
        tried.append(count(costs, 16))
        costs.note("a", "512", tried[-1], saturated(phase(), tried[-1]))
    assert tried == [1] * 3 + [2] * 3 + [1] * 14


@pytest.mark.parametrize(("seconds", "rows"), [(0.179, 2), (0.181, 1)])
def test_a_batch_of_two_has_to_take_less_than_nine_tenths_of_one_after_the_other(seconds, rows):
    assert count(table(b1=0.1, b2=seconds), 2) == rows


def test_the_published_curve_of_a_large_model_at_512_is_batched_up_to_where_it_flattens():
    costs = table(b1=0.167, b2=0.183, b4=0.240, b8=0.425, b16=0.832)
    assert count(costs, 16) == 8


def test_the_published_curve_of_a_large_model_at_1024_is_not_batched():
    assert count(table(b1=0.243, b2=0.474, b4=0.948), 4) == 1


def test_a_part_filled_batch_is_weighed_with_what_the_filling_costs():
    flat = {"b1": 0.1, "b2": 0.11, "b4": 0.13}
    assert count(table(is_padding=True, b8=0.17, **flat), 5) == 5
    assert count(table(is_padding=True, b8=0.25, **flat), 5) == 4


def test_no_batch_is_larger_than_memory_allows():
    assert count(table(b1=0.1, b2=0.11, b4=0.12, b8=0.13), 8, most=7) == 4


def test_a_slow_first_run_does_not_count():
    costs = table(b1=0.1)
    for seconds in (30.0, 0.12, 0.12):
        costs.note("a", "512", 2, seconds)
    assert costs.seconds("a", "512", 2) == 0.12


def test_a_batch_size_that_did_not_pay_is_measured_anew_in_time():
    costs = table(b1=0.1, b2=0.2)
    assert {count(costs, 2) for _ in range(PASSED_OVER)} == {1}
    assert count(costs, 2) == 2


@given(
    measured=st.lists(st.tuples(st.integers(1, 40), st.floats(1e-4, 100)), min_size=1, max_size=40),
    is_padding=st.booleans(),
)
def test_no_batch_is_predicted_to_take_longer_than_a_larger_one_that_was_measured(measured, is_padding):
    costs = CostTable(sizes=SIZES, is_padding=is_padding)
    for lines, seconds in measured:
        costs.note("a", "512", lines, seconds)
    known = [(row.lines, row.seconds) for row in costs.rows()]
    assert known == sorted(known)
    assert [seconds for _, seconds in known] == sorted(seconds for _, seconds in known)
    assert all(costs.seconds("a", "512", lines) > 0 for lines in range(1, 41))


def test_between_two_sizes_lies_what_is_between():
    costs = table(b4=0.2, b8=0.4)
    assert costs.seconds("a", "512", 5) == pytest.approx(0.25)
    for _ in range(9):
        costs.note("a", "512", 6, 0.36)
    assert costs.seconds("a", "512", 6) == pytest.approx(0.36, rel=0.1)


def test_what_was_never_measured_is_taken_from_what_is_alike():
    costs = table(b2=0.2)
    costs.note("b", "512", 1, 9.0)
    assert costs.seconds("a", "512", 4) == pytest.approx(0.4)
    assert costs.seconds("a", "1024", 1) == pytest.approx(0.1)
    assert CostTable(sizes=SIZES, is_padding=False).seconds("a", "512", 2) > 0


def test_loading_takes_what_it_took_or_what_so_many_bytes_take():
    costs = table()
    guessed_s = costs.loading_s("a", Place.DISK, 10**9)
    assert costs.loading_s("a", Place.DISK, 2 * 10**9) == 2 * guessed_s
    costs.note_loading("a", Place.DISK, 7.5)
    assert costs.loading_s("a", Place.DISK, 10**9) == 7.5
    assert costs.loading_s("a", Place.HOST, 10**9) < 7.5


def test_a_later_start_decides_at_once_as_this_one_did():
    costs = table(b1=0.1, b2=0.12, b4=0.3)
    costs.note_loading("a", Place.HOST, 1.5)
    later = CostTable(sizes=SIZES, is_padding=False)
    later.restore(json.loads(json.dumps(costs.dump())))
    assert count(later, 4) == count(costs, 4) == 2
    assert later.rows() == costs.rows()
    assert later.loading_s("a", Place.HOST, 1) == 1.5


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"evaluations": [{"model": "a"}], "loading": []},
        {"evaluations": [{"model": "a", "shape": "s", "lines": "many", "seconds": [1]}], "loading": []},
        {"evaluations": [{"model": "a", "shape": "s", "lines": 0, "seconds": [1]}], "loading": []},
        {"evaluations": [{"model": "a", "shape": "s", "lines": 1, "seconds": [-1]}], "loading": []},
        {"evaluations": [{"model": "a", "shape": "s", "lines": 1, "seconds": ["NaN"]}], "loading": []},
        {"evaluations": [], "loading": [{"model": "a", "from": "the moon", "seconds": 1}]},
        {"evaluations": 3, "loading": []},
        [],
    ],
)
def test_measurements_that_cannot_be_read_are_refused_and_nothing_is_taken_from_them(broken):
    costs = table(b1=0.1)
    before = costs.dump()
    with pytest.raises(CostsBrokenError, match="delete"):
        costs.restore(broken)
    assert costs.dump() == before


def test_shapes_that_were_not_seen_for_long_are_forgotten():
    costs = table(b1=0.1)
    for number in range(1000):
        costs.note("a", f"{number}", 1, 0.1)
    assert len(costs.rows()) < 1000
    assert not costs.is_known("a", "512", 1)
