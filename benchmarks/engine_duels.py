"""Two contestants and a trace in `benchmarks.engine`: both checked, both warmed up, then in turns."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import engine_report, engine_traces
from benchmarks.engine_traces import Asked, Contestant, Timed


@dataclass(frozen=True, kw_only=True)
class Duel:
    """A trace for two contestants: the first's ratio over the second's is the figure."""

    name: str
    asked: Sequence[Asked]
    clients: int
    first: Contestant
    second: Contestant


def fight(duel: Duel, rounds: int) -> dict[str, Any]:
    """What each did, and the medians of the ratios of runs that followed each other."""
    both = (duel.first, duel.second)
    apart = _apart(duel)
    for contestant in both:
        contestant.learn(duel.asked, clients=duel.clients)
    runs: dict[str, list[Timed]] = {contestant.name: [] for contestant in both}
    for _ in range(rounds):
        for contestant in (*both, *reversed(both)):
            runs[contestant.name].append(engine_traces.run(contestant, duel.asked, clients=duel.clients))
    first, second = runs.values()
    pairs = list(zip(first, second, strict=True))
    is_short = [one.is_short for one in duel.asked]
    is_mixed = any(is_short) and not all(is_short)
    tails = [_short_p95(its, is_short) / _short_p95(mine, is_short) for mine, its in pairs] if is_mixed else []
    ratios = [mine.per_s() / its.per_s() for mine, its in pairs]
    return {
        "name": duel.name,
        "load_average": os.getloadavg()[0],
        "is_uniform": len({(one.request.width, one.request.steps) for one in duel.asked}) == 1,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "processor_ratio": statistics.median(its.cpu_s / mine.cpu_s for mine, its in pairs) or None,
        "short_p95_ratio": statistics.median(tails) if tails else None,
        "pixels_apart": apart,
        "contestants": {name: engine_report.summary(timed) for name, timed in runs.items()},
    }


def _apart(duel: Duel) -> int:
    """How far, of 255, the two draw the first request apart."""
    request = duel.asked[0].request
    mine, its = (contestant.draw(request).astype(int) for contestant in (duel.first, duel.second))
    return int(np.abs(mine - its).max())


def _short_p95(timed: Timed, is_short: Sequence[bool]) -> float:
    taken = [seconds for seconds, short in zip(timed.latencies_s, is_short, strict=True) if short]
    return engine_report.percentile(taken, 95)
