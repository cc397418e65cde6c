"""The shipped model folder: small enough, complete, and drawing what people ask for first."""

import json
import pathlib

import numpy as np
import pytest

from scripts.sketch import export, meaning, sampling, scoring, wording

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tintype/catalog/builtin/sketch"
LIMIT_BYTES = 24_000_000
PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")


@pytest.fixture(scope="module")
def sketch() -> sampling.Sketch:
    return sampling.load(FOLDER)


def test_the_folder_stays_within_its_size():
    assert 1_000_000 < export.size_bytes(FOLDER) <= LIMIT_BYTES


def test_the_index_names_every_part_and_the_weights_are_half_precision():
    index = json.loads((FOLDER / "model_index.json").read_text())
    assert set(PARTS) <= set(index)
    for part in ("transformer", "vae", "text_encoder"):
        (weights,) = (FOLDER / part).glob("*.safetensors")
        with weights.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F16"}


def test_the_tokenizer_in_the_folder_knows_every_word_of_the_grammar(sketch: sampling.Sketch):
    known = sketch.tokenizer.get_vocab()
    assert not [word for word in wording.vocabulary() if word not in known]


def test_the_first_picture_everyone_sees_is_right_for_most_seeds(sketch: sampling.Sketch):
    shown = meaning.showcase()[0]
    assert isinstance(shown, meaning.Figures)
    pictures = sampling.sample(sketch, [wording.say(shown)] * 5, list(range(5)))
    assert sum(scoring.score(picture, shown).is_perfect for picture in pictures) >= 4


def test_a_picture_depends_on_its_seed_and_not_on_its_batch(sketch: sampling.Sketch):
    sentence = "mountains at night"
    alone = sampling.sample(sketch, [sentence], [3], steps=4)[0].astype(int)
    together = sampling.sample(sketch, [sentence, "a green star"], [3, 4], steps=4)[0].astype(int)
    assert np.abs(alone - together).max() <= 2
    other = sampling.sample(sketch, [sentence], [5], steps=4)[0].astype(int)
    assert np.abs(alone - other).max() > 20


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (64, 256), (256, 64), (112, 176)])
def test_every_side_from_64_to_256_works(sketch: sampling.Sketch, size: tuple[int, int]):
    picture = sampling.sample(sketch, ["a red circle on a blue background"], [0], width=size[0], height=size[1])[0]
    assert picture.shape == (size[1], size[0], 3)
    background, _ = scoring.look(picture)
    assert background == "blue"
