"""Score the built-in model by looking at its pixels, on sentences that training never saw.

    python benchmarks/sketch_accuracy.py [--n 200] [--sheet sheet.png]

Prints a table and one line of JSON. Exits with 1 below what may ship: 90 % of colours, 80 % of
shapes and positions. The goals are 98 %, 95 % and 95 %.
"""

from __future__ import annotations

import argparse
import json
import queue
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.sketch import meaning, scoring, wording  # noqa: E402  (the root is no package)
from tintype import settings  # noqa: E402
from tintype.catalog import manifest as catalogue  # noqa: E402
from tintype.engine import job, runner  # noqa: E402
from tintype.providers import contract  # noqa: E402

FLOOR = {"colours": 90.0, "shapes": 80.0, "positions": 80.0}
GOAL = {"colours": 98.0, "shapes": 95.0, "positions": 95.0}
KINDS = ("colours", "shapes", "positions", "counts")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One sentence with its seed, its picture and how that scored."""

    asked: meaning.Figures
    picture: np.ndarray
    score: scoring.Score


def questions(count: int, seed: int) -> list[meaning.Figures]:
    """Give held-out meanings, all different, the same for the same seed."""
    rng = random.Random(seed)
    asked: dict[str, meaning.Figures] = {}
    while len(asked) < count:
        lot = meaning.draw_lots(rng, held_out=True)
        assert isinstance(lot, meaning.Figures)
        asked.setdefault(meaning.key(lot), lot)
    return list(asked.values())


def draw_all(
    folder: Path,
    asked: list[meaning.Figures],
    *,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    width: int = 128,
    height: int = 128,
) -> list[Case]:
    """Give every case, drawn by the product's engine as a worker would draw it; picture i has the seed `seed` + i."""
    manifest = catalogue.read(folder / "manifest.json")
    assert manifest.defaults is not None
    files = contract.ModelFiles(id=manifest.id, family=manifest.family, folder=str(folder), memory_bytes=0)
    cases: list[Case] = []
    with serving(torch.get_num_threads()) as engine:
        for index, figures in enumerate(asked):
            request = contract.GenerationRequest(
                id=str(index),
                task="text_to_image",
                model=files,
                prompt=wording.say(figures),
                negative_prompt="",
                width=width,
                height=height,
                seeds=(seed + index,),
                steps=steps or manifest.defaults.steps,
                guidance_scale=manifest.defaults.guidance_scale if guidance is None else guidance,
                sampler=manifest.defaults.sampler,
            )
            picture = draw(engine, request)
            cases.append(Case(asked=figures, picture=picture, score=scoring.score(picture, figures)))
    return cases


@contextmanager
def serving(threads: int) -> Iterator[runner.Runner]:
    """Give an engine on the CPU that works in a thread of its own and forgets what it measured."""
    with tempfile.TemporaryDirectory() as home:
        engine = runner.Runner(settings.Engine(device="cpu", threads=threads), Path(home))
        thread = threading.Thread(target=engine.serve, daemon=True)
        thread.start()
        yield engine
        engine.close()
        thread.join()


def draw(engine: runner.Runner, request: contract.GenerationRequest) -> np.ndarray:
    """Give the one picture of a request."""
    arrived: queue.Queue[job.Given] = queue.Queue()
    engine.submit(job.Job(request=request, give=arrived.put))
    pictures: list[np.ndarray] = []
    while not isinstance(item := arrived.get(), job.Ended):
        if isinstance(item, contract.Output):
            pictures.append(item.pixels)
    if item.error is not None:
        raise item.error
    (picture,) = pictures
    return picture


def run(options: argparse.Namespace) -> tuple[list[Case], float]:
    """Give every case and the seconds that one picture took on average."""
    asked = questions(options.n, options.seed)
    started = time.perf_counter()
    cases = draw_all(
        options.model,
        asked,
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
        width=options.width,
        height=options.height,
    )
    return cases, (time.perf_counter() - started) / len(asked)


def percentages(cases: list[Case]) -> dict[str, float]:
    """Give the share of what was asked that is right, per kind, and of pictures without any fault."""
    shares: dict[str, float] = {}
    for kind in KINDS:
        right = sum(getattr(case.score, kind)[0] for case in cases)
        asked = sum(getattr(case.score, kind)[1] for case in cases)
        shares[kind] = round(100 * right / max(1, asked), 1)
    shares["perfect"] = round(100 * sum(case.score.is_perfect for case in cases) / len(cases), 1)
    return shares


def write_sheet(cases: list[Case], path: Path) -> None:
    """Write all pictures with their sentences; a red caption marks a fault."""
    across, width, height = 10, cases[0].picture.shape[1], cases[0].picture.shape[0]
    cell_w, cell_h = max(width, 128) + 8, height + 44
    sheet = Image.new("RGB", (across * cell_w, -(-len(cases) // across) * cell_h), "white")
    pen = ImageDraw.Draw(sheet)
    for i, case in enumerate(cases):
        x, y = i % across * cell_w, i // across * cell_h
        sheet.paste(Image.fromarray(case.picture), (x + 4, y + 4))
        words = wording.say(case.asked).split()
        lines = [" ".join(words[k : k + 5]) for k in range(0, len(words), 5)]
        pen.text(
            (x + 4, y + height + 5),
            "\n".join(lines),
            fill="black" if case.score.is_perfect else "red",
            font_size=9,
        )
    sheet.save(path)


def main() -> int:
    """Run the benchmark and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200, help="how many sentences")
    parser.add_argument("--seed", type=int, default=0, help="chooses the sentences and the noise")
    parser.add_argument("--steps", type=int, help="steps of the sampler; the manifest's unless given")
    parser.add_argument("--guidance", type=float, help="guidance scale; the manifest's unless given")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", type=Path, default=ROOT / "tintype/catalog/builtin/sketch")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases, seconds = run(options)
    shares = percentages(cases)
    print(f"{'':12}{'measured':>10}{'goal':>8}{'floor':>8}")
    for kind in (*KINDS, "perfect"):
        goal, floor = GOAL.get(kind, ""), FLOOR.get(kind, "")
        print(f"{kind:12}{shares[kind]:>9}%{goal:>8}{floor:>8}")
    settings = {key: getattr(options, key) for key in ("n", "seed", "steps", "guidance", "width", "height")}
    print(json.dumps({**shares, "seconds_per_picture": round(seconds, 3), **settings}))
    if options.sheet:
        write_sheet(cases, options.sheet)
    return int(any(shares[kind] < floor for kind, floor in FLOOR.items()))


if __name__ == "__main__":
    sys.exit(main())
