"""Many pictures in one call: each comes out as if it were alone."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.denoising import DIFFUSION, FLOW, SHAPE, Network, generator, noise
from tintype.engine.samplers import plan as plans
from tintype.engine.samplers import rows

NETWORK = Network()
NAMES = [(name, DIFFUSION) for name in plans.SAMPLERS] + [(name, FLOW) for name in plans.FLOW_SAMPLERS]


def start(choice: int, steps: int, seed: int, *, strength: float = 1.0, shape: tuple[int, ...] = SHAPE) -> rows.Sampled:
    name, config = NAMES[choice]
    plan = plans.plan(name, config, steps, strength=strength)
    clean = noise(seed + 1000, shape) if strength < 1 else None
    return rows.begin(plan, noise(seed, shape), clean=clean, generator=generator(seed + 2000))


def ask(group: list[rows.Sampled]) -> torch.Tensor:
    """The network's answers, one row at a time: what a batch does to a network is not the samplers' matter."""
    return torch.cat([NETWORK(*rows.look([row])) for row in group])


def finish_alone(row: rows.Sampled) -> torch.Tensor:
    while not row.is_done:
        rows.advance([row], ask([row]))
    return row.latents


def test_rows_of_all_samplers_at_different_steps_equal_each_row_alone_to_the_last_bit():
    alone = [finish_alone(start(index, 4 + index % 5, index)) for index in range(len(NAMES))]
    together = [start(index, 4 + index % 5, index) for index in range(len(NAMES))]
    ticks = 0
    while active := [row for row in together[: 1 + ticks] if not row.is_done]:
        if ticks % 2:
            active.reverse()
        rows.advance(active, ask(active))
        ticks += 1
    assert all(row.is_done for row in together)
    for row, expected, (name, _) in zip(together, alone, NAMES, strict=True):
        assert torch.equal(row.latents, expected), name


@settings(deadline=None, max_examples=60)
@given(
    chosen=st.lists(
        st.tuples(
            st.integers(0, len(NAMES) - 1), st.integers(1, 9), st.sampled_from([1.0, 0.6, 0.3]), st.integers(0, 99)
        ),
        min_size=2,
        max_size=6,
    ),
    shape=st.sampled_from([(1, 4, 3, 5), (1, 4, 8, 8), (1, 4, 1, 1)]),
    data=st.data(),
)
def test_any_mix_in_any_order_leaves_every_row_as_it_is_alone(
    chosen: list[tuple[int, int, float, int]], shape: tuple[int, ...], data: st.DataObject
):
    def begun() -> list[rows.Sampled]:
        return [start(name, steps, seed, strength=strength, shape=shape) for name, steps, strength, seed in chosen]

    alone = [finish_alone(row) for row in begun()]
    together = begun()
    while active := [row for row in together if not row.is_done]:
        group = data.draw(st.permutations(active))[: data.draw(st.integers(1, len(active)))]
        rows.advance(group, ask(group))
    for row, expected in zip(together, alone, strict=True):
        assert torch.equal(row.latents, expected)


def test_a_row_that_needs_no_noise_draws_none_beside_one_that_does():
    names = [name for name, _ in NAMES]
    quiet, noisy = start(names.index("euler"), 5, 1), start(names.index("euler_a"), 5, 2)
    rows.advance([quiet, noisy], ask([quiet, noisy]))
    assert quiet.generator is not None
    assert noisy.generator is not None
    drawn = generator(2002)
    torch.randn(SHAPE, generator=drawn)
    assert torch.equal(quiet.generator.get_state(), generator(2001).get_state())
    assert torch.equal(noisy.generator.get_state(), drawn.get_state())


def test_a_sampler_that_draws_noise_asks_for_a_generator():
    with pytest.raises(ValueError, match="generator"):
        rows.begin(plans.plan("euler_a", DIFFUSION, 4), noise(1), generator=None)


def test_what_is_foreseen_is_the_picture_that_made_the_noise():
    clean, eps = noise(1), noise(2)
    for name, config, answer in [("dpmpp_2m", DIFFUSION, eps), ("euler", DIFFUSION, eps), ("euler", FLOW, eps - clean)]:
        row = rows.begin(plans.plan(name, config, 10, strength=0.5), eps, clean=clean, generator=None)
        assert torch.allclose(rows.foresee([row], answer), clean, atol=1e-4)


def test_a_perfect_network_leads_every_sampler_to_the_picture():
    clean = noise(1)
    for index, (name, config) in enumerate(NAMES):
        row = start(index, 12, 7, strength=0.9)
        while not row.is_done:
            signal, level = row.plan.signal[row.evaluation], row.plan.noise[row.evaluation]
            eps = (row.latents - signal * clean) / level
            rows.advance([row], eps - clean if config is FLOW else eps)
        rest = row.plan.noise[-1]
        assert (row.latents - clean).abs().max() < 0.02 + 5 * rest, name


def test_a_masked_part_is_as_noisy_as_the_rest():
    plan = plans.plan("unipc", DIFFUSION, 10, strength=0.5)
    row = rows.begin(plan, noise(2), clean=noise(1), generator=None)
    assert torch.equal(row.latents, rows.level(plan, 0, clean=noise(1), noise=noise(2)))
    assert torch.allclose(rows.level(plan, plan.evaluations, clean=noise(1), noise=noise(2)), noise(1), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 64, 16), (1, 4, 3, 8, 8)])
def test_packed_latents_and_those_of_videos_move_alike(shape: tuple[int, ...]):
    values = noise(1, (1, 4, 16, 16) if len(shape) == 3 else (1, 4, 8, 24))
    plan = plans.plan("unipc", DIFFUSION, 3)
    plain = rows.begin(plan, values, generator=None)
    folded = [rows.begin(plan, values.reshape(shape), generator=None) for _ in range(2)]
    while not plain.is_done:
        answer = torch.tanh(rows.look([plain])[0])
        assert torch.equal(torch.tanh(rows.look(folded)[0])[1:], answer.reshape(shape))
        rows.advance(folded, torch.cat([answer.reshape(shape)] * 2))
        rows.advance([plain], answer)
    assert torch.equal(plain.latents.reshape(shape), folded[1].latents)


def test_half_precision_answers_move_single_precision_latents():
    row = start(0, 4, 1)
    rows.advance([row], ask([row]).bfloat16())
    assert row.latents.dtype == torch.float32


def test_eight_rows_move_in_under_a_millisecond():
    group = [start(index % 8, 50, index) for index in range(8)]
    answers = ask(group)
    spent_s = []
    for _ in range(40):
        begun = time.perf_counter()
        rows.advance(group, answers)
        spent_s.append(time.perf_counter() - begun)
    assert min(spent_s) < 1e-3
