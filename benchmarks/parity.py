"""Compare the engine with plain diffusers pipelines, case by case: `python -m benchmarks.parity [--write]`.

The cases are those of `tests/engine/parity`: tiny models with random weights, the same seed and sampler, float32 on the
CPU, each picture alone. Prints a Markdown table; `--write` puts it into docs/benchmarks/parity.md. Exits with 1 where a
difference is larger than what is promised.
"""

import argparse
import importlib
import platform
import sys
import tempfile
import time
import warnings
from pathlib import Path

import diffusers
import torch

from tests.engine.parity import harness
from tests.engine.parity.harness import Result

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks" / "parity.md"


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description="compare the engine with plain diffusers pipelines")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    results = compare_all()
    text = page(results)
    sys.stdout.write(text)
    if arguments.write:
        PAGE.write_text(text)
    sys.exit(any(is_apart(result) for result in results))


def compare_all() -> list[Result]:
    """Every case of every module of cases."""
    results: list[Result] = []
    for path in sorted((ROOT / "tests" / "engine" / "parity").glob("*_cases.py")):
        module = importlib.import_module(f"tests.engine.parity.{path.stem}")
        with tempfile.TemporaryDirectory() as folder:
            if hasattr(module, "write_models"):
                module.write_models(Path(folder))
            results.extend(harness.compare(case, Path(folder)) for case in module.cases())
    return results


def is_apart(result: Result) -> bool:
    """Whether the two differ by more than is promised."""
    return result.latents > harness.MOST_LATENTS or result.pixels > harness.MOST_PIXELS


def page(results: list[Result]) -> str:
    """The page of the documentation."""
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}, Python {platform.python_version()}"
    furthest = max(results, key=lambda result: result.latents)
    return f"""# What the engine draws, and what plain pipelines draw

`python -m benchmarks.parity --write`, {time.strftime("%Y-%m-%d")}, {versions}, CPU, float32, one thread.

Each row is one picture, drawn alone by the engine and by a pipeline of diffusers: the same tiny model with random
weights, seed, sampler, number of steps. The tests promise latents within {harness.MOST_LATENTS:g} and pixels within
{harness.MOST_PIXELS} of 255; of {len(results)} cases the furthest apart are {furthest.latents:.1e}. Where a mask keeps
pixels, the source's are put back into both. How batches change a picture is another matter, which
[engine.md](../engine.md) speaks of.

{harness.table(results)}"""


if __name__ == "__main__":
    main()
