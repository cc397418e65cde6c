"""What a picture detector costs: time and memory of a classifier of ViT-B/16's size with random weights.

python -m benchmarks.detectors [--repeat 5]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch
import transformers

from tests.detectors import folders
from tintype.detectors import image_classifier, loading, pictures

SIZES = ((512, 512), (1024, 1024), (2048, 2048))


def resident_mb() -> float:
    """What this process holds in memory."""
    return psutil.Process().memory_info().rss / 1e6


def cost(call: Callable[[], object], repeat: int) -> str:
    """The median time of a call and of the processor's work on it, after one that is not counted."""
    call()
    times: list[tuple[float, float]] = []
    for _ in range(repeat):
        begun, worked = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - begun, time.process_time() - worked))
    took_s, worked_s = (statistics.median(values) for values in zip(*times, strict=True))
    return f"{took_s:.2f} s, processor {worked_s:.2f} s"


def write_vit_b(folder: Path) -> folders.Manifest:
    """A classifier folder of ViT-B/16's size at 224 pixels, as Falconsai/nsfw_image_detection has it."""
    folder.mkdir()
    config = transformers.ViTConfig(id2label={0: "normal", 1: "nsfw"}, label2id={"normal": 0, "nsfw": 1})
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(folders.preprocessing(224)))
    labels = {"normal": None, "nsfw": "sexual"}
    return folders.listed(folder, {"adapter": "image_classifier", "labels": labels})


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "vit-b"
        manifest = write_vit_b(folder)
        before_mb = resident_mb()
        begun = time.perf_counter()
        detector = loading.load(folder, manifest, "cpu")
        print(f"load with SHA-256: {time.perf_counter() - begun:.2f} s, {resident_mb() - before_mb:+.0f} MB")
        print(f"threads: {torch.get_num_threads()}, views at once: {image_classifier.BATCH['cpu']}")
        rng = np.random.default_rng(1)
        for width, height in SIZES:
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            views = len(pictures.views(height, width, side=224, tiles=pictures.Tiles()))
            took = cost(lambda pixels=pixels: detector.score_image(pixels), repeat)
            print(f"{width}x{height}: {views} views, {took}, process {resident_mb():.0f} MB")
        pixels = rng.integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
        for batch in (1, 8):
            detector._batch = batch  # type: ignore[attr-defined]
            print(f"1024x1024, {batch} views at once: {cost(lambda: detector.score_image(pixels), repeat)}")


if __name__ == "__main__":
    main()
