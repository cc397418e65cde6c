"""Mutated pictures and manifests, one after another: `python -m tests.security.mutating FIRST COUNT LAST`.

A process of its own, so that a crash of a decoder is seen and named. Writes each number into the file LAST before its
turn, and at the end one line of JSON: how many were read and refused, the slowest, the most memory taken.
"""

import json
import os
import random
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, features
from PIL.PngImagePlugin import PngInfo

from tests.processes import SCRIPTED
from tests.security import hostile
from tintype.catalog import manifest
from tintype.errors import TintypeError
from tintype.media import decoding, recall

LIMITS = decoding.Limits(max_pixels=2_000_000)
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (
    *(b"null", b"true", b"-1", b"1e999", b"NaN", b"99999999999999999999", b'"\\ud800"', b"[]", b"{}", b'""', b'"../x"'),
    *(b"[" * 50, b"{", b"}", b",", b":", b'"', b"\x00", b"\xff", b"\xef\xbb\xbf", b'"a"', b"0.5", b'{"type":"object"}'),
)
SECONDS_EACH = 20


def originals() -> list[bytes]:
    """One of each kind of file that decoders and readers of settings know, with all they may carry."""
    image, grey = hostile.picture(), hostile.picture().convert("L")
    exif, profile = hostile.located_exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a castle\nSteps: 3, Seed: 4, Sampler: Euler".encode("utf-16-be")
    texts = PngInfo()
    texts.add_text("parameters", "a castle\nNegative prompt: fog\nSteps: 28, Sampler: DPM++ 2M, CFG scale: 6, Seed: 7")
    texts.add_itxt("workflow", json.dumps({"1": {"class_type": "KSampler", "inputs": {"seed": 1}}}), zip=True)
    texts.add_text("prompt", json.dumps({"1": {"class_type": "KSampler", "inputs": {"positive": ["1", 0]}}}), zip=True)
    known = {"exif": exif, "icc_profile": profile}
    made = [
        hostile.saved(image, "PNG", pnginfo=texts, **known),
        hostile.saved(image.quantize(16), "PNG", transparency=3),
        hostile.saved(image.convert("RGBA"), "PNG", pnginfo=texts),
        hostile.saved(Image.fromarray(np.asarray(grey).astype("uint16") * 257), "PNG"),
        hostile.saved(image, "JPEG", comment=b"hello", xmp=hostile.xmp_pointing_at("http://127.0.0.1:9/"), **known),
        hostile.saved(image, "JPEG", progressive=True, subsampling=2),
        hostile.saved(image.convert("CMYK"), "JPEG"),
        hostile.saved(image, "WEBP", xmp=b"<x/>", **known),
        hostile.saved(image.convert("RGBA"), "WEBP", lossless=True),
        hostile.saved(image, "PNG", save_all=True, append_images=[image.rotate(180)]),
    ]
    return [*made, hostile.saved(image, "AVIF", **known)] if features.check("avif") else made


def mutated(data: bytes, dice: random.Random, words: tuple[bytes, ...] = ()) -> bytes:
    """`data` with one to eight places changed, cut, doubled or moved."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        at = dice.randrange(len(changed)) if changed else 0
        match dice.randrange(8):
            case 0 | 1:
                changed[at : at + 1] = bytes([dice.randrange(256)])
            case 2:
                edge = dice.choice(EDGES)
                changed[at : at + 4] = struct.pack(dice.choice("<>") + "I", edge)
            case 3:
                edge = dice.choice(EDGES) & 0xFFFF
                changed[at : at + 2] = struct.pack(dice.choice("<>") + "H", edge)
            case 4:
                del changed[at : at + dice.choice((1, 2, 4, 16, 200))]
            case 5:
                changed[at:at] = changed[at : at + dice.choice((1, 4, 64))]
            case 6:
                other = dice.randrange(len(changed)) if changed else 0
                changed[at : at + 12] = changed[other : other + 12]
            case _:
                if words:
                    changed[at : at + dice.choice((0, 0, 4))] = dice.choice(words)
                else:
                    changed[at : at + 3] = bytes(dice.randrange(256) for _ in range(3))
    return bytes(changed[: dice.randrange(len(changed))] if changed and dice.random() < 0.1 else changed)


def with_true_checksums(data: bytes) -> bytes:
    """A PNG whose chunks' checksums fit again, so that decoders go on behind them."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        if len(body) < 4 + length:
            break
        parts += [data[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + length
    return b"".join(parts) + data[at:]


def mutated_manifest(dice: random.Random) -> bytes:
    """A manifest with a place exchanged for another value, or with bytes changed."""
    whole = json.loads(json.dumps(SCRIPTED)) | {"files": [{"path": "a/b.bin", "size": 3, "sha256": "0" * 64}]}
    if dice.random() < 0.5:
        for _ in range(dice.randint(1, 3)):
            place = whole
            while True:
                key = dice.choice(list(place) if isinstance(place, dict) else range(len(place)))
                inner = place[key]
                if not isinstance(inner, dict | list) or not inner or dice.random() < 0.4:
                    break
                place = inner
            place[key] = dice.choice(
                [
                    None,
                    True,
                    -1,
                    2**70,
                    1e308,
                    "",
                    "\ud800",
                    "x" * 9999,
                    [],
                    {},
                    [[]],
                    {"a": {}},
                    "../..",
                    "/etc",
                    dict(SCRIPTED["limits"]),
                    ["a"] * 99,
                ]
            )
        return json.dumps(whole).encode()
    return mutated(json.dumps(whole).encode(), dice, WORDS)


def read_one(number: int, files: list[bytes], path: Path) -> str:
    """Whether the mutation with this number was read or refused; anything else that is raised ends the run."""
    dice = random.Random(number)
    try:
        if number % 5 == 4:
            path.unlink(missing_ok=True)
            path.write_bytes(mutated_manifest(dice))
            manifest.read(path)
            return "manifest read"
        data = mutated(dice.choice(files), dice)
        if data.startswith(hostile.PNG) and dice.random() < 0.7:
            data = with_true_checksums(data)
        recall.recall(data)
        decoded = decoding.decode(data, LIMITS, fit=dice.choice((None, 16)))
        assert decoded.pixels.shape[2:] == (3,)
        return f"{decoded.format} read"
    except TintypeError as error:
        return error.code


def main() -> None:
    """Run them all."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CPU, (count * SECONDS_EACH // 100 + 300, resource.RLIM_INFINITY))
    files, outcomes, slowest = originals(), Counter[str](), (0.0, -1)
    last = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            os.pwrite(last, f"{number:>12}".encode(), 0)
            began = time.perf_counter()
            outcomes[read_one(number, files, Path(folder, "manifest.json"))] += 1
            slowest = max(slowest, (time.perf_counter() - began, number))
    # ru_maxrss would be that of the process which started this one, where it was larger.
    peak_kib = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    print(json.dumps({"outcomes": outcomes, "slowest_s": slowest[0], "slowest": slowest[1], "peak_kib": peak_kib}))


if __name__ == "__main__":
    main()
