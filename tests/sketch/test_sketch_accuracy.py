"""The shipped weights draw what sentences ask for: the benchmark's pictures, fewer of them, against what may ship."""

import pytest

from benchmarks import sketch_accuracy
from tests.sketch.test_sketch_model import FOLDER

SENTENCES = 40


@pytest.fixture(scope="module")
def shares() -> dict[str, float]:
    cases = sketch_accuracy.draw_all(FOLDER, sketch_accuracy.questions(SENTENCES, seed=0))
    return sketch_accuracy.percentages(cases)


@pytest.mark.parametrize("kind", sketch_accuracy.FLOOR)
def test_the_shipped_weights_are_above_what_may_ship(shares: dict[str, float], kind: str):
    assert shares[kind] >= sketch_accuracy.FLOOR[kind]
