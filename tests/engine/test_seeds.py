"""What a seed promises: the same picture alone, among others, and when it joins while others are under way."""

import numpy as np
import pytest

from tests.engine.engines import Engine, request
from tintype.providers.contract import GenerationRequest

PROMPTS = ("a yellow star on a purple background", "mountains at night", "a ring", "two green squares")


def others(mode: str) -> list[GenerationRequest]:
    """Seven requests of other people, of many lengths and strengths, in the size of the one looked at."""
    return [
        request(
            id=f"other-{index}", prompt=PROMPTS[index % 4], seeds=(100 + index,), steps=3 + 2 * index,
            guidance_scale=1.0 + index, seed_mode=mode, on_behalf_of=f"person-{index}",
        )
        for index in range(7)
    ]  # fmt: skip


def measure(engine: Engine) -> None:
    """Teach the engine what batches cost, so that it forms them: as on any device that has worked a while."""
    for lines in (1, 2, 4, 8, 16, 32):
        for _ in range(3):
            engine.runner._costs.note("sketch", "64x64", lines, 0.01 * (1 + 0.05 * lines))


def psnr_db(ours: np.ndarray, theirs: np.ndarray) -> float:
    error = np.square(ours.astype(float) - theirs.astype(float)).mean()
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("mode", ["strict", "bucket", "fast"])
@pytest.mark.parametrize("late", [False, True], ids=["together", "joining while others are under way"])
def test_a_seed_keeps_its_promise_among_seven_others(fresh_engine: Engine, mode: str, late: bool):
    wanted = request(steps=9, seed_mode=mode, on_behalf_of="me")
    alone = fresh_engine.draw(wanted)[0].pixels
    measure(fresh_engine)
    asked = [fresh_engine.ask(other) for other in others(mode)]
    if late:
        asked[-1].until_step(2)
    among = fresh_engine.draw(wanted)[0].pixels
    for one in asked:
        assert len(one.outputs()) == 1
    if mode == "fast":
        assert psnr_db(among, alone) >= 45
        assert np.abs(among.astype(int) - alone.astype(int)).max() <= 2
    else:
        assert np.array_equal(among, alone)


def test_what_was_asked_for_in_one_request_is_what_each_seed_gives_alone(engine: Engine):
    together = engine.draw(request(seeds=(1, 2, 3), seed_mode="strict"))
    alone = engine.draw(request(seeds=(2,), seed_mode="strict"))
    assert [item.seed for item in together] == [1, 2, 3]
    assert np.array_equal(together[1].pixels, alone[0].pixels)
    assert not np.array_equal(together[0].pixels, together[1].pixels)


@pytest.mark.parametrize("mode", ["strict", "bucket"])
def test_another_start_of_the_engine_gives_the_same_bits(engine: Engine, fresh_engine: Engine, mode: str):
    wanted = request(seed_mode=mode)
    assert np.array_equal(engine.draw(wanted)[0].pixels, fresh_engine.draw(wanted)[0].pixels)
