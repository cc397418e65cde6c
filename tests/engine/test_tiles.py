"""Tiles cover every place, count for one in all, and put back together what was cut."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tintype.engine import tiles


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(24, 100), st.integers(1, 23), st.integers(0, 11))
def test_tiles_count_for_one_at_every_place(height: int, width: int, side: int, overlap: int, margin: int):
    margin = min(margin, (overlap - 1) // 2)
    grid = tiles.cover(height, width, side=side, overlap=overlap, margin=margin)
    whole = torch.zeros(1, height, width)
    for index in range(len(grid)):
        grid.lay(whole, index, torch.ones(1, grid.down.length, grid.across.length))
    assert torch.allclose(whole, torch.ones_like(whole), atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(2, 6), st.integers(1, 4))
def test_what_was_cut_is_put_together_again(down: int, across: int, side: int, factor: int):
    grid = tiles.cover(8 * down, 8 * across, side=8 * side, overlap=8, multiple=8)
    picture = torch.rand(2, 8 * down, 8 * across)
    cut = [grid.cut(picture, index) for index in range(len(grid))]
    assert torch.equal(grid.join(cut), picture)
    larger = grid.scaled(factor)
    whole = torch.zeros(2, 8 * down * factor, 8 * across * factor)
    for index, tile in enumerate(cut):
        larger.lay(whole, index, tile.repeat_interleave(factor, 1).repeat_interleave(factor, 2))
    assert torch.allclose(whole, picture.repeat_interleave(factor, 1).repeat_interleave(factor, 2), atol=1e-5)
    assert all(top % 8 == 0 and left % 8 == 0 for top, left in grid.corners())


def test_neighbours_share_at_least_what_was_asked_for_and_margins_count_for_nothing():
    grid = tiles.cover(500, 64, side=128, overlap=40, margin=12)
    starts = grid.down.starts
    assert all(later - earlier <= 88 for earlier, later in itertools.pairwise(starts))
    assert starts[0] == 0
    assert starts[-1] + 128 == 500
    weights = grid.weights(1)
    assert weights.shape == (128, 64)
    assert not weights[:12].any()
    assert not weights[-12:].any()
    assert np.allclose(grid.weights(0)[0], 1)


def test_an_overlap_within_the_margins_is_refused():
    with pytest.raises(ValueError, match="larger overlap"):
        tiles.cover(500, 500, side=64, overlap=16, margin=8)
