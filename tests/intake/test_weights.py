"""Weights: sound safetensors pass, all else is refused by what is wrong, and never more than safetensors takes."""

import json
import os
import random
import struct
import time

import pytest
import safetensors
import torch
from safetensors.torch import save_file

from tintype.errors import TintypeError
from tintype.intake import weights

ROUNDS = 6_000


def a_file(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def check(tmp_path, content: bytes) -> weights.Header:
    path = tmp_path / "weights.safetensors"
    path.unlink(missing_ok=True)  # cutting a file to nothing makes some file systems wait for the disk
    path.write_bytes(content)
    return weights.check(path)


def test_what_safetensors_writes_passes_with_all_it_says(tmp_path):
    tensors = {"a.weight": torch.zeros(3, 4, dtype=torch.bfloat16), "b": torch.ones(0, 2), "c": torch.tensor(1)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"ss_network_dim": "8", "name": "größe <b>"})
    header = weights.check(tmp_path / "x.safetensors")
    assert {name: (found.dtype, found.shape) for name, found in header.tensors.items()} == {
        "a.weight": ("BF16", (3, 4)),
        "b": ("F32", (0, 2)),
        "c": ("I64", ()),
    }
    assert header.metadata == {"ss_network_dim": "8", "name": "größe <b>"}


def test_every_type_that_safetensors_knows_is_known_at_its_size(tmp_path):
    for dtype, bits in weights.DTYPE_BITS.items():
        content = a_file({"w": one(dtype, [8], [0, bits])}, bytes(bits))
        assert check(tmp_path, content).tensors["w"].dtype == dtype
        safetensors.deserialize(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "shorter than"),
        (a_file({}, length=1 << 40), "claims a header"),
        (a_file(b" " * 40), "does not start with"),
        (a_file(b"{" + b'"a":' * 9), "not JSON"),
        (a_file(b'{"w":' + b"[" * 100_000), "not JSON"),
        (a_file(b'{"w":\xff\xfe}'), "not JSON"),
        (
            a_file(b'{"w":' + json.dumps(one()).encode() + b',"w":' + json.dumps(one()).encode() + b"}", bytes(8)),
            "twice",
        ),
        (a_file({"w": {**one(), "more": 1}}, bytes(8)), "not described"),
        (a_file({"w": one(shape=[True, 2])}, bytes(8)), "not described"),
        (a_file({"w": one("F31")}, bytes(8)), "unknown type 'F31'"),
        (a_file({"w": one(shape=[3])}, bytes(8)), "another size"),
        (a_file({"w": one(shape=[-2])}, bytes(8)), "-2 is no size"),
        (a_file({"w": one(shape=[2.0])}, bytes(8)), "2.0 is no size"),
        (a_file({"w": one(shape=[1 << 62, 4, 0], offsets=[0, 0])}), "too large"),
        (a_file({"w": one(offsets=[8, 0])}, bytes(8)), "another size"),
        (a_file({"w": one(offsets=[8, 16])}, bytes(16)), "a gap lies before tensor 'w'"),
        (a_file({"v": one(), "w": one(offsets=[4, 12])}, bytes(12)), "another overlaps tensor 'w'"),
        (a_file({"w": one()}, bytes(9)), "its data after 9"),
        (a_file({"w": one()}, bytes(7)), "its data after 7"),
        (a_file({"__metadata__": {"a": 1}}), "metadata are not texts"),
        (a_file({"__metadata__": {"a": {"b": "c"}}}), "metadata are not texts"),
        (a_file(b'{"__metadata__":{"a":"\\ud800"}}'), "half a character"),
        (a_file({"w" * 2000: one()}, bytes(8)), "name is too long"),
        (b"GGUF" + bytes(60), "a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<!doctype html><title>Sign in", "a web page"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_breaks_a_rule_is_refused_by_its_name(tmp_path, content, words):
    with pytest.raises(weights.WeightsInvalidError) as caught:
        check(tmp_path, content)
    assert words in caught.value.detail
    assert (caught.value.status, caught.value.code) == (422, "weights_invalid")


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "weights.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 8 << 30) + b"{")
        file.truncate(9 << 30)
    with pytest.raises(weights.WeightsInvalidError, match="at most 16,777,216"):
        weights.check(path)


def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(weights.WeightsInvalidError, match="not a regular file"):
        weights.check(tmp_path / "pipe.safetensors")


def test_what_passes_is_what_safetensors_takes_whatever_was_mutated(tmp_path):
    """Bytes flipped, cut, doubled, and numbers and words of the header exchanged."""
    metadata = {"ss_tag": "a \\ud800 \u00e9 \x7f", "n": "1"}
    header = {"__metadata__": metadata, "a": one(), "b": one("F16", [2, 2], [8, 16]), "c": one("U8", [0], [16, 16])}
    whole = a_file(header, bytes(range(16)))
    words = [
        b"F32",
        b"F16",
        b"F4",
        b"U8",
        b"-0",
        b"0",
        b"1",
        b"2",
        b"8",
        b"16",
        b"1e1",
        b"1.0",
        b"NaN",
        b"null",
        b"true",
    ]
    words += [
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\\ud800",
        b"\\u0061",
        b'"a"',
        b'"b"',
        b'"__metadata__"',
        b" ",
        b"\t",
    ]
    words += [b"18446744073709551616", b"\xef\xbb\xbf", b"\x00", b"\n", b"\xed\xa0\x80"]
    dice, passed, began = random.Random(7), 0, time.monotonic()
    for _ in range(ROUNDS):
        text = bytearray(whole[8:-16])
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(text))
            word = dice.choice(words)
            match dice.randrange(5):
                case 0:
                    text[at] = dice.randrange(256)
                case 1:
                    text[at : at + len(word)] = word
                case 2:
                    text[at:at] = word
                case 3:
                    del text[at : at + dice.randint(1, 4)]
                case _:
                    text = bytearray(bytes(text).replace(dice.choice(words), word, 1)) or text
        data = bytes(dice.choice([16, 16, 16, 15, 17, 8, 0]))
        length = dice.choice([None] * 30 + [len(text) - 1, len(text) + 1, 2**63])
        content = a_file(bytes(text), data, length=length)
        try:
            check(tmp_path, content)
        except TintypeError:
            continue
        passed += 1
        safetensors.deserialize(content)  # raises for what it rejects
    assert 20 < passed < ROUNDS / 2
    assert time.monotonic() - began < 60
