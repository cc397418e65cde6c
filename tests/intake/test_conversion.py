"""Pickles of weights: what is only tensors comes out bit for bit, what is more is not run."""

import asyncio
import builtins
import os
import pickle
import re
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tintype.errors import TintypeError
from tintype.intake import conversion, sandbox
from tintype.settings import Intake

INTAKE = Intake(convert_timeout_s=60)


class Calling:
    """Pickles to a call: `Calling(os.system, "touch x")`."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


async def convert(source: Path, target: Path, intake: Intake = INTAKE) -> conversion.Converted:
    return await conversion.convert(source, target, intake)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_a_state_dict_comes_out_bit_for_bit(tmp_path):
    torch.manual_seed(1)
    base = torch.randn(64, 32)
    state = {
        "a": base,
        "a.tied": base,
        "a.turned": base.t(),
        "a.part": base[3:7, ::2],
        "half": torch.randn(5).half(),
        "brain": torch.randn(5).bfloat16(),
        "eighth": torch.randn(8).to(torch.float8_e4m3fn),
        "whole": torch.arange(7),
        "bits": torch.frombuffer(bytearray(b"\x00\x00\xc0\x7f\x01\x00\x80\x7f\x00\x00\x00\x80"), dtype=torch.float32),
        "nothing": torch.zeros(0, 3),
        "one": torch.tensor(True),
    }
    source, target = tmp_path / "weights.ckpt", tmp_path / "weights.safetensors"
    torch.save({"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}}, source)
    before = source.read_bytes()
    converted = await convert(source, target)
    assert set(converted.left_out) == {"epoch", "optimizer"}
    assert converted.header.tensors.keys() == state.keys()
    loaded = load_file(target)
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert loaded[name].contiguous().view(-1).view(torch.uint8).tolist() == (
            tensor.contiguous().view(-1).view(torch.uint8).tolist()
        ), name
    assert source.read_bytes() == before
    assert left_in(tmp_path) == {"weights.ckpt", "weights.safetensors"}
    with safe_open(target, "pt") as file:
        assert file.metadata() is None


async def test_the_old_format_without_a_zip_is_converted_too(tmp_path):
    source = tmp_path / "weights.pth"
    torch.save({"params": {"w": torch.arange(6.0)}}, source, _use_new_zipfile_serialization=False)
    await convert(source, tmp_path / "weights.safetensors")
    assert load_file(tmp_path / "weights.safetensors")["w"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["os.system", "builtins.exec", "hidden", "in a newer protocol"])
async def test_a_pickle_that_calls_is_refused_and_does_not_run(tmp_path, kind):
    marker = tmp_path / "ran"
    calling = {
        "os.system": Calling(os.system, f"touch {marker}"),
        "builtins.exec": Calling(builtins.exec, f"open({str(marker)!r}, 'w')"),
        "in a newer protocol": Calling(os.system, f"touch {marker}"),
        "hidden": {"state_dict": {"w": torch.zeros(2), "x": [Calling(os.mkdir, str(marker))]}},
    }[kind]
    source = tmp_path / "weights.pth"
    if kind == "hidden":
        torch.save(calling, source)
    else:
        source.write_bytes(pickle.dumps(calling, protocol=4 if kind == "in a newer protocol" else 2))
    with pytest.raises(TintypeError, match=r"(?s)nothing.*was run.*\.safetensors") as caught:
        await convert(source, tmp_path / "weights.safetensors")
    if kind == "in a newer protocol":
        assert caught.value.code == "weights_not_convertible"
    else:
        assert caught.value.code == "pickle_unsafe"
        assert re.search(r"would run `(posix\.system|exec|posix\.mkdir)`", caught.value.detail)
    assert not marker.exists()
    assert left_in(tmp_path) == {"weights.pth"}


async def test_without_torchs_guard_the_walls_hold_nothing_is_written_outside_and_nobody_is_called(tmp_path):
    """The same call through plain pickle, in the same sandbox: it runs there, and reaches nothing."""
    outside, folder = tmp_path / "outside", tmp_path / "inside"
    folder.mkdir()
    script = (
        "import pickle, os, socket\n"
        f"for act in (lambda: open({str(outside)!r}, 'w'), lambda: socket.create_connection(('127.0.0.1', 9)),\n"
        f"            lambda: os.symlink('/', {str(outside)!r}), lambda: os.kill(os.getppid(), 0)):\n"
        "    try:\n        act(); print('done')\n"
        "    except PermissionError: print('refused')\n"
        "print(sorted(os.environ))\n"
    )
    limits = sandbox.Limits(wall_s=20, cpu_s=10, memory_bytes=1 << 30, file_bytes=1 << 20)
    os.environ["HF_TOKEN"] = "hf_not_to_be_seen"
    try:
        ended = await asyncio.to_thread(sandbox.run, [sys.executable, "-I", "-c", script], folder, limits)
    finally:
        del os.environ["HF_TOKEN"]
    lines = ended.output.decode().splitlines()
    if not (ended.without_network and ended.writes_inside):
        pytest.skip("this kernel has no seccomp or Landlock: docs/hardening.md says what then holds")
    assert lines[:3] == ["refused"] * 3, ended
    assert "HF_TOKEN" not in lines[-1]
    assert not outside.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(60)])
async def test_what_is_no_pickle_is_refused(tmp_path, content):
    source = tmp_path / "weights.bin"
    source.write_bytes(content)
    with pytest.raises(conversion.NotConvertibleError, match="version"):
        await convert(source, tmp_path / "weights.safetensors")


async def test_what_holds_no_tensors_by_name_is_refused(tmp_path):
    source = tmp_path / "weights.pt"
    torch.save([torch.zeros(3)], source)
    with pytest.raises(conversion.NotConvertibleError):
        await convert(source, tmp_path / "weights.safetensors")


async def test_a_view_that_repeats_one_number_a_trillion_times_is_refused(tmp_path):
    source = tmp_path / "weights.pt"
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, source)
    assert source.stat().st_size < 10_000
    with pytest.raises(conversion.ConversionTooLargeError):
        await convert(source, tmp_path / "weights.safetensors")


async def test_a_file_that_inflates_to_a_hundred_times_its_size_is_stopped(tmp_path):
    plain, source = tmp_path / "plain.pt", tmp_path / "weights.pt"
    torch.save({"w": torch.zeros(3 << 26)}, plain)  # 768 MiB of nothing
    with zipfile.ZipFile(plain) as read, zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as write:
        for entry in read.infolist():
            with read.open(entry) as inflated, write.open(entry.filename, "w") as deflated:
                while chunk := inflated.read(1 << 20):
                    deflated.write(chunk)
    plain.unlink()
    assert source.stat().st_size < 8 << 20
    with pytest.raises(TintypeError) as caught:
        await convert(source, tmp_path / "weights.safetensors")
    assert caught.value.code == "conversion_too_large", caught.value.detail
    assert left_in(tmp_path) == {"weights.pt"}


async def test_a_conversion_that_takes_too_long_is_ended(tmp_path):
    source = tmp_path / "weights.pt"
    torch.save({"w": torch.zeros(2)}, source)
    began = time.monotonic()
    with pytest.raises(conversion.ConversionTooLargeError, match="too long"):
        await convert(source, tmp_path / "weights.safetensors", Intake(convert_timeout_s=0.2))
    assert time.monotonic() - began < 5
    assert left_in(tmp_path) == {"weights.pt"}
