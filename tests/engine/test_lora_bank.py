"""A bank keeps as many LoRAs as it has slots: the longest unused make room, and nothing else moves."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.engine import lora_files as files
from tintype.engine import loras

PATHS = ["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "conv_in"]
WORDS = ["encoder.layers.1.self_attn.q_proj", "encoder.layers.0.mlp.fc1"]


class Shelf:
    """A bank over a tiny network, with LoRA files of several kinds for it."""

    def __init__(self, folder: Path, *, slots: int = 2) -> None:
        self.folder = folder
        self.network, self.encoder = files.unet(), files.text_encoder()
        self.plain = files.unet()
        self.bank = loras.Bank(network=self.network, text_encoders={"text_encoder": self.encoder}, slots=slots, rank=4)

    def write(self, name: str, *, seed: int, rank: int = 4, paths: list[str] = PATHS, words: bool = False) -> Path:
        tensors = files.kohya(files.changes_for(self.plain, paths, seed=seed, rank=rank))
        if words:
            tensors |= files.kohya(files.changes_for(self.encoder, WORDS, seed=seed), "lora_te_")
        return files.save(self.folder, name, tensors)

    def expected(self, *, seed: int, rank: int = 4) -> torch.Tensor:
        changes = files.changes_for(self.plain, PATHS, seed=seed, rank=rank)
        return files.draw_unet(files.merged(self.plain, (changes, 1.0)), 1)

    def draws(self, name: str) -> torch.Tensor:
        self.bank.use([files.line((name, 1.0))])
        return files.draw_unet(self.network, 1)

    def addresses(self) -> list[int]:
        return [buffer.data_ptr() for _, buffer in sorted(self.network.named_buffers())]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() <= 2e-5)


def read_words(encoder: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return encoder(input_ids=torch.tensor([[98, 5, 6, 99]])).last_hidden_state


def test_loras_that_had_to_make_room_come_back_when_they_are_used(shelf: Shelf):
    for seed in range(5):
        shelf.bank.add(f"lora-{seed}", shelf.write(f"lora-{seed}", seed=seed))
    for seed in (0, 4, 2, 0, 1, 3):
        assert close(shelf.draws(f"lora-{seed}"), shelf.expected(seed=seed))


def test_the_longest_unused_lora_makes_room(shelf: Shelf):
    for name in ("first", "second"):
        shelf.bank.add(name, shelf.write(name, seed=len(name)))
    shelf.draws("first")
    shelf.bank.add("third", shelf.write("third", seed=3))
    for name in ("first", "second", "third"):
        (shelf.folder / f"{name}.safetensors").unlink()
    assert close(shelf.draws("first"), shelf.expected(seed=5))
    assert close(shelf.draws("third"), shelf.expected(seed=3))
    with pytest.raises(loras.LoraUnsupportedError, match="second"):
        shelf.draws("second")


def test_swapping_loras_moves_no_memory(shelf: Shelf):
    shelf.bank.add("lora-0", shelf.write("lora-0", seed=0))
    shelf.draws("lora-0")
    before = (shelf.addresses(), shelf.bank.version, shelf.bank.held_bytes)
    for seed in range(1, 6):
        shelf.bank.add(f"lora-{seed}", shelf.write(f"lora-{seed}", seed=seed))
        shelf.draws(f"lora-{seed}")
    assert (shelf.addresses(), shelf.bank.version, shelf.bank.held_bytes) == before


def test_nothing_of_a_lora_stays_in_the_page_it_leaves(shelf: Shelf):
    wide, narrow = shelf.write("wide", seed=1), shelf.write("narrow", seed=2, rank=2, paths=PATHS[:1])
    shelf.bank.add("narrow", narrow)
    alone = shelf.draws("narrow")
    for name in ("wide", "wider", "narrow again"):
        shelf.bank.add(name, narrow if "narrow" in name else wide)
    shelf.bank.add("narrow once more", narrow)
    assert torch.equal(shelf.draws("narrow once more"), alone)


def test_more_loras_at_once_than_slots_are_refused_by_name(shelf: Shelf):
    names = ["a", "b", "c"]
    for seed, name in enumerate(names):
        shelf.bank.add(name, shelf.write(name, seed=seed))
    assert shelf.bank.can_hold(["a", "b", "a"])
    assert not shelf.bank.can_hold(names)
    with pytest.raises(loras.LorasCrowdedError, match=r"3 LoRAs .* and 2 can be held"):
        shelf.bank.use([files.line((name, 1.0)) for name in names])


def test_a_lora_of_high_rank_gets_the_pages_it_needs(shelf: Shelf):
    shelf.bank.add("low", shelf.write("low", seed=1))
    low, version, held_bytes = shelf.draws("low"), shelf.bank.version, shelf.bank.held_bytes
    shelf.bank.add("high", shelf.write("high", seed=2, rank=19))
    assert shelf.bank.use([files.line(("high", 1.0)), files.line(("low", 1.0))]) == 5
    assert close(shelf.draws("high"), shelf.expected(seed=2, rank=19))
    assert torch.equal(shelf.draws("low"), low)
    assert shelf.bank.version > version
    assert shelf.bank.held_bytes == held_bytes / 3 * 7  # one page of zeros and two slots; then six pages in use


def test_a_file_that_changed_is_read_anew_and_one_that_did_not_is_not(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    path = shelf.write("lora", seed=1)
    shelf.bank.add("lora", path)
    with monkeypatch.context() as patched:
        patched.setattr(loras.formats, "read", lambda *_: pytest.fail("read again"))
        shelf.bank.add("lora", path)
    shelf.write("lora", seed=2, rank=5)
    shelf.bank.add("lora", path)
    assert close(shelf.draws("lora"), shelf.expected(seed=2, rank=5))


def test_a_lora_that_does_not_fit_leaves_the_bank_as_it_was(shelf: Shelf):
    shelf.bank.add("good", shelf.write("good", seed=1))
    before = shelf.draws("good")
    for name in ("good", "bad"):
        wrong = files.save(shelf.folder, "wrong", {"lora_unet_no.lora_down.weight": torch.ones(2, 2)})
        with pytest.raises(loras.LoraMisfitError):
            shelf.bank.add(name, wrong)
    assert torch.equal(shelf.draws("good"), before)


def test_text_encoders_read_with_the_loras_of_the_picture(shelf: Shelf):
    shelf.bank.add("lora", shelf.write("lora", seed=1, words=True))
    changes = files.changes_for(shelf.encoder, WORDS, seed=1)
    plain = read_words(files.text_encoder())
    shelf.bank.use_for_words(files.line(("lora", -0.5)).adapters)
    assert close(read_words(shelf.encoder), read_words(files.merged(files.text_encoder(), (changes, -0.5))))
    assert not close(read_words(shelf.encoder), plain)
    shelf.bank.use_for_words(())
    assert torch.equal(read_words(shelf.encoder), plain)


def test_the_key_of_words_tells_what_changes_how_they_read_and_nothing_else(shelf: Shelf, tmp_path: Path):
    shelf.bank.add("words", shelf.write("words", seed=1, words=True))
    shelf.bank.add("other", shelf.write("other", seed=2, words=True))
    shelf.bank.add("picture", shelf.write("picture", seed=3))

    def key(*adapters: tuple[str, float]) -> str:
        return shelf.bank.words_key(files.line(*adapters).adapters)

    assert key() == key(("picture", 1.0)) == key(("words", 0.0)) == ""
    assert key(("words", 1.0)) == key(("picture", 0.3), ("words", 1.0))
    assert (
        len({key(("words", 1.0)), key(("words", 0.5)), key(("other", 1.0)), key(("words", 1.0), ("other", 1.0))}) == 4
    )
    elsewhere = loras.Bank(network=files.unet(), text_encoders={"text_encoder": files.text_encoder()})
    elsewhere.add("under another name", tmp_path / "words.safetensors")
    assert elsewhere.words_key(files.line(("under another name", 1.0)).adapters) == key(("words", 1.0))


def test_loras_can_come_inside_inference_mode_and_outside(shelf: Shelf):
    with torch.inference_mode():
        shelf.bank.add("inside", shelf.write("inside", seed=1))
        shelf.bank.use([files.line(("inside", 1.0))])
    shelf.bank.add("outside", shelf.write("outside", seed=2, rank=30))
    with torch.inference_mode():
        shelf.bank.add("inside again", shelf.write("again", seed=3, rank=40))
    for name, options in {"inside": {"seed": 1}, "outside": {"seed": 2, "rank": 30}}.items():
        assert close(shelf.draws(name), shelf.expected(**options))
