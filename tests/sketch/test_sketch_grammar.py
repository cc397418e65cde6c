"""The picture grammar: meanings, their sentences and what training may see of them."""

import random

from scripts.sketch import meaning, tokens, wording


def _lots(count: int, *, held_out: bool = False, seed: int = 1) -> list[meaning.Meaning]:
    rng = random.Random(seed)
    return [meaning.draw_lots(rng, held_out=held_out) for _ in range(count)]


def test_training_never_draws_a_held_out_meaning():
    held_out = {meaning.key(lot) for lot in _lots(500, held_out=True)}
    trained = {meaning.key(lot) for lot in _lots(20_000, seed=2)}
    assert len(held_out) > 400
    assert not held_out & trained


def test_no_training_sentence_equals_a_held_out_one():
    held_out = {wording.say(lot) for lot in _lots(500, held_out=True)}
    rng = random.Random(4)
    assert not held_out & {wording.word(lot, rng) for lot in _lots(20_000, seed=3)}


def test_one_figure_in_twenty_is_held_out():
    rng = random.Random(5)
    share = sum(meaning.is_held_out(meaning._figures(rng)) for _ in range(10_000)) / 10_000
    assert 0.04 < share < 0.06


def test_what_people_see_first_is_trained_on():
    trained = {meaning.key(lot) for lot in _lots(2_000)}
    assert {meaning.key(shown) for shown in meaning.showcase()} <= trained


def test_the_example_sentences_are_the_plainest_wordings_of_the_showcase():
    assert [wording.say(shown) for shown in meaning.showcase()] == [
        "a red circle on a blue background",
        "a small yellow star left of a green square on a white background",
        "a house by the sea at sunset",
        "mountains at night",
        "a lighthouse at night",
    ]


def test_left_of_and_right_of_turned_round_mean_the_same():
    star = meaning.Subject(colour="yellow", shape="star")
    ring = meaning.Subject(colour="blue", shape="ring")
    assert meaning.key(meaning.Figures(subjects=(star, ring), relation="left")) == meaning.key(
        meaning.Figures(subjects=(ring, star), relation="right")
    )
    assert meaning.key(meaning.Figures(subjects=(star, ring), relation="left")) != meaning.key(
        meaning.Figures(subjects=(ring, star), relation="left")
    )


def test_a_subject_never_has_the_colour_of_its_background():
    for lot in _lots(5_000):
        if isinstance(lot, meaning.Figures):
            assert all(subject.colour != lot.background for subject in lot.subjects)


def test_every_wording_is_in_the_vocabulary_and_fits_the_text_encoder():
    tokenizer = tokens.build_tokenizer()
    rng = random.Random(6)
    unknown = tokenizer.unk_token_id
    for lot in _lots(5_000):
        sentence = wording.word(lot, rng).replace(wording.STRANGE, "")
        ids = tokenizer(sentence).input_ids
        assert unknown not in ids, sentence
        assert len(ids) <= tokens.LENGTH, sentence


def test_capitals_and_punctuation_do_not_matter_and_strange_words_become_one_token():
    tokenizer = tokens.build_tokenizer()
    plain = tokenizer("a red circle on a blue background").input_ids
    assert tokenizer("A RED circle, on a blue background!").input_ids == plain
    assert tokenizer("a flamboyant circle").input_ids[2] == tokenizer.unk_token_id


def test_a_long_sentence_is_cut_but_keeps_its_end_token():
    tokenizer = tokens.build_tokenizer()
    ids = tokens.encode(tokenizer, ["red circle " * 100, ""])
    assert ids.shape == (2, tokens.LENGTH)
    assert ids[0, -1] == tokenizer.eos_token_id
    assert ids[1].tolist() == [1, 3] + [0] * (tokens.LENGTH - 2)
