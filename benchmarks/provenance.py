"""What labelling a picture costs: visible label, invisible mark, file, signature, each alone and all together.

    python -m benchmarks.provenance [--side 1024] [--rounds 15] [--out FILE.json]

One thread. The picture is noise with the spectrum of a photograph, which compresses worse than most pictures do, so
the file is an upper bound. Times are processor time, which other work on the machine cannot stretch much, and the
median of the rounds.
"""

import argparse
import io
import json
import os
import platform
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import c2pa
import numpy as np
import PIL
from PIL import Image

import tintype
from tests import pictures
from tintype import settings
from tintype.media import encoding, xmp
from tintype.media.provenance import findings, gate, manifest, mark, visible
from tintype.media.provenance.manifest import Facts, Ingredient
from tintype.media.settings_text import GenerationSettings

GOAL_MS = 120
FACTS = Facts(model="sketch", model_version="1")
SETTINGS = GenerationSettings(prompt="a lighthouse on a cliff at sunset", seed=42, steps=20, model="sketch")
LABEL = xmp.Label(system="Tintype", model="sketch")


def measured(work: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median processor time and wall time in milliseconds, after one run to warm up."""
    work()
    spent, taken = [], []
    for _ in range(rounds):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        spent.append((time.process_time() - cpu) * 1000)
        taken.append((time.perf_counter() - wall) * 1000)
    return {"cpu_ms": round(statistics.median(spent), 1), "wall_ms": round(statistics.median(taken), 1)}


def parts(pixels: np.ndarray, issuer: gate.Issuer) -> dict[str, Callable[[], object]]:
    """Each part of the gate alone, then the whole, by name."""
    label = visible.VisibleLabel(text="Made by AI")
    work: dict[str, Callable[[], object]] = {
        "visible label": lambda: visible.draw(pixels, label),
        "invisible mark": lambda: mark.embed(pixels, mark.Message.CREATED, issuer.mark_key),
    }
    upload = encoding.encode(pixels, "jpeg", None, LABEL)
    before = Ingredient(data=upload, content_type="image/jpeg", relation="parentOf")
    for kind in encoding.CONTENT_TYPES:
        data = encoding.encode(pixels, kind, SETTINGS, LABEL)
        content_type = encoding.CONTENT_TYPES[kind]
        work[f"{kind} file"] = lambda kind=kind: encoding.encode(pixels, kind, SETTINGS, LABEL)
        work[f"{kind} signature"] = lambda data=data, content_type=content_type: manifest.sign(
            data, content_type, FACTS, issuer.credentials
        )
        work[f"{kind} in all"] = lambda kind=kind: gate.seal(pixels, kind, SETTINGS, FACTS, issuer)
        work[f"{kind} in all, edited"] = lambda kind=kind: gate.seal(pixels, kind, SETTINGS, FACTS, issuer, [before])
    work["thumbnail in all"] = lambda: gate.seal_thumbnail(pixels, FACTS, issuer)
    return work | readers(pixels, issuer)


def readers(pixels: np.ndarray, issuer: gate.Issuer) -> dict[str, Callable[[], object]]:
    """What looking costs, and what other encoders of PNG would."""
    sealed = gate.seal(pixels, "png", SETTINGS, FACTS, issuer)
    marked = mark.embed(pixels, mark.Message.CREATED, issuer.mark_key)
    return {
        "manifest read": lambda: findings.read(sealed, "image/png"),
        "mark found": lambda: mark.detect(marked, issuer.mark_key),
        "no mark found": lambda: mark.detect(pixels, issuer.mark_key),
        "png by Pillow, level 1": lambda: Image.fromarray(pixels).save(io.BytesIO(), "PNG", compress_level=1),
        "png by Pillow, default": lambda: Image.fromarray(pixels).save(io.BytesIO(), "PNG"),
        **_opencv(pixels),
    }


def _opencv(pixels: np.ndarray) -> dict[str, Callable[[], object]]:
    try:
        import cv2
    except ImportError:
        return {}
    level = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return {"png by OpenCV, level 1": lambda: cv2.imencode(".png", pixels[:, :, ::-1], level)}


def sizes(pixels: np.ndarray, issuer: gate.Issuer) -> dict[str, int]:
    """Bytes of the files, and what the signature adds."""
    png = encoding.encode(pixels, "png", SETTINGS, LABEL)
    pillow = io.BytesIO()
    Image.fromarray(pixels).save(pillow, "PNG", compress_level=1)
    signed = manifest.sign(png, "image/png", FACTS, issuer.credentials)
    return {
        "png by fpng": len(png),
        "png by Pillow, level 1": len(pillow.getvalue()),
        "signature": len(signed) - len(png),
    }


def main() -> None:
    """Measure, print, and write JSON where asked."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--side", type=int, default=1024)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--out", type=Path)
    chosen = arguments.parse_args()
    pixels = pictures.photograph(width=chosen.side, height=chosen.side)
    with tempfile.TemporaryDirectory() as home:
        issuer = gate.open(Path(home), settings.Provenance())
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": {
            "tintype": tintype.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "zlib": zlib.ZLIB_RUNTIME_VERSION,
            "c2pa": c2pa.sdk_version(),
        },
        "side": chosen.side,
        "times": {name: measured(work, chosen.rounds) for name, work in parts(pixels, issuer).items()},
        "bytes": sizes(pixels, issuer),
    }
    for name, figures in report["times"].items():
        print(f"{name:28} {figures['cpu_ms']:8.1f} ms of a core {figures['wall_ms']:8.1f} ms by the clock")
    print(report["bytes"], report["machine"])
    whole = report["times"]["png in all"]["cpu_ms"]
    print(f"png in all: {whole} ms; the goal at 1024 pixels a side is {GOAL_MS} ms")
    if chosen.out:
        chosen.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
