"""Measured costs, kept between starts in one file for each device."""

import json
import re
from pathlib import Path
from typing import Any

from tintype import logs
from tintype.engine import attention
from tintype.engine.attention import Way
from tintype.engine.scheduling.costs import CostsBrokenError, CostTable

log = logs.get("engine")


def describe(costs: CostTable) -> tuple[str, ...]:
    """What is known, a line for each model and shape: milliseconds of one evaluation by the lines in its batch."""
    found: dict[tuple[str, str], list[str]] = {}
    for cost in costs.rows():
        found.setdefault((cost.model, cost.shape), []).append(f"{cost.lines} lines {cost.seconds * 1000:.3g} ms")
    return tuple(f"{model} at {shape}: {', '.join(sizes)}" for (model, shape), sizes in sorted(found.items()))


def path(home: Path, device_label: str) -> Path:
    """Where the costs of a device are kept."""
    return home / "engine" / f"costs-{re.sub(r'[^a-z0-9]+', '-', device_label.lower()).strip('-')}.json"


def read(kept: Path, costs: CostTable) -> CostTable:
    """The table with what was kept of earlier starts; a file that cannot be read is measured anew."""
    try:
        costs.restore(json.loads(kept.read_text()))
    except FileNotFoundError:
        log.debug("no costs are known yet", path=str(kept))
    except (OSError, ValueError, CostsBrokenError) as error:
        log.warning("kept costs cannot be read, they are measured anew", path=str(kept), error=str(error))
    return costs


def read_way(kept: Path) -> Way | None:
    """The way of attention that was measured in an earlier start; None where it has to be measured anew."""
    try:
        read: dict[str, Any] = json.loads(kept.read_text())
        return attention.restore(read.get("attention", {}))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        log.warning("the kept way of attention cannot be read, it is measured anew", path=str(kept), error=str(error))
        return None


def write(kept: Path, costs: CostTable, way: Way) -> None:
    """Keep what is known, whole or not at all; a disk that refuses is no reason to stop."""
    partial = kept.with_suffix(".partial")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({**costs.dump(), "attention": way.dump()}))
        partial.replace(kept)
    except OSError as error:
        log.warning("costs cannot be kept", path=str(kept), error=str(error))
