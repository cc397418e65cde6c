"""Figures of `benchmarks.engine` for people and programs: a line each, a summary, a plot."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import torch

import tintype
from benchmarks.engine_traces import Timed


def percentile(values: Sequence[float], share: float) -> float:
    """The least of the values that `share` per cent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * share / 100) - 1, 0)]


def summary(runs: Sequence[Timed]) -> dict[str, float]:
    """Medians over the runs: pictures a second, and percentiles of what a request took in seconds."""
    return {
        "images_per_s": statistics.median(run.per_s() for run in runs),
        "cpu_s_per_image": statistics.median(run.cpu_s / len(run.latencies_s) for run in runs),
        "mean_s": statistics.median(statistics.fmean(run.latencies_s) for run in runs),
        **{
            f"p{share}_s": statistics.median(percentile(run.latencies_s, share) for run in runs)
            for share in (50, 95, 99)
        },
    }


def line(figure: Mapping[str, Any], goals: Mapping[str, float]) -> str:
    """One figure for the terminal."""
    goal = goals.get(figure["name"])
    text = f"{figure['name']}: {figure['ratio']:.2f}x"
    text += f" (goal {goal}x)" if goal else ""
    text += f", {figure['processor_ratio']:.2f}x by processor time" if figure["processor_ratio"] else ""
    text += f", pixels {figure['pixels_apart']} of 255 apart"
    if figure["short_p95_ratio"]:
        text += f", p95 of short {figure['short_p95_ratio']:.2f}x lower"
    for name, seen in figure["contestants"].items():
        text += f"\n    {name:14} {seen['images_per_s']:7.2f}/s  p50 {seen['p50_s']:6.2f} s  p95 {seen['p95_s']:6.2f} s"
    return text


def machine(label: str, dtype: torch.dtype) -> dict[str, Any]:
    """Where and with what this was measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": label,
        "dtype": str(dtype).removeprefix("torch."),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "tintype": tintype.__version__,
    }


def _processor() -> str:
    """Its name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
