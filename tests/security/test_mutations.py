"""Thousands of damaged pictures and manifests: each is read or refused by name, none crashes, hangs or fills memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = int(os.environ.get("TINTYPE_TEST_MUTATIONS", "50000"))
ROOT = Path(__file__).parents[2]


def run(first: int, count: int, folder: Path, timeout_s: float) -> dict:
    """The summary of `count` mutations from `first` on, run in a process of their own."""
    last = folder / "last"
    command = [sys.executable, "-W", "ignore", "-m", "tests.security.mutating", str(first), str(count), str(last)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"ended with {done.returncode} at mutation {last.read_text()}: {done.stderr[-3000:]}"
    summary = json.loads(done.stdout)
    print(summary)
    assert sum(summary["outcomes"].values()) == count
    return summary


def assert_all_was_tried(summary: dict) -> None:
    outcomes = summary["outcomes"]
    assert {
        "png read",
        "jpeg read",
        "webp read",
        "manifest read",
        "manifest_invalid",
        "not_an_image",
    } <= outcomes.keys()
    assert "image_damaged" in outcomes
    assert summary["slowest_s"] < 10
    assert summary["peak_kib"] < 600_000


def test_two_thousand_mutations_are_read_or_refused(tmp_path):
    assert_all_was_tried(run(0, 2_000, tmp_path, timeout_s=120))


@pytest.mark.soak
def test_fifty_thousand_mutations_are_read_or_refused(tmp_path):
    assert_all_was_tried(run(1_000_000, COUNT, tmp_path, timeout_s=3_500))
