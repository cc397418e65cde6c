"""Drawing and scoring: pictures say what their meanings say, and the scorer sees when they do not."""

import random
from dataclasses import replace

import numpy as np
import pytest

from scripts.sketch import drawing, meaning, scoring

SIZES = ((128, 128), (64, 64), (256, 256), (64, 128), (256, 96))


def _figures(count: int, seed: int = 1) -> list[meaning.Figures]:
    rng = random.Random(seed)
    lots = [meaning.draw_lots(rng, held_out=True) for _ in range(count)]
    return [lot for lot in lots if isinstance(lot, meaning.Figures)]


def _draw(lot: meaning.Meaning, seed: int = 0, size: tuple[int, int] = (128, 128)) -> np.ndarray:
    return drawing.draw(lot, width=size[0], height=size[1], seed=seed)


RED_ON_BLUE = meaning.showcase()[0]
STAR_LEFT_OF_SQUARE = meaning.showcase()[1]


@pytest.mark.parametrize("shown", meaning.showcase())
def test_the_same_seed_draws_the_same_picture_and_another_seed_another(shown: meaning.Meaning):
    assert np.array_equal(_draw(shown, 7), _draw(shown, 7))
    assert not np.array_equal(_draw(shown, 7), _draw(shown, 8))


@pytest.mark.parametrize("size", SIZES)
def test_every_scene_can_be_drawn_at_every_size(size: tuple[int, int]):
    for land in meaning.LANDS:
        for time in meaning.TIMES:
            assert _draw(meaning.Scene(land=land, time=time), size=size).shape == (size[1], size[0], 3)
    for thing, lands in meaning.THINGS.items():
        for land in lands:
            bare, held = (_draw(meaning.Scene(land=land, thing=t), size=size) for t in ("", thing))
            assert not np.array_equal(bare, held)


@pytest.mark.parametrize("size", SIZES)
def test_the_scorer_finds_no_fault_in_drawn_pictures(size: tuple[int, int]):
    scores = [scoring.score(_draw(lot, i, size), lot) for i, lot in enumerate(_figures(120))]
    assert sum(score.is_perfect for score in scores) >= 119


def test_the_scorer_sees_a_wrong_background():
    assert isinstance(RED_ON_BLUE, meaning.Figures)
    wrong = replace(RED_ON_BLUE, background="green")
    assert scoring.score(_draw(wrong), RED_ON_BLUE).colours == (1, 2)


def test_the_scorer_sees_a_wrong_colour():
    assert isinstance(RED_ON_BLUE, meaning.Figures)
    for colour in ("orange", "pink", "brown", "purple"):
        wrong = replace(RED_ON_BLUE, subjects=(meaning.Subject(colour=colour, shape="circle"),))
        assert scoring.score(_draw(wrong), RED_ON_BLUE).colours == (1, 2)


def test_the_scorer_tells_every_shape_from_every_other():
    for asked in meaning.SHAPES:
        for drawn in meaning.SHAPES:
            lots = [
                meaning.Figures(subjects=(meaning.Subject(colour="red", shape=s),), background="white")
                for s in (asked, drawn)
            ]
            assert scoring.score(_draw(lots[1]), lots[0]).shapes == (int(asked == drawn), 1)


def test_the_scorer_sees_two_shapes_that_changed_places():
    assert isinstance(STAR_LEFT_OF_SQUARE, meaning.Figures)
    swapped = replace(STAR_LEFT_OF_SQUARE, relation="right")
    score = scoring.score(_draw(swapped), STAR_LEFT_OF_SQUARE)
    assert (score.positions, score.colours, score.shapes) == ((0, 1), (3, 3), (2, 2))


def test_the_scorer_sees_colours_that_changed_owners():
    assert isinstance(STAR_LEFT_OF_SQUARE, meaning.Figures)
    star, square = STAR_LEFT_OF_SQUARE.subjects
    swapped = replace(STAR_LEFT_OF_SQUARE, subjects=(replace(star, colour="green"), replace(square, colour="yellow")))
    score = scoring.score(_draw(swapped), STAR_LEFT_OF_SQUARE)
    assert (score.colours, score.shapes, score.positions) == ((1, 3), (2, 2), (1, 1))


def test_the_scorer_sees_a_missing_and_an_extra_shape():
    two = meaning.Figures(subjects=(meaning.Subject(colour="red", shape="star", count=2),), background="white")
    three = replace(two, subjects=(replace(two.subjects[0], count=3),))
    assert scoring.score(_draw(two), three).counts == (0, 1)
    assert scoring.score(_draw(two), three).shapes == (2, 3)
    assert scoring.score(_draw(three), two).counts == (0, 1)


def test_noise_scores_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    scores = [scoring.score(noise, lot) for lot in _figures(40)]
    assert not any(score.is_perfect for score in scores)
    assert sum(score.shapes[0] for score in scores) < 0.3 * sum(score.shapes[1] for score in scores)


def test_an_empty_picture_has_a_background_and_nothing_else():
    assert scoring.look(np.full((128, 128, 3), (38, 98, 208), np.uint8)) == ("blue", [])
