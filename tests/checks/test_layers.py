"""The layers hold, and the check that says so really looks: a planted violation makes it fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [LINT, "--config", root / "pyproject.toml", "--no-cache"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "tintype", tmp_path / "tintype", ignore=shutil.ignore_patterns("builtin", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_layers_hold_in_an_untouched_copy(copy: Path):
    result = lint(copy)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("api/app.py", "import torch", "Machine learning stays in worker processes"),
        ("catalog/styles.py", "import transformers", "Machine learning stays in worker processes"),
        ("queue/jobs.py", "from tintype.generations import operations", "Layers: imports go down only"),
        ("engine/runner.py", "from tintype.db import session", "Makers of pictures see no database"),
        ("worker/run.py", "from tintype.engine import runner", "The engine is known through its entry point only"),
        ("worker/run.py", "from tintype.inference import onnx", "The engine is known through its entry point only"),
        ("comfy/__init__.py", "import torch", "Machine learning stays in worker processes"),
        ("comfy/__init__.py", "from tintype.db import session", "Makers of pictures see no database"),
        ("comfy/workflows/graphs.py", "import httpx", "Workflows are data and talk to no server"),
        ("worker/run.py", "import tintype.comfy", "ComfyUI is known through its entry point"),
    ],
)
def test_a_planted_violation_is_found(copy: Path, module: str, line: str, contract: str):
    path = copy / "tintype" / module
    path.write_text(path.read_text() + f"\n{line}\n")
    result = lint(copy)
    assert result.returncode == 1, result.stdout
    broken = [text for text in result.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken), result.stdout
