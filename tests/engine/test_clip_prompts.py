"""How prompts become chunks of tokens, and what readings depend on."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.engine.parity import tiny_unets
from tintype.engine import clip_prompts, clip_tokens, learned_words
from tintype.engine.clip_prompts import Encoder, Reader
from tintype.engine.loading import ModelBrokenError
from tintype.providers.contract import GenerationRequest, ModelFiles

ROOM = 75


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    tiny_unets.write_tokenizer(folder)
    return clip_tokens.tokenizer(folder)


def spelled(prompt: str, tokenizer: object, **learned: int) -> list[str]:
    """The prompt's tokens (letters, here) chunk by chunk; learned vectors as stars."""
    chunks = clip_tokens.split(prompt, tokenizer, learned=learned)
    assert all(len(chunk.tokens) == 77 for chunk in chunks)
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    return [
        "".join(
            "*" if token.learned else tokenizer.convert_ids_to_tokens(token.id).removesuffix("</w>")
            for token in chunk.tokens
            if token.id not in special
        )
        for chunk in chunks
    ]


def test_a_chunk_that_is_full_ends_at_its_last_comma_if_that_is_near(tokenizer: object):
    assert spelled("x" * 60 + "," + "y" * 30, tokenizer) == ["x" * 60 + ",", "y" * 30]
    assert spelled("x" * 50 + "," + "y" * 30, tokenizer) == ["x" * 50 + "," + "y" * 24, "y" * 6]
    assert spelled("x" * ROOM, tokenizer) == ["x" * ROOM]
    assert spelled("", tokenizer) == [""]


def test_break_begins_a_new_chunk(tokenizer: object):
    assert spelled("ab BREAK cd", tokenizer) == ["ab", "cd"]


def test_the_vectors_of_a_learned_word_stay_together(tokenizer: object):
    assert spelled("x" * 73 + " toy y", tokenizer, toy=3) == ["x" * 73, "***y"]
    assert spelled("toy toys TOY", tokenizer, toy=2) == ["**toys**"]


def test_a_prompt_is_read_alike_whatever_was_read_before(tokenizer: object):
    torch.manual_seed(0)
    reader = Reader([Encoder(network=tiny_unets.text_encoder(), tokenizer=tokenizer, layer="last")])
    with torch.inference_mode():
        first = reader.read("a cat").tokens
        reader.read("a (cat:1.5) BREAK and more")
        reader.forget()
        assert torch.equal(reader.read("a cat").tokens, first)
        assert reader.read("a cat") is reader.read("a cat")
        assert not torch.equal(reader.read("a (cat:1.5)").tokens, first)
        assert not torch.equal(reader.read("a cat", skipped=1).tokens, first)
        assert torch.equal(reader.read("a cat", chunks=2).tokens[:, :77], first)
        assert reader.read("a cat", chunks=2).tokens.shape == (1, 154, tiny_unets.TOKEN_WIDTH)


def test_weights_keep_the_mean_of_a_chunk(tokenizer: object):
    torch.manual_seed(0)
    reader = Reader([Encoder(network=tiny_unets.text_encoder(), tokenizer=tokenizer, layer="last")])
    with torch.inference_mode():
        plain, weighted = reader.read("a red cat").tokens, reader.read("a (red:1.7) cat").tokens
    assert weighted.mean().item() == pytest.approx(plain.mean().item(), rel=1e-4)


def test_as_many_chunks_are_counted_as_are_read(tokenizer: object):
    prompt = "x" * 60 + ",toy " + "y" * 30
    words = [learned_words.LearnedWord(word="toy", by_width={8: torch.zeros(70, 8)})]
    assert clip_prompts.count_chunks(prompt, [tokenizer], words) == len(spelled(prompt, tokenizer, toy=70)) == 3


def test_a_word_learned_for_another_model_is_refused_with_what_to_do(tmp_path: Path):
    safetensors.torch.save_file(
        {"clip_l": torch.zeros(2, 8), "clip_g": torch.zeros(2, 12)}, tmp_path / "toy.safetensors"
    )
    files = ModelFiles(id="toy", family="", folder=str(tmp_path))
    request = GenerationRequest(
        id="", task="text_to_image", model=files, prompt="", negative_prompt="", width=64, height=64, seeds=(1,),
        steps=1, guidance_scale=1.0, sampler="euler", companions={"embedding": files},
    )  # fmt: skip
    (word,) = learned_words.of(request)
    assert word.word == "toy"
    assert word.vectors(8).shape == (2, 8)
    with pytest.raises(ModelBrokenError, match=r"8, 12 numbers and this model reads 16; choose one"):
        word.vectors(16)
