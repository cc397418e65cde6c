"""The order of work, decided without tensors."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from tintype.engine.schedule import Schedule


@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8), steps=st.integers(1, 50))
def test_every_row_makes_exactly_its_steps_and_none_is_lost(seeds: list[int], steps: int):
    schedule = Schedule(seeds=seeds, steps=steps)
    made = [0] * len(seeds)
    finished: list[int] = []
    while (row := schedule.pick()) is not None:
        assert row.seed == seeds[row.index]
        schedule.advance(row)
        made[row.index] += 1
        if row.is_done:
            finished.append(row.index)
    assert made == [steps] * len(seeds)
    assert finished == list(range(len(seeds)))
    assert schedule.done == schedule.total == steps * len(seeds)


def test_what_was_finished_before_is_left_out():
    schedule = Schedule(seeds=[1, 2, 3], steps=2, finished={0, 2})
    row = schedule.pick()
    assert row is not None
    assert row.index == 1
    assert schedule.done == 4


def test_the_scheduler_imports_no_torch():
    import subprocess

    code = "import sys, tintype.engine.schedule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
